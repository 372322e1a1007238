import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from autokd.errors import MeasureError
from autokd.exporters import export_onnx, quantize_onnx
from autokd.latency import count_macs, measure_footprint, network_key
from autokd.spaces import build_space


def conv(kernel: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, kernel, padding=kernel // 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
        nn.Linear(256, 10),
    )  # fmt: skip


def key_of(network, tmp_path):
    return network_key(export_onnx(network, tmp_path / "n.onnx", shape=(1, 8, 8)))


def test_the_key_does_not_depend_on_the_weights(tmp_path):
    assert key_of(conv(seed=0), tmp_path) == key_of(conv(seed=1), tmp_path)


def test_the_key_depends_on_the_structure(tmp_path):
    keys = {
        key_of(network, tmp_path) for network in (conv(3), conv(5), nn.Sequential(*conv(3)[:4]))
    }
    assert len(keys) == 3


def test_what_the_pictures_are_normalised_by_is_not_the_networks(tmp_path):
    def scaled(mean, *, factor=1.0):
        return Scaled(torch.tensor([[[mean]]]), factor=factor)

    keys = [key_of(one, tmp_path) for one in (scaled(0.2), scaled(0.3), scaled(0.2, factor=0.5))]
    assert keys[0] == keys[1] != keys[2]


class Scaled(nn.Module):
    def __init__(self, mean, *, factor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.inner, self.factor = conv(), factor

    def forward(self, pictures):
        return self.factor * self.inner((pictures - self.mean) / (2 * self.mean))


def test_samples_that_build_the_same_network_have_the_same_key(tmp_path):
    space = build_space("hub:ProxylessNAS", recipe="default", input_shape=(3, 32, 32), n_classes=4)
    depth = next(d for d in space.dimensions if "depth" in d.label)
    shallow = {depth.label: min(depth.choices)}
    shown = repr(space.freeze(shallow)[0])
    unused = next(
        d for d in space.dimensions
        if d.label.startswith(depth.label.split("_")[0].replace("depth", "")) and d is not depth
        and shown == repr(space.freeze({**shallow, d.label: d.choices[-1]})[0])
    )  # fmt: skip
    keys = [
        key_of_32(space.freeze(sample)[0], tmp_path)
        for sample in (shallow, {**shallow, unused.label: unused.choices[-1]})
    ]
    assert keys[0] == keys[1]


def key_of_32(network, tmp_path):
    return network_key(export_onnx(network, tmp_path / "n.onnx", shape=(3, 32, 32)))


def test_multiply_accumulates_are_counted_by_hand():
    assert count_macs(conv(3), shape=(1, 8, 8)) == 64 * 9 * 4 + 256 * 10


def test_the_footprint_has_parameters_and_bytes(tmp_path):
    model = export_onnx(conv(), tmp_path / "n.onnx", shape=(1, 8, 8))
    footprint = measure_footprint(conv(), shape=(1, 8, 8), model=model)
    assert footprint.n_params == 4 * 9 + 4 + 8 + 2570
    assert footprint.size_bytes == model.stat().st_size


def test_a_file_that_is_no_network_has_no_key(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"rubbish")
    with pytest.raises(MeasureError, match=r"x\.onnx"):
        network_key(tmp_path / "x.onnx")


def test_the_key_of_a_quantized_network_does_not_depend_on_what_it_learnt(tmp_path):
    def key(seed, pixel):
        pictures = torch.full((4, 1, 8, 8), pixel, dtype=torch.uint8)
        model = export_onnx(conv(seed=seed), tmp_path / "n.onnx", shape=(1, 8, 8))
        return network_key(quantize_onnx(model, tmp_path / "q.onnx", pictures=pictures))

    assert key(0, 100) == key(1, 200)
    assert key(0, 100) != key_of(conv(), tmp_path)


def quantized(path, *, scale: float):
    """A product of a quantized matrix, as QDQ writes it."""
    inputs = [
        numpy_helper.from_array(np.full((4, 4), int(scale * 100), np.int8), "w"),
        numpy_helper.from_array(np.array(scale, np.float32), "scale"),
        numpy_helper.from_array(np.array(0, np.int8), "zero"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["f"]),
        helper.make_node("MatMul", ["x", "f"], ["y"]),
    ]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4])] for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", *ends, inputs)
    onnx.save(helper.make_model(graph, ir_version=8), path)
    return path


def test_the_scales_of_a_quantized_network_are_not_its_structure(tmp_path):
    one, other = (quantized(tmp_path / f"{s}.onnx", scale=s) for s in (0.5, 0.25))
    assert network_key(one) == network_key(other)


def test_a_network_whose_weights_lie_in_another_file_has_a_key(tmp_path):
    inside = export_onnx(conv(), tmp_path / "inside.onnx", shape=(1, 8, 8))
    outside = tmp_path / "there/outside.onnx"
    outside.parent.mkdir()
    onnx.save(
        onnx.load(inside), outside, save_as_external_data=True, location="w", size_threshold=0
    )
    assert len(network_key(outside)) == 64
