"""This machine, with any runtime that Python can reach: a fresh process times the files."""

import contextlib
import dataclasses
import json
import logging
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import final

import numpy as np
from filelock import FileLock

from autokd.errors import MeasureError
from autokd.latency.comparison import Comparison, compare_ratio
from autokd.latency.complaints import last_complaint
from autokd.latency.device import describe_device
from autokd.latency.network_file import is_quantized, load_network, tell_apart
from autokd.latency.readings import Reading, pool, select_quiet
from autokd.latency.reference import recall_quiet_ms, write_reference
from autokd.latency.runtimes import runtime_version
from autokd.latency.stopwatch.rounds import Form
from autokd.types import Latency

__all__ = ["COMPARING", "FINAL", "SCREENING", "StopwatchTarget"]

SCREENING = Form(least_s=0.1, most_s=1.0, precision=0.015, patience_s=10.0)
"""For each candidate of a study, before it is trained."""
COMPARING = Form(least_s=0.2, most_s=1.0, precision=0.01, n_processes=2, patience_s=6.0)
"""For a dozen students and their teacher, by turns, when the trials of a study are over."""
FINAL = Form(least_s=0.3, most_s=3.0, precision=0.007, n_processes=3, patience_s=6.0)
"""For what is exported, and what a user asks for."""

_logger = logging.getLogger(__name__)
_HOME = Path(__file__).parent
_MOST_IN_VAIN = 3  # times that a quiet machine is waited for before nobody waits any more
_LOCK = Path(tempfile.gettempdir()) / "autokd-latency.lock"
_READY = "ready\n"  # printed by the stopwatch, which waits for a line then
_TIMEOUT_S = 300.0
_KILLED = (-signal.SIGKILL, -signal.SIGTERM)  # by somebody, or by the kernel for want of memory
_CALIBRATION = Form(least_s=1.0, most_s=2.0, precision=0.005)
_CALIBRATIONS = 3  # the fastest of them: a machine is disturbed for a second, or for a minute
_DOUBT = 0.5  # of the logarithm of the drift, where no network was timed on a quiet machine
_FASTER = 0.95  # of the quiet time: the machine was not quiet when that was measured
_PROTOCOL = 3  # raised whenever times of the same network become others


@dataclasses.dataclass(eq=False)
class _Hope:
    """Whether it makes sense to wait for a quiet machine, as far as the last attempts tell."""

    n_in_vain: int = 0

    @property
    def is_left(self) -> bool:
        return self.n_in_vain < _MOST_IN_VAIN


_HOPE = _Hope()  # of this process, since the machine is one for all targets


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class StopwatchTarget:
    """Times files in fresh processes with pinned threads, alone on this machine.

    Attributes:
        runtime: One of `stopwatch.runners.RUNTIMES`.
        threads: Of the runtime, and cores that it is pinned to.
        batch: Pictures per run.
        shape: Of one picture, for networks that leave it open.
        form: How long and how sure.
        quiet: Entered while the clock runs, not while the process starts and loads the file;
            whoever trains on this machine stands still within.
        home: Folder that keeps the reference's quiet time beside the cache, of which it is a copy
            that nobody deletes.

    References:
        Reddi et al., "MLPerf Inference Benchmark", 2019 (single stream).
        https://arxiv.org/abs/1911.02549
    """

    runtime: str = "onnxruntime"
    threads: int = 1
    batch: int = 1
    shape: tuple[int, ...] = ()
    form: Form = SCREENING
    quiet: Callable[[], AbstractContextManager[None]] = dataclasses.field(
        default=nullcontext, repr=False, compare=False
    )
    home: Path | None = dataclasses.field(default=None, repr=False, compare=False)
    _hope: _Hope = dataclasses.field(default=_HOPE, repr=False, compare=False)

    @property
    def needs_program(self) -> bool:
        """Whether torch runs it, which takes a program of torch.export."""
        return self.runtime.startswith("torch")

    @property
    def device(self) -> str:
        """What runs the networks."""
        return describe_device(self.runtime)

    def __str__(self) -> str:
        """What makes two measurements comparable."""
        return self.describe(runtime_version(self.runtime), device=self.device)

    def describe(self, version: str, *, device: str) -> str:
        """What makes two measurements comparable, of which this machine need not do any.

        Args:
            version: Of the runtime where it runs.
            device: That it runs on.

        Returns:
            All that a time depends on but the network.
        """
        form, shape = self.form, "x".join(map(str, self.shape)) or "its own"
        return (
            f"{self.runtime} {version}, {self.threads} threads, "
            f"batch {self.batch} of shape {shape}, protocol {_PROTOCOL} for {form.least_s:g} to "
            f"{form.most_s:g} s in {form.n_processes}, {device}"
        )

    def measure(self, model: Path) -> Latency:
        """Time the exported file.

        Args:
            model: An ONNX file whose inputs have the batch as their first dimension.

        Returns:
            Estimate and spread; raises what `measure_together` raises.
        """
        return self.measure_together([model])[0]

    def measure_together(self, models: Sequence[Path]) -> list[Latency]:
        """Time several exported files in the same processes, by turns.

        Args:
            models: ONNX files as for `measure`.

        Returns:
            Estimate and spread of each; the ratio of two of them holds although the machine was
            in a faster or slower state than at another time. What could not be measured as
            surely as `form` asks is logged as a warning.
        """
        return self._measure(models)[1]

    def compare(self, one: Path, other: Path) -> Comparison:
        """Which of two files is faster; they take turns in the same processes.

        Args:
            one: An ONNX file as for `measure`.
            other: Another one.

        Returns:
            The ratio of their times, and both latencies.
        """
        readings, (first, second), quiet_ms = self._measure([one, other])
        seen = select_quiet(readings, 0, over=1, quiet_ms=quiet_ms)
        (spread,) = pool([seen])
        if not seen.is_quiet:
            spread = spread.widened(_DOUBT * abs(math.log(first.drift)))
        return compare_ratio(spread, one=first, other=second)

    def _measure(self, models: Sequence[Path]) -> tuple[list[Reading], list[Latency], float]:
        with tempfile.TemporaryDirectory(prefix="autokd-") as folder:
            reference = write_reference(Path(folder) / "reference.onnx")
            quiet_ms = recall_quiet_ms(lambda: self._time_reference(reference), home=self.home)
            readings = self._read(models, reference, quiet_ms=quiet_ms)
        latencies = self._describe(readings, quiet_ms=quiet_ms)
        self._warn(models, latencies)
        return readings, latencies, quiet_ms

    def _warn(self, models: Sequence[Path], latencies: Sequence[Latency]) -> None:
        """Says what could not be measured as surely as was wanted."""
        names = tell_apart(models)
        width, name = max((one.precision, name) for one, name in zip(latencies, names, strict=True))
        n_wide = sum(one.precision > self.form.precision for one in latencies)
        if n_wide:
            _logger.warning(
                "latency of %s is known to ±%.1f %% only%s, wanted was ±%.1f %%: the machine is "
                "too noisy, something else uses it",
                name,
                100 * width,
                f", of {n_wide - 1} others hardly better" if n_wide > 1 else "",
                100 * self.form.precision,
            )
        if latencies[0].drift < _FASTER:
            _logger.warning(
                "the machine is %.2f times as fast as when its reference was timed; latencies "
                "compare with each other, but are too long",
                1 / latencies[0].drift,
            )

    def _describe(self, readings: Sequence[Reading], *, quiet_ms: float) -> list[Latency]:
        numbers = range(len(readings[0].blocks))
        seen = [select_quiet(readings, number, quiet_ms=quiet_ms) for number in numbers]
        if any(one.is_hopeless for one in readings):
            self._hope.n_in_vain += 1
        elif all(one.is_quiet for one in seen):
            self._hope.n_in_vain = 0
        spreads = pool(seen)
        drift = float(np.mean([one.fast_reference_ms for one in readings])) / quiet_ms
        latencies: list[Latency] = []
        for n, one, spread in zip(numbers, seen, spreads, strict=True):
            if not one.is_quiet:
                spread = spread.widened(_DOUBT * abs(math.log(drift)))
            p10, _, p90 = np.mean([one.percentiles[n] for one in readings], axis=0) / 1e6 / drift
            median_ms = spread.value * quiet_ms
            latencies.append(
                Latency(
                    median_ms=median_ms,
                    ci95_low_ms=spread.low * quiet_ms,
                    ci95_high_ms=spread.high * quiet_ms,
                    p10_ms=min(float(p10), median_ms),
                    p90_ms=max(float(p90), median_ms),
                    n_runs=sum(one.n_runs[n] for one in readings),
                    batch=self.batch,
                    threads=self.threads,
                    runtime=readings[0].runtime,
                    device=self.device,
                    drift=drift,
                )
            )
        return latencies

    def _time_reference(self, reference: Path) -> float:
        alone = dataclasses.replace(
            self, runtime="onnxruntime", threads=1, batch=1, shape=(), form=_CALIBRATION
        )
        found = [alone._run([reference], reference) for _ in range(_CALIBRATIONS)]
        return min(one.fast_reference_ms for one in found)

    def _read(self, models: Sequence[Path], reference: Path, *, quiet_ms: float) -> list[Reading]:
        """What as many processes as the form wants have seen, in turning order."""
        readings: list[Reading] = []
        for number in range(self.form.n_processes):
            step = -1 if number % 2 else 1
            reading = self._run(models[::step], reference, quiet_ms=quiet_ms)
            readings.append(reading if step == 1 else reading.reversed())
        return readings

    def _run(
        self, models: Sequence[Path], reference: Path, *, quiet_ms: float | None = None
    ) -> Reading:
        """What one process has seen."""
        names = ", ".join(tell_apart(models))
        self._check_files(models)
        form = self.form
        command = [sys.executable, "-m", "stopwatch", *(str(model.absolute()) for model in models)]
        command += ["--reference", str(reference), "--runtime", self.runtime]
        command += ["--threads", str(self.threads), "--batch", str(self.batch)]
        command += ["--form", str(form.least_s), str(form.most_s), str(form.precision)]
        if quiet_ms is not None:
            command += ["--quiet", str(1e6 * quiet_ms)]
            command += ["--patience", str(form.patience_s if self._hope.is_left else 0.0)]
        command += ["--shape", *map(str, self.shape)]
        limit_s = (_TIMEOUT_S + form.most_s + form.patience_s) * len(models)
        try:
            stopped = self._wait_for(command, limit_s=limit_s)
            if stopped.returncode in _KILLED:  # once that says nothing of the network
                _logger.warning("the stopwatch was killed, timing %s: it starts again", names)
                stopped = self._wait_for(command, limit_s=limit_s)
        except subprocess.TimeoutExpired as error:
            raise MeasureError(
                f"{names} must be timed within {limit_s:.0f} s, got no result"
            ) from error
        if stopped.returncode != 0:
            reason = last_complaint(stopped.stderr) or f"exit code {stopped.returncode}"
            raise MeasureError(f"{self.runtime} must run {names}, got {reason}")
        return Reading.from_json(json.loads(stopped.stdout))

    def _check_files(self, models: Sequence[Path]) -> None:
        """A `MeasureError` where a file is missing, or another network would be timed."""
        for program in (model.with_suffix(".pt2") for model in models if self.needs_program):
            if not program.is_file():
                raise MeasureError(
                    f"{self.runtime} must have {program.name} beside the ONNX file, got no such "
                    "file; `autokd export` writes both"
                )
        for model in models if self.runtime == "tflite" else ():
            own = model.with_suffix(".tflite")
            if not own.is_file() and is_quantized(load_network(model)):
                raise MeasureError(
                    f"tflite must have {own.name} beside an INT8 file, got no such file: onnx2tf "
                    f"makes a float one of {model.name}; convert it yourself, or measure the FP32 "
                    "one"
                )

    def _wait_for(self, command: list[str], *, limit_s: float) -> subprocess.CompletedProcess[str]:
        """The stopwatch; waiting for another on this machine does not count against its time."""
        pipe = subprocess.PIPE
        with (
            tempfile.TemporaryFile("w+", errors="replace") as complaints,
            subprocess.Popen(
                command,
                stdin=pipe,
                stdout=pipe,
                stderr=complaints,
                text=True,
                cwd=_HOME,
                env=_environment(),
                start_new_session=True,  # Ctrl-C ends the search after this, and not this first
            ) as process,
        ):
            try:
                if process.stdout is not None and process.stdout.readline() == _READY:
                    with _only_one(), self.quiet():
                        printed, _ = process.communicate("go\n", timeout=limit_s)
                else:  # it ended before
                    printed, _ = process.communicate()
            finally:
                process.kill()
            complaints.seek(0)
            complaint = complaints.read()
        return subprocess.CompletedProcess(command, process.returncode, printed, complaint)


def _environment() -> dict[str, str]:
    """Of the stopwatch, which is found in the folder where it starts."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    own = {
        "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in paths if path),
        "PYTHONSAFEPATH": "",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # as `accelerator_name` takes them
    }
    return {**os.environ, **own}


@contextlib.contextmanager
def _only_one() -> Generator[None]:
    """Held by one stopwatch of this machine at a time, whichever user's it is."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(FileLock(_LOCK, mode=0o666))
        except PermissionError:  # of another user, in a folder that lets nobody else open it so
            import fcntl

            fcntl.flock(held.enter_context(_LOCK.open("rb")), fcntl.LOCK_EX)
        yield
