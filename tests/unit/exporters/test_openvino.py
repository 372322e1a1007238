"""OpenVINO's files do what the ONNX file does."""

import pytest
import torch
from torch import nn

pytest.importorskip("openvino", reason="pip install 'autokd[openvino]'")

from autokd.errors import ExportError
from autokd.exporters import OnnxNetwork, OpenVinoNetwork, export_onnx, export_openvino


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    student = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Hardswish(), nn.Flatten(), nn.Linear(144, 3))
    return export_onnx(student, tmp_path / "model.onnx", shape=(1, 8, 8))


@pytest.mark.parametrize("n", [1, 300])
def test_both_files_give_the_same_logits_for_any_number_of_pictures(model, n):
    path = export_openvino(model, model.with_suffix(".xml"))
    assert path.with_suffix(".bin").exists()
    images = torch.randint(0, 256, (n, 1, 8, 8)).to(torch.uint8)
    theirs = OnnxNetwork(model).predict(images)
    torch.testing.assert_close(OpenVinoNetwork(path).predict(images), theirs, atol=1e-5, rtol=1e-4)


def test_rubbish_is_an_export_error(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"rubbish")
    with pytest.raises(ExportError, match="exportable to OpenVINO"):
        export_openvino(tmp_path / "model.onnx", tmp_path / "model.xml")
    (tmp_path / "model.xml").write_text("rubbish")
    with pytest.raises(ExportError, match=r"OpenVINO must load model\.xml"):
        OpenVinoNetwork(tmp_path / "model.xml")
