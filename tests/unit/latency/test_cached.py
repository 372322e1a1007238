import dataclasses
import importlib.metadata

import pytest
from torch import nn

from autokd.exporters import export_onnx
from autokd.latency import (
    CachedTarget,
    StopwatchTarget,
    device_fingerprint,
    library_versions,
    runtime_version,
)
from autokd.testing import FakeTarget


def test_the_same_network_is_measured_once(tmp_path):
    inner = FakeTarget()
    target = CachedTarget(inner, folder=tmp_path / "cache")
    for seed in range(3):
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        model = export_onnx(network, tmp_path / f"{seed}.onnx", shape=(1, 8, 8))
        target.measure(model)
    assert len(inner.measured) == 1


class Noisy(FakeTarget):
    """Knows a latency as well as it is told to."""

    def __init__(self, *widths):
        super().__init__()
        self.widths = list(widths)

    def measure(self, model):
        width = self.widths.pop(0)
        ends = {"ci95_low_ms": 1.0 - width, "ci95_high_ms": 1.0 + width}
        return dataclasses.replace(super().measure(model), median_ms=1.0, **ends)


def test_what_was_found_on_a_noisy_machine_is_measured_again_once_a_session(tmp_path):
    model = export_onnx(nn.Flatten(), tmp_path / "m.onnx", shape=(1, 8, 8))
    found = []
    sessions = (0.5, [0.5]), (0.5, [0.75]), (0.25, [0.25]), (0.01, [0.01]), (0.01, [])
    for wanted, widths in sessions:
        inner = Noisy(*widths)
        target = CachedTarget(inner, folder=tmp_path / "cache", precision=0.02)
        found = [target.measure(model).precision for _ in range(2)]
        assert found == pytest.approx([wanted] * 2), "the narrower one is kept"
        assert not inner.widths
    loose = CachedTarget(Noisy(), folder=tmp_path / "cache")
    assert loose.measure(model).precision == pytest.approx(0.01)


def test_a_damaged_cache_file_is_measured_again(tmp_path):
    inner = FakeTarget()
    target = CachedTarget(inner, folder=tmp_path / "cache")
    model = export_onnx(nn.Flatten(), tmp_path / "m.onnx", shape=(1, 8, 8))
    first = target.measure(model)
    next((tmp_path / "cache").iterdir()).write_text("{")
    assert target.measure(model) == first
    assert len(inner.measured) == 2


def test_networks_timed_together_are_remembered_together(tmp_path):
    inner = FakeTarget()
    target = CachedTarget(inner, folder=tmp_path / "cache")
    one, other = (
        export_onnx(
            nn.Sequential(nn.Flatten(), nn.Linear(64, n)), tmp_path / f"{n}.onnx", shape=(1, 8, 8)
        )
        for n in (10, 20)
    )
    alone = target.measure(one)
    together = target.measure_together([one, other])
    assert together == target.measure_together([one, other])
    assert together[0] == alone
    assert inner.measured == ["10.onnx", "10.onnx", "20.onnx"]


def test_a_file_that_is_timed_in_the_place_of_the_network_is_part_of_what_is_known(tmp_path):
    inner = FakeTarget()
    target = CachedTarget(inner, folder=tmp_path / "cache", beside=".tflite")
    model = export_onnx(nn.Flatten(), tmp_path / "m.onnx", shape=(1, 8, 8))
    beside = tmp_path / "m.tflite"
    for content in (None, b"float", b"float", b"int8", b"float"):
        if content is not None:
            beside.write_bytes(content)
        target.measure(model)
    assert len(inner.measured) == 3
    CachedTarget(inner, folder=tmp_path / "cache").measure(model)
    assert len(inner.measured) == 3, "where it is not timed, it does not matter"


def test_a_version_is_that_of_all_that_makes_what_is_timed(monkeypatch):
    installed = {"ai-edge-litert": "2.0", "onnx2tf": "1.28", "onnxruntime": "1.22"}

    def version(package):
        if package not in installed:
            raise importlib.metadata.PackageNotFoundError(package)
        return installed[package]

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert runtime_version("tflite") == "2.0 onnx2tf 1.28"
    installed["tensorflow"] = "2.19"
    assert runtime_version("tflite") == "2.0 onnx2tf 1.28 tensorflow 2.19"
    assert runtime_version("onnxruntime:cuda") == "1.22"
    installed["tensorrt-cu12"] = "10.3"
    assert runtime_version("onnxruntime:tensorrt") == "1.22 tensorrt 10.3"
    assert runtime_version("onnxruntime:cuda") == "1.22"
    del installed["ai-edge-litert"]
    assert runtime_version("tflite") == ""


class Board(FakeTarget):
    """A program behind which another board may stand; only its latencies tell."""

    def __init__(self, device):
        super().__init__()
        self.device = device

    def __str__(self):
        return "command"

    def measure(self, model):
        return dataclasses.replace(super().measure(model), device=self.device)


def test_a_device_that_only_a_latency_tells_is_asked_once_a_session(tmp_path):
    model, other = (
        export_onnx(
            nn.Sequential(nn.Flatten(), nn.Linear(64, n)), tmp_path / f"{n}.onnx", shape=(1, 8, 8)
        )
        for n in (10, 20)
    )
    devices = "old", "old", "new", "new"
    found, n_measured = [], []
    for device in devices:
        board = Board(device)
        target = CachedTarget(board, folder=tmp_path / "cache", is_asked=True)
        found += [target.measure(model).device, target.measure(other).device]
        n_measured.append(len(board.measured))
    assert found == ["old"] * 4 + ["new"] * 4
    assert n_measured == [2, 1, 2, 1], "what an asked device has measured before is kept"


def test_another_target_does_not_share_what_was_measured():
    assert str(StopwatchTarget()) != str(StopwatchTarget(batch=4))
    assert str(StopwatchTarget()) != str(StopwatchTarget(threads=2))
    assert device_fingerprint() in str(StopwatchTarget())


def test_the_versions_are_those_that_are_installed():
    import torch

    assert library_versions()["torch"] == torch.__version__.split("+")[0]
