"""Every target keeps the contract."""

import importlib.util
import sys

import pytest

from autokd.errors import ConfigError
from autokd.exporters import export_onnx, export_program
from autokd.latency import (
    CachedTarget,
    CommandTarget,
    Form,
    StopwatchTarget,
    StrictTarget,
    load_table,
)
from autokd.latency.runtimes import check_runtime
from autokd.testing import FakeTarget, TargetContract

SHORT = Form(least_s=0.05, most_s=0.5, precision=0.1)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache of the session's own, so that the reference is timed once."""
    monkeypatch.setenv("AUTOKD_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


class TestFakeTarget(TargetContract):
    def build_target(self, folder):  # noqa: ARG002 - needs none
        return FakeTarget()


class TestStopwatchTarget(TargetContract):
    def build_target(self, folder):  # noqa: ARG002 - needs none
        return StopwatchTarget(form=SHORT)


class TestCachedTarget(TargetContract):
    def build_target(self, folder):
        return CachedTarget(FakeTarget(), folder=folder / "cache")


class TestAskedTarget(TargetContract):
    def build_target(self, folder):
        return CachedTarget(FakeTarget(), folder=folder / "cache", is_asked=True)


@pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="autokd[openvino] is absent")
class TestOpenVinoTarget(TargetContract):
    def build_target(self, folder):  # noqa: ARG002 - needs none
        return StopwatchTarget(runtime="openvino", form=SHORT)


def why_not(runtime):
    """Why a runtime cannot be tried here; empty where it can."""
    try:
        check_runtime(runtime)
    except ConfigError as error:
        return str(error)
    return ""


class WithPrograms:
    """Puts a program of torch.export beside each network of the contract."""

    @pytest.fixture(autouse=True)
    def programs(self, monkeypatch):
        def export(student, path, *, shape):
            export_program(student, path.with_suffix(".pt2"), shape=shape)
            return export_onnx(student, path, shape=shape)

        monkeypatch.setattr("autokd.testing.export_onnx", export)


class TestTorchTarget(WithPrograms, TargetContract):
    def build_target(self, folder):  # noqa: ARG002 - needs none
        return StopwatchTarget(runtime="torch", form=SHORT)


@pytest.mark.slow
@pytest.mark.skipif(bool(why_not("torch:compiled")), reason=why_not("torch:compiled"))
class TestCompiledTorchTarget(WithPrograms, TargetContract):
    def build_target(self, folder):  # noqa: ARG002 - needs none
        return StopwatchTarget(runtime="torch:compiled", form=SHORT)


@pytest.mark.slow
@pytest.mark.skipif(bool(why_not("tflite")), reason=why_not("tflite"))
class TestTfliteTarget(TargetContract):
    def build_target(self, folder):  # noqa: ARG002 - needs none
        return StopwatchTarget(runtime="tflite", form=SHORT)


PROGRAM = """
import json, sys, time
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
picture = {"image": numpy.zeros((1, 1, 8, 8), numpy.float32)}
times = []
for _ in range(100):
    start = time.perf_counter()
    session.run(None, picture)
    times.append(1e3 * (time.perf_counter() - start))
print(json.dumps({"times_ms": times}))
"""


class TestCommandTarget(TargetContract):
    def build_target(self, folder):
        program = folder / "program.py"
        program.write_text(PROGRAM)
        return CommandTarget(command=f"{sys.executable} {program} {{model}}")


class TestStrictTarget(TargetContract):
    def build_target(self, folder):  # noqa: ARG002 - needs none
        return StrictTarget(FakeTarget())


class TestTableTarget(TargetContract):
    def build_target(self, folder):
        (folder / "table.json").write_text('{"none": 1}')
        return load_table(folder / "table.json", target=FakeTarget())
