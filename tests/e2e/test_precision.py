"""Students in INT8, from the command line to the file that is deployed."""

import json
import re

import numpy as np
import onnxruntime
import pytest
from sklearn.datasets import load_digits

from autokd.config import build_config
from autokd.data import load_test

OPTIONS = ["--train-limit", "500", "--epochs", "1", "--refit-epochs", "1", "--seeds", "2"]
SPACE = """
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from torch import nn

class Wide(ModelSpace):
    \"\"\"So wide that bytes are faster than floats, wherever the tests run.\"\"\"

    def __init__(self, channels, side, n_classes):
        super().__init__()
        n = channels * side * side
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(n, 2048), nn.ReLU(),
            LayerChoice([nn.Linear(2048, 2048), nn.Identity()], label="middle"),
            nn.ReLU(), nn.Linear(2048, n_classes),
        )

    def forward(self, views):
        return self.net(views)

def build(input_shape, n_classes):
    return Wide(input_shape[0], input_shape[1], n_classes)
"""


TEACHER = """
import torch
from sklearn.datasets import load_digits
from torch import nn

def nearest():
    pictures, labels = map(torch.from_numpy, load_digits(return_X_y=True))
    means = torch.stack([pictures[labels == c].mean(0) / 16 for c in range(10)]).float()
    layer = nn.Linear(64, 10)
    layer.weight.data, layer.bias.data = means, -(means**2).sum(1) / 2
    return nn.Sequential(nn.Flatten(), layer)
"""


def describe(values):
    return [(one["trial"], one["recipe"]["precision"]) for one in values["front"]]


@pytest.mark.slow
def test_precision_is_searched_scored_and_exported(run, tmp_path):
    (tmp_path / "wide.py").write_text(SPACE)
    code, out, err = run(
        tmp_path, "search", "--space", "wide.py:build", "--precision", "both", "--budget", 5,
        "--fix", "middle=0", "--study", "both", "--json", *OPTIONS,
    )  # fmt: skip
    assert code == 0, err
    values = json.loads(out)
    precisions = dict(describe(values))
    assert "int8" in precisions.values(), err
    assert values["baseline"]["recipe"]["precision"] == "fp32"
    fastest = values["front"][0]
    assert fastest["recipe"]["precision"] == "int8"
    assert fastest["latency_ms"] < fastest["fp32_latency_ms"]
    code, out, err = run(
        tmp_path, "export", "--pick", "fastest", "--out", "best", "--json", "--no-register"
    )
    assert code == 0, err
    figures = json.loads(out)
    session = onnxruntime.InferenceSession(tmp_path / "best/model.int8.onnx")
    digits = load_digits()
    pixels = (digits.images * (255 / 16)).round().astype(np.uint8)[:, None] / np.float32(255)
    (logits,) = session.run(None, {"image": pixels.astype(np.float32)})
    accuracy = float((logits.argmax(1) == digits.target).mean())
    assert accuracy == pytest.approx(fastest["test_accuracy"], abs=0.15)
    assert figures["latency_ms"] < figures["fp32_latency_ms"]


@pytest.mark.slow
def test_one_student_in_int8_is_what_was_scored(run, tmp_path):
    (tmp_path / "means.py").write_text(TEACHER)
    code, out, err = run(
        tmp_path, "distill", "--student", "mobile:width=0.5,depth=1", "--precision", "int8",
        "--teacher", "python:means:nearest", "--lr", 0.02,
        "--train-limit", 500, "--epochs", 6, "--workers", 1, "--no-register", "--study", "i8",
        "--json",
    )  # fmt: skip
    assert code == 0, err
    values = json.loads(out)
    student = values["student"]
    assert student["recipe"]["precision"] == "int8"
    assert student["fp32_latency_ms"] > 0
    assert "student/model.int8.onnx" in values["export"]["files"]
    session = onnxruntime.InferenceSession(tmp_path / "student/model.int8.onnx")
    test = load_test(build_config(flags={"train_limit": 500}))
    pixels = test.images.numpy().astype(np.float32) / 255
    (logits,) = session.run(None, {"image": pixels})
    accuracy = float((logits.argmax(1) == test.labels.numpy()).mean())
    assert accuracy > 0.2, "better than guessing"
    assert accuracy == pytest.approx(student["test_accuracy"], abs=1e-6)
    assert accuracy == pytest.approx(values["export"]["int8_test_accuracy"], abs=1e-6)


def test_a_data_set_that_is_too_small_to_calibrate_is_the_users_fault(invoke):
    code, output = invoke("search", "--precision", "int8", "--train-limit", 300, "--budget", 2)
    assert code == 2
    (line,) = [line for line in output.splitlines() if "calibrate" in line]
    assert re.search("must have 300 training pictures .* got 240; use --precision fp32", line)
