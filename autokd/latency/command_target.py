"""Any device that a program of the user's can reach: it takes the file and prints the times."""

import errno
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, final

import numpy as np

from autokd.errors import ConfigError, MeasureError
from autokd.latency.complaints import last_complaint
from autokd.latency.readings import error_between
from autokd.types import Latency

__all__ = ["CommandTarget"]

_WHAT = '{"times_ms": [...]} or {"median_ms": ...}'
_MOST_SHOWN = 200  # characters of what a program complained of
_DRAWS = 1000


@final
@dataclass(frozen=True, kw_only=True)
class CommandTarget:
    """Runs a command with the file's path in it and reads the times that it prints.

    The last line of its standard output that is a JSON object counts: `{"times_ms": [...]}` or
    `{"median_ms": ...}`, with `device` and `runtime` if it likes.

    Attributes:
        command: With `{model}`, and `{threads}` and `{batch}` if it likes; run without a shell.
        threads: That it is asked for.
        batch: That it is asked for.
        timeout_s: Until it is killed, with whatever it started.
        n_turns: How often each file gets its turn.
        quiet: Entered while it runs; whoever trains on this machine stands still within.
    """

    command: str
    threads: int = 1
    batch: int = 1
    timeout_s: float = 120.0
    n_turns: int = 1
    quiet: Callable[[], AbstractContextManager[None]] = field(
        default=nullcontext, repr=False, compare=False
    )

    needs_program = False

    def __post_init__(self) -> None:
        """Checks the command.

        Raises:
            ConfigError: It has no place for the file, for a batch or threads other than one, or
                does not begin with a program.
        """
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise ConfigError(
                f"`--target` must be a command, got {self.command}: {error}"
            ) from error
        if not any("{model}" in word for word in words):
            raise ConfigError(
                "`--target command:` must have the word {model} where the ONNX file goes, got "
                f"{self.command}"
            )
        for name, value in (("batch", self.batch), ("threads", self.threads)):
            if value != 1 and f"{{{name}}}" not in self.command:
                raise ConfigError(
                    f"`--target command:` must have the word {{{name}}} to be asked for "
                    f"{value}, got {self.command}"
                )
        if shutil.which(words[0]) is None:
            raise ConfigError(
                f"`--target command:` must begin with a program, got {words[0]}, which is not found"
            )

    def __str__(self) -> str:
        """What makes two measurements comparable."""
        return f"{self.command}, {self.threads} threads, batch {self.batch}, {self.n_turns} turns"

    def measure(self, model: Path) -> Latency:
        """Time one file; raises what `measure_together` raises."""
        return self.measure_together([model])[0]

    def measure_together(self, models: Sequence[Path]) -> list[Latency]:
        """Time several files, by turns.

        Args:
            models: ONNX files.

        A program can be unlucky from its beginning to its end; so the interval is the wider one of
        two: what the times within the turns tell, and what the differences of the turns tell,
        which are taken to be as large for each file. A single turn does not tell the second.

        Returns:
            Geometric mean of the medians of the turns, with its interval. Raises a `MeasureError`
            where the program hangs, fails or prints something else.
        """
        answers: list[list[dict[str, Any]]] = [[] for _ in models]
        with self.quiet():
            for _ in range(self.n_turns):
                for model, mine in zip(models, answers, strict=True):
                    mine.append(self._ask(model))
        logs = [np.log([np.median(_times_of(turn)) for turn in mine]) for mine in answers]
        between = error_between(logs) / math.sqrt(self.n_turns)
        return [self._describe(mine, between=between) for mine in answers]

    def _ask(self, model: Path) -> dict[str, Any]:
        """What the program says of a file, checked."""
        places = {"model": str(model.absolute()), "threads": self.threads, "batch": self.batch}
        words = [_fill(word, places) for word in shlex.split(self.command)]
        stopped = self._run(words, model)
        if stopped.returncode != 0:
            complaint = last_complaint(stopped.stderr) or "no complaint"
            raise MeasureError(
                f"{words[0]} must time {model.name}, got exit code {stopped.returncode}: "
                f"{complaint[:_MOST_SHOWN]}"
            )
        answer = _find_answer(stopped.stdout)
        if answer is None:
            shown = stopped.stdout.strip()[:_MOST_SHOWN].replace("\n", " ") or "nothing"
            raise MeasureError(f"{words[0]} must print {_WHAT} for {model.name}, got {shown}")
        return answer

    def _run(self, words: Sequence[str], model: Path) -> subprocess.CompletedProcess[str]:
        with (  # files, since something that it leaves running may hold a pipe open for ever
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as printed,
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints,
        ):
            process = _start(words, model, printed=printed, complaints=complaints)
            try:
                code = process.wait(self.timeout_s)
            except subprocess.TimeoutExpired as error:
                raise MeasureError(
                    f"{words[0]} must time {model.name} within {self.timeout_s:g} s, got no result"
                ) from error
            finally:
                _end_group(process)
                process.wait()
            for file in (printed, complaints):
                file.seek(0)
            return subprocess.CompletedProcess(words, code, printed.read(), complaints.read())

    def _describe(self, answers: Sequence[dict[str, Any]], *, between: float) -> Latency:
        """What the turns of one file make together, known to `between` at best."""
        turns = [np.array(_times_of(answer)) for answer in answers]
        random, first = np.random.default_rng(0), float(np.median(turns[0]))
        draws = [
            [np.median(random.choice(times, len(times))) / first for times in turns]
            for _ in range(_DRAWS)
        ]
        low, high = first * np.exp(np.percentile(np.log(draws).mean(axis=1), [2.5, 97.5]))
        median = first * math.exp(np.mean([np.log(np.median(times) / first) for times in turns]))
        times = np.concatenate(turns)
        return Latency(
            median_ms=median,
            ci95_low_ms=min(float(low), median * math.exp(-between)),
            ci95_high_ms=max(float(high), median * math.exp(between)),
            p10_ms=min(float(np.percentile(times, 10)), median),
            p90_ms=max(float(np.percentile(times, 90)), median),
            n_runs=len(times),
            batch=self.batch,
            threads=self.threads,
            runtime=f"command {answers[0].get('runtime') or ''}".strip(),
            device=str(answers[0].get("device") or self.command),
            drift=1.0,
        )


def _start(
    words: Sequence[str], model: Path, *, printed: IO[str], complaints: IO[str]
) -> subprocess.Popen[bytes]:
    """The program, which was there when the study began, but may be no program or be gone."""
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=complaints,
            start_new_session=True,
        )
    except OSError as error:
        remedy = "; a script must begin with #! and what runs it"
        raise MeasureError(
            f"{words[0]} must start to time {model.name}, got {error.strerror}"
            f"{remedy if error.errno == errno.ENOEXEC else ''}"
        ) from error


def _fill(word: str, places: Mapping[str, object]) -> str:
    """A word of the command, other braces in it left as they are."""
    for name, value in places.items():
        word = word.replace(f"{{{name}}}", str(value))
    return word


def _find_answer(printed: str) -> dict[str, Any] | None:
    """The JSON object with times: the whole output, or the last line that is one."""
    for text in (printed, *reversed(printed.splitlines())):
        try:
            values = json.loads(text)
        except ValueError:
            continue
        if isinstance(values, dict) and _times_of(values):
            return values
    return None


def _times_of(answer: dict[str, Any]) -> list[float]:
    """Milliseconds; empty if there are none or one of them cannot be a time."""
    values: Any = answer["times_ms"] if "times_ms" in answer else [answer.get("median_ms")]
    if not isinstance(values, list):
        return []
    times = [float(value) for value in values if isinstance(value, int | float)]
    is_sound = all(math.isfinite(time) and time > 0 for time in times)
    return times if is_sound and len(times) == len(values) else []


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends the program and what it started, also where it left something running."""
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return
    else:
        process.kill()
