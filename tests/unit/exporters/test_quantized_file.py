"""The INT8 file holds integers, runs in onnxruntime and computes what the student does."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from autokd.distillation import Student, build_quantized_student
from autokd.errors import ExportError
from autokd.exporters import OnnxNetwork, export_quantized, safe_weight_bits

SHAPE = (3, 8, 8)


class Mobile(nn.Module):
    """A residual inverted bottleneck with squeeze and excite, ReLU6 and hard-swish."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace=True)
        )
        self.body = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.Hardswish()
        )
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Hardsigmoid())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))

    def forward(self, pictures):
        maps = self.stem(pictures)
        more = self.body(maps)
        return self.head(maps + more * self.gate(more))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, pictures):
        tokens = self.patches(pictures).flatten(2).transpose(1, 2)
        return self.head(self.layer(tokens).mean(1))


def write(network, path, *, n=40):
    torch.manual_seed(0)
    student = Student(network, mean=[0.4] * 3, std=[0.3] * 3)
    pictures = torch.randint(0, 256, (n, *SHAPE), dtype=torch.uint8)
    for _ in range(5):
        student.train()(pictures.float() / 255)
    student.eval()
    rounded = build_quantized_student(
        student, pictures[:2].float() / 255, n_steps=1, weight_bits=safe_weight_bits()
    )
    rounded.observe(pictures.float() / 255)
    settled = rounded.settle()
    export_quantized(settled, path, shape=SHAPE, metadata={"who": "me"})
    return student, settled, pictures


def optimised_kinds(path) -> list[str]:
    """The operations that onnxruntime runs in the end."""
    options, found = onnxruntime.SessionOptions(), path.with_suffix(".optimised.onnx")
    options.optimized_model_filepath, options.log_severity_level = str(found), 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(found).graph.node]


@pytest.mark.parametrize("network", [Mobile, Tokens])
def test_the_file_computes_what_the_rounded_student_does(network, tmp_path):
    student, settled, pictures = write(network(), tmp_path / "model.onnx")
    found = OnnxNetwork(tmp_path / "model.onnx", threads=1).predict(pictures)
    with torch.no_grad():
        rounded, exact = settled(pictures.float() / 255), student(pictures.float() / 255)
    size = exact.abs().max()
    assert (found - rounded).abs().max() < 0.03 * size
    assert 0 < (found - exact).abs().max() < 0.1 * size


def test_the_runtime_finds_an_integer_kernel_for_each_layer(tmp_path):
    write(Mobile(), tmp_path / "model.onnx")
    kinds = optimised_kinds(tmp_path / "model.onnx")
    assert kinds.count("QLinearConv") == 3
    assert "Conv" not in kinds
    assert {"QLinearAdd", "QLinearMul", "QLinearGlobalAveragePool", "QGemm"} <= set(kinds)
    assert "Clip" not in kinds  # ReLU6 is part of the rounding


def test_linear_layers_on_tokens_are_multiplied_as_integers(tmp_path):
    write(Tokens(), tmp_path / "model.onnx")
    kinds = optimised_kinds(tmp_path / "model.onnx")
    n_integer = sum(kind in ("MatMulIntegerToFloat", "QGemm", "QLinearMatMul") for kind in kinds)
    assert n_integer == 5  # queries with keys and values, their output, two of the MLP, the head


def test_weights_are_bytes_and_biases_integers_of_32_bits(tmp_path):
    write(Mobile(), tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    values = [numpy_helper.to_array(one) for one in model.graph.initializer]
    assert sum(one.dtype == np.int8 and one.ndim > 1 for one in values) == 4
    assert sum(one.dtype == np.int32 and one.any() for one in values) == 4
    assert not any(one.dtype == np.float32 and one.ndim > 1 and one.size > 3 for one in values)
    assert {one.key: one.value for one in model.metadata_props} == {"who": "me"}


def test_a_float_network_is_refused(tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    with pytest.raises(ExportError, match="must have quantized layers to be written as INT8"):
        export_quantized(network, tmp_path / "model.onnx", shape=SHAPE)


def test_what_is_safe_here_is_seven_or_eight_bits():
    assert safe_weight_bits() in (7, 8)
