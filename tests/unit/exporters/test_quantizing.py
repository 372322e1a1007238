import onnx
import pytest
import torch
from torch import nn

from autokd.errors import ExportError
from autokd.exporters import (
    OnnxNetwork,
    Quantizer,
    export_onnx,
    onnx_file,
    quantize_onnx,
    quantizing,
    safe_weight_bits,
)

SHAPE = (1, 8, 8)


def build_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.Hardswish(), nn.Flatten(), nn.Linear(128, 3),
    )  # fmt: skip


def draw(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, *SHAPE), generator=generator).to(torch.uint8)


@pytest.fixture
def model(tmp_path):
    network = build_network()
    with torch.no_grad():
        network.train()(draw(64).float() / 255)  # statistics for its BatchNorm
    return export_onnx(network, tmp_path / "m.onnx", shape=SHAPE, metadata={"classes": "abc"})


@pytest.fixture
def quantized(model, tmp_path):
    return quantize_onnx(model, tmp_path / "q.onnx", pictures=draw(64))


def count(path, kind):
    return sum(node.op_type == kind for node in onnx.load(path).graph.node)


def test_it_says_almost_what_the_float_network_says(model, quantized):
    pictures = draw(200, seed=1)
    ours, theirs = (OnnxNetwork(one).predict(pictures) for one in (quantized, model))
    assert float((ours - theirs).square().mean() / theirs.var()) < 0.01
    assert not torch.equal(ours, theirs)


def test_weights_are_bytes_and_batchnorm_is_gone(quantized):
    weights = [one for one in onnx.load(quantized).graph.initializer if len(one.dims) > 1]
    assert {one.data_type for one in weights} == {onnx.TensorProto.INT8}
    assert count(quantized, "BatchNormalization") == 0
    assert count(quantized, "QuantizeLinear") > 0


def test_the_batch_stays_free_and_the_metadata_too(quantized):
    assert OnnxNetwork(quantized).predict(draw(7)).shape == (7, 3)
    metadata = {one.key: one.value for one in onnx.load(quantized).metadata_props}
    assert metadata == {"classes": "abc"}


def test_a_layer_can_stay_in_float(model, tmp_path):
    with Quantizer(model, pictures=draw(32)) as quantizer:
        assert len(quantizer.layers) == 3
        whole = quantizer.write(tmp_path / "whole.onnx")
        partly = quantizer.write(tmp_path / "partly.onnx", float_layers=quantizer.layers[:1])
        one = quantizer.write(tmp_path / "one.onnx", only=quantizer.layers[:1])

    def n_in_float(path):
        kinds = [tensor.data_type for tensor in onnx.load(path).graph.initializer
                 if len(tensor.dims) > 1]  # fmt: skip
        return kinds.count(onnx.TensorProto.FLOAT)

    assert [n_in_float(path) for path in (whole, partly, one)] == [0, 1, 2]


def test_written_twice_it_is_the_same(model, tmp_path):
    with Quantizer(model, pictures=draw(32)) as quantizer:
        files = [quantizer.write(tmp_path / f"{n}.onnx") for n in range(2)]
    pictures = draw(50, seed=2)
    first, second = (OnnxNetwork(file).predict(pictures) for file in files)
    assert torch.equal(first, second)


@pytest.mark.skipif(not quantizing._KEEPS_RANGES, reason="onnxruntime before 1.32 keeps no ranges")
def test_a_runtime_that_keeps_no_ranges_writes_the_same_file(model, tmp_path, monkeypatch):
    quantize_onnx(model, tmp_path / "kept.onnx", pictures=draw(64))
    monkeypatch.setattr(quantizing, "_KEEPS_RANGES", False)
    quantize_onnx(model, tmp_path / "anew.onnx", pictures=draw(64))
    assert (tmp_path / "anew.onnx").read_bytes() == (tmp_path / "kept.onnx").read_bytes()


def test_without_a_picture_there_are_no_ranges(model, tmp_path):
    with pytest.raises(ExportError, match="`pictures` must hold one"):
        quantize_onnx(model, tmp_path / "q.onnx", pictures=draw(0))


def test_what_is_no_network_is_refused(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"rubbish")
    with pytest.raises(ExportError, match=r"ONNX|quantizable"):
        quantize_onnx(tmp_path / "m.onnx", tmp_path / "q.onnx", pictures=draw(4))


def test_weights_have_as_many_bits_as_the_processor_can_multiply(quantized):
    weights = [onnx.numpy_helper.to_array(one) for one in onnx.load(quantized).graph.initializer
               if len(one.dims) > 1]  # fmt: skip
    largest = max(abs(one.astype(int)).max() for one in weights)
    assert largest <= 64 if safe_weight_bits() == 7 else largest > 64


def is_in_whole_numbers(network):
    try:
        options = network._session.get_session_options()
        return options.get_session_config_entry("session.disable_quant_qdq") != "1"
    except RuntimeError:  # there is no such entry
        return True


@pytest.mark.parametrize("own_bits", [7, 8])
def test_a_file_for_another_processor_is_computed_in_float(own_bits, model, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "safe_weight_bits", lambda: own_bits)
    found = {}
    for bits in (7, 8):
        path = tmp_path / f"{bits}.onnx"
        quantize_onnx(model, path, pictures=draw(64), weight_bits=bits)
        found[bits] = is_in_whole_numbers(OnnxNetwork(path))
    assert found == {7: True, 8: own_bits == 8}
    assert is_in_whole_numbers(OnnxNetwork(model))


def test_whites_are_summed_up_right_whatever_the_processor(tmp_path):
    network = nn.Sequential(nn.Conv2d(1, 8, 3, bias=False), nn.Flatten(), nn.Linear(288, 2))
    nn.init.ones_(network[0].weight)  # 255 * 127, nine times: two of them do not fit in 16 bits
    nn.init.constant_(network[2].weight, 1 / 288)
    model = export_onnx(network, tmp_path / "m.onnx", shape=SHAPE)
    white = torch.full((4, *SHAPE), 255, dtype=torch.uint8)
    file = quantize_onnx(model, tmp_path / "8.onnx", pictures=white, weight_bits=8)
    ours, theirs = (OnnxNetwork(one).predict(white) for one in (file, model))
    assert torch.allclose(ours, theirs, rtol=0.02)
