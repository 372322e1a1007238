import time
from contextlib import contextmanager
from itertools import groupby

import pytest
from torch import nn

from autokd.errors import MeasureError
from autokd.exporters import export_onnx
from autokd.latency import OnnxRuntimeTarget, onnxruntime_target, stopwatch


class Quiet:
    """Notes when it was entered and left."""

    def __init__(self):
        self.times = []

    @contextmanager
    def __call__(self):
        self.times.append(time.monotonic())
        yield
        self.times.append(time.monotonic())


def test_others_stand_still_only_while_the_clock_runs(tmp_path):
    model = export_onnx(nn.Flatten(), tmp_path / "model.onnx", shape=(1, 8, 8))
    quiet = Quiet()
    start = time.monotonic()
    latency = OnnxRuntimeTarget(seconds=0.05, quiet=quiet).measure(model)
    entered, left = quiet.times
    assert latency.median_ms > 0
    assert start < entered < left
    assert left - entered >= 0.05


def test_nobody_stands_still_for_a_file_that_does_not_load(tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"no network")
    quiet = Quiet()
    with pytest.raises(MeasureError, match=r"must run model\.onnx"):
        OnnxRuntimeTarget(quiet=quiet).measure(model)
    assert quiet.times == []


def test_a_file_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(onnxruntime_target, "_TIMEOUT_S", 0.01)
    model = export_onnx(nn.Flatten(), tmp_path / "model.onnx", shape=(1, 8, 8))
    with pytest.raises(MeasureError, match="within 0 s, got no result"):
        OnnxRuntimeTarget().measure(model)


def test_networks_take_turns_between_two_looks_at_the_reference():
    ran = []
    rows = stopwatch.measure(
        [lambda: ran.append("a"), lambda: ran.append("b")],
        lambda: ran.append("reference"),
        seconds=0.05,
    )
    turns = [name for name, _ in groupby(ran)]
    assert turns[:4] == ["reference", "a", "b", "reference"]  # warming up, then the first look
    assert turns[-1] == "reference"
    assert turns[4:-1] == ["a", "b"] * (len(turns[4:-1]) // 2)
    assert len(turns) > 7
    assert min(row["n_runs"] for row in rows) >= 100


def test_what_is_quiet_does_not_make_another_target():
    assert OnnxRuntimeTarget(quiet=Quiet()) == OnnxRuntimeTarget()
    assert str(OnnxRuntimeTarget(quiet=Quiet())) == str(OnnxRuntimeTarget())
