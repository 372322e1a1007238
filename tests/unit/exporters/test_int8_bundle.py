"""The folder of a student that is deployed in INT8."""

import dataclasses
import json

import onnx
import pytest
import torch

from autokd.errors import ExportError
from autokd.exporters import (
    OnnxNetwork,
    QuantizedFile,
    Quantizer,
    export_bundle,
    export_onnx,
    quantize_onnx,
)
from autokd.testing import FakeTarget
from tests.unit.exporters.one_student import CARD, make_student, make_test


@pytest.fixture
def quantized(tmp_path):
    model = export_onnx(make_student(), tmp_path / "own.onnx", shape=(1, 8, 8))
    return quantize_onnx(model, tmp_path / "own.int8.onnx", pictures=make_test().images)


def export_int8(path, out, *, accuracy=None, target=None, is_aware=False):
    test = make_test()
    right = OnnxNetwork(path).predict(test.images).argmax(1) == test.labels
    int8 = QuantizedFile(
        path=path,
        test_accuracy=float(right.double().mean()) if accuracy is None else accuracy,
        is_aware=is_aware,
    )
    return export_bundle(
        make_student(), out, data=CARD, test=test, target=target or FakeTarget(),
        card={"study": "s"}, int8=int8,
    )  # fmt: skip


def test_a_student_in_int8_comes_in_both_precisions(quantized, tmp_path):
    bundle = export_int8(quantized, tmp_path / "out")
    names = {path.name for path in bundle.files}
    assert {"model.onnx", "model.int8.onnx"} <= names
    images = make_test().images
    ours, theirs = (
        OnnxNetwork(path).predict(images) for path in (tmp_path / "out/model.int8.onnx", quantized)
    )
    assert torch.equal(ours, theirs)
    card = json.loads((tmp_path / "out/card.json").read_text())
    assert card["int8_test_accuracy"] == bundle.int8_test_accuracy
    fake = FakeTarget()
    assert bundle.latency_ms == fake.measure(tmp_path / "out/model.int8.onnx").median_ms
    assert bundle.fp32_latency_ms == fake.measure(tmp_path / "out/model.onnx").median_ms
    metadata = onnx.load(tmp_path / "out/model.int8.onnx").metadata_props
    assert json.loads({p.key: p.value for p in metadata}["classes"]) == ["a", "b", "c"]
    text = (tmp_path / "out/card.md").read_text()
    assert 'InferenceSession("model.int8.onnx")' in text
    rows = [line for line in text.splitlines() if line.startswith("| test accuracy")]
    assert rows[0].startswith("| test accuracy in INT8, onnxruntime |"), "the file that is run"
    assert all("of `model.onnx` in FP32" in row for row in rows[1:3])


@pytest.mark.parametrize("is_aware", [False, True])
def test_the_card_says_how_an_int8_file_came_about(tmp_path, is_aware):
    model = export_onnx(make_student(), tmp_path / "own.onnx", shape=(1, 8, 8))
    path = tmp_path / "own.int8.onnx"
    with Quantizer(model, pictures=make_test().images) as quantizer:
        first, last = quantizer.layers
        for layers in ((), (last,)):
            quantizer.write(path, float_layers=layers)
            bundle = export_int8(path, tmp_path / "out", is_aware=is_aware)
            assert (bundle.card["is_aware"], bundle.card["float_layers"]) == (is_aware, layers)
    how = "trained on to bear it" if is_aware else "static, from training pictures"
    text = (tmp_path / "out/card.md").read_text()
    assert f"| how it was quantized | {how}, {last} left in FP32 |" in text
    assert first != last


@pytest.mark.parametrize(("int8_ms", "is_vain"), [(0.5, False), (1.0, True), (1.5, True)])
def test_the_card_says_where_int8_is_no_faster(quantized, tmp_path, int8_ms, is_vain):
    class Timed(FakeTarget):
        def measure(self, model):
            ms = int8_ms if "int8" in model.name else 1.0
            return dataclasses.replace(super().measure(model), median_ms=ms)

    bundle = export_int8(quantized, tmp_path / "out", target=Timed())
    line = f"model.int8.onnx takes {int8_ms:.4g} ms on fake, no less than model.onnx with 1 ms"
    assert (line in bundle.card.get("vain", "")) == is_vain
    assert (f"Beware: {line}" in (tmp_path / "out/card.md").read_text()) == is_vain


def test_an_int8_file_that_is_not_as_good_as_the_table_is_not_written(quantized, tmp_path):
    with pytest.raises(ExportError, match=r"model\.int8\.onnx must be as accurate as in the table"):
        export_int8(quantized, tmp_path / "out", accuracy=0.99)
    assert list((tmp_path / "out").iterdir()) == []
