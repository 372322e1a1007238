"""The CPU of this machine, with onnxruntime."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np
import onnx
from filelock import FileLock
from onnx import TensorProto, helper, numpy_helper

from autokd.errors import MeasureError
from autokd.latency.device import device_fingerprint
from autokd.types import Latency

__all__ = ["OnnxRuntimeTarget"]

_STOPWATCH = Path(__file__).with_name("stopwatch.py")
_LOCK = Path(tempfile.gettempdir()) / "autokd-latency.lock"
_READY = "ready\n"  # printed by the stopwatch, which waits for a line then
_TIMEOUT_S = 300.0


@final
@dataclass(frozen=True, kw_only=True)
class OnnxRuntimeTarget:
    """Times an ONNX file in a fresh process with pinned threads, alone on this machine.

    Attributes:
        threads: Of the runtime, and cores that it is pinned to.
        batch: Pictures per run.
        seconds: A file is timed for at the least, warm-up not counted; never fewer than 100
            runs.
        quiet: Entered while the clock runs, not while the process starts and loads the file;
            whoever trains on this machine stands still within.

    References:
        Reddi et al., "MLPerf Inference Benchmark", 2019 (single stream).
        https://arxiv.org/abs/1911.02549
    """

    threads: int = 1
    batch: int = 1
    seconds: float = 0.2
    quiet: Callable[[], AbstractContextManager[None]] = field(
        default=nullcontext, repr=False, compare=False
    )

    def __str__(self) -> str:
        """What makes two measurements comparable."""
        versions = f"onnxruntime {_runtime_version()}"
        return f"{versions}, {self.threads} threads, batch {self.batch}, {device_fingerprint()}"

    def measure(self, model: Path) -> Latency:
        """Time the exported file.

        Args:
            model: An ONNX file with one input whose first dimension is the batch.

        Returns:
            Median and spread; raises what `measure_together` raises.
        """
        return self.measure_together([model])[0]

    def measure_together(self, models: Sequence[Path]) -> list[Latency]:
        """Time several exported files in one process, by turns.

        Args:
            models: ONNX files as for `measure`.

        Returns:
            Median and spread of each; the ratio of two of them holds although the machine was
            in a faster or slower state than at another time.

        Raises:
            MeasureError: The runtime cannot load or run one of them, or it takes minutes.
        """
        names = ", ".join(model.name for model in models)
        with tempfile.TemporaryDirectory() as folder:
            reference = _write_reference(Path(folder))
            command = [sys.executable, str(_STOPWATCH), *map(str, models)]
            command += ["--reference", str(reference), "--seconds", str(self.seconds)]
            command += ["--threads", str(self.threads), "--batch", str(self.batch)]
            limit_s = _TIMEOUT_S * len(models)
            try:
                stopped = self._run(command, limit_s=limit_s)
            except subprocess.TimeoutExpired as error:
                raise MeasureError(
                    f"{names} must be timed within {limit_s:.0f} s, got no result"
                ) from error
        if stopped.returncode != 0:
            lines = [line for line in stopped.stderr.strip().splitlines() if line.strip()]
            reason = lines[-1] if lines else f"exit code {stopped.returncode}"
            raise MeasureError(f"onnxruntime must run {names}, got {reason}")
        return [
            Latency(batch=self.batch, threads=self.threads, device=device_fingerprint(), **values)
            for values in json.loads(stopped.stdout)
        ]

    def _run(self, command: list[str], *, limit_s: float) -> subprocess.CompletedProcess[str]:
        """The stopwatch; waiting for another on this machine does not count against its time."""
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                if process.stdout is not None and process.stdout.readline() == _READY:
                    with FileLock(_LOCK), self.quiet():
                        printed, complaint = process.communicate("go\n", timeout=limit_s)
                else:  # it ended before
                    printed, complaint = process.communicate()
            finally:
                process.kill()
        return subprocess.CompletedProcess(command, process.returncode, printed, complaint)


def _runtime_version() -> str:
    import onnxruntime

    return onnxruntime.__version__


def _write_reference(folder: Path) -> Path:
    """A small network of matrix products, whose time tells how fast the machine is just now."""
    random = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for layer in range(4):
        values = (random.standard_normal((256, 256)) / 16).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{layer}"], [f"h{layer}"]))
        nodes.append(helper.make_node("Relu", [f"h{layer}"], [f"r{layer}"]))
        last = f"r{layer}"
    graph = helper.make_graph(
        nodes,
        "reference",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 256])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [8, 256])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "reference.onnx"
    onnx.save(model, path)
    return path
