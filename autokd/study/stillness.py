"""Who works on this machine stands still while a latency is measured, whoever started either.

A process that trains is known by a file in a folder of this machine and user. Whoever measures
stops all of them, notes in each file how long they stood, and lets them go on. One that was left
stopped, because whoever measured was killed meanwhile, is woken by a guard, or at the latest by
`wake_abandoned`. What the
measuring process does beside is told by `resting_while_measured`.
"""

import contextlib
import dataclasses
import getpass
import math
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import final

import psutil
from filelock import FileLock, Timeout

from autokd.trackers import SpooledTracker
from autokd.types import EpochLog, Tracker

__all__ = [
    "TrainingProcess",
    "known_as_training",
    "resting_while_measured",
    "still",
    "wake_abandoned",
]

Rest = Callable[[], contextlib.AbstractContextManager[None]]

_RESTS: list[Rest] = []  # of this process


@final
class TrainingProcess:
    """A process that trains, by its file."""

    def __init__(self, path: Path) -> None:
        """Names the file; it is neither read nor made."""
        self.path = path

    @property
    def paused_s(self) -> float:
        """How long it has stood still."""
        return math.fsum(end - start for start, end in self._pauses())

    def without_pauses(self, row: EpochLog) -> EpochLog:
        """An epoch that this process has just trained, without the time that it stood still.

        Args:
            row: With the seconds on the wall.

        Returns:
            With those of the training.
        """
        end = time.monotonic()
        start = end - row.seconds
        paused = (min(end, b) - max(start, a) for a, b in self._pauses())
        paused_s = math.fsum(max(0.0, seconds) for seconds in paused)
        return dataclasses.replace(row, seconds=max(0.0, row.seconds - paused_s))

    def _pauses(self) -> list[tuple[float, float]]:
        """When each began and ended, of `time.monotonic`."""
        try:
            lines = self.path.read_text(encoding="ascii").splitlines()
        except FileNotFoundError:
            return []
        return [(float(start), float(end)) for start, end in map(str.split, lines[1:])]

    def signal(self, number: int) -> bool:
        """Sends a signal; whether the process was there to get it. A dead one's file goes."""
        pid = int(self.path.name)
        try:
            born = float(self.path.read_text(encoding="ascii").split("\n", 1)[0])
            is_itself = psutil.Process(pid).create_time() == born
            if is_itself:
                os.kill(pid, number)
        except (FileNotFoundError, psutil.Error, ProcessLookupError, ValueError):
            is_itself = False
        if not is_itself:
            self.path.unlink(missing_ok=True)
        return is_itself

    def note_pause(self, start: float) -> None:
        """Adds to what it has stood still, since then until now, of `time.monotonic`."""
        with contextlib.suppress(FileNotFoundError), self.path.open("r+", encoding="ascii") as file:
            file.seek(0, os.SEEK_END)
            file.write(f"{start!r} {time.monotonic()!r}\n")


@contextlib.contextmanager
def known_as_training() -> Generator[TrainingProcess]:
    """This process trains within, and may be stopped; it waits here while another measures.

    Yields:
        What tells how long it has stood still.
    """
    folder = _folder()
    process = TrainingProcess(folder / str(os.getpid()))
    with _measuring(folder):
        process.path.write_text(f"{psutil.Process().create_time()!r}\n", encoding="ascii")
    try:
        yield process
    finally:
        process.path.unlink(missing_ok=True)


@contextlib.contextmanager
def resting_while_measured(tracker: Tracker) -> Generator[None]:
    """A tracker that works beside this process's other work rests whenever it measures within.

    Args:
        tracker: Of any kind; only a spooled one works beside.

    Yields:
        Nothing.
    """
    rests = [tracker.resting] if isinstance(tracker, SpooledTracker) else []
    _RESTS.extend(rests)
    try:
        yield
    finally:
        for rest in rests:
            _RESTS.remove(rest)


@contextlib.contextmanager
def still() -> Generator[None]:
    """Nobody else of this user trains on this machine within.

    Yields:
        Nothing. Where the system cannot stop a process, they train on.
    """
    folder = _folder()
    with _measuring(folder), contextlib.ExitStack() as resting:
        for rest in tuple(_RESTS):
            resting.enter_context(rest())
        start = time.monotonic()
        others = [one for one in _known(folder) if _can_stop() and one.signal(signal.SIGSTOP)]
        with _guarded(others):
            try:
                yield
            finally:
                for process in others:
                    process.note_pause(start)
                    process.signal(signal.SIGCONT)


@contextlib.contextmanager
def _guarded(others: Sequence[TrainingProcess]) -> Generator[None]:
    """If this process is killed within, those that it has stopped go on all the same.

    A shell reads from a pipe that ends with this process, and wakes them then.
    """
    if not others:
        yield
        return
    pids = " ".join(one.path.name for one in others)
    with subprocess.Popen(
        ["/bin/sh", "-c", f"read -r _; kill -CONT {pids} 2>/dev/null"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as guard:
        try:
            yield
        finally:
            guard.kill()


def wake_abandoned() -> None:
    """Lets those go on that were stopped by somebody who was killed; cheap, to be called often."""
    folder = _folder()
    lock = _measuring(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return  # they are being measured beside
    try:
        for process in _known(folder):
            if _can_stop():
                process.signal(signal.SIGCONT)
    finally:
        lock.release()


def _known(folder: Path) -> list[TrainingProcess]:
    """All processes that train, but this one."""
    names = [path.name for path in folder.iterdir() if path.name.isdigit()]
    return [TrainingProcess(folder / name) for name in sorted(names) if int(name) != os.getpid()]


def _can_stop() -> bool:
    return hasattr(signal, "SIGSTOP")


def _measuring(folder: Path) -> FileLock:
    return FileLock(folder / "measuring.lock")


def _folder() -> Path:
    user = os.getuid() if hasattr(os, "getuid") else re.sub(r"\W", "-", getpass.getuser())
    folder = Path(tempfile.gettempdir()) / f"autokd-training-2-{user}"  # 2: of what its files hold
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
