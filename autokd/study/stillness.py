"""Who works on this machine stands still while a latency is measured, whoever started either.

A process that trains is known by a file in a folder of this machine and user. Whoever measures
stops all of them, notes in each file how long they stood, and lets them go on. One that was left
stopped, because whoever measured was killed meanwhile, is woken by a guard, or at the latest by
`wake_abandoned`; one that the user has suspended is left as it is. What the measuring process
does beside is told by `resting_while_measured`.
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

_PROC = Path("/proc")


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

    def stop(self) -> bool:
        """Stops it, and marks before that this is done.

        Returns:
            Whether it was stopped: not one that is dead, whose files go, nor one that stands still
            already without a mark, since the user has suspended it.
        """
        pid = int(self.path.name)
        if not self._is_itself():
            self.forget()
            return False
        if not self._mark.exists() and _is_stopped(pid):
            return False
        self._mark.touch()
        return self._send(signal.SIGSTOP)

    def wake(self) -> None:
        """Lets it go on, whatever its file says, and takes the mark away."""
        self._send(signal.SIGCONT)
        self._mark.unlink(missing_ok=True)

    def wake_abandoned(self) -> None:
        """Lets it go on if it was marked by `stop`; files of a dead one go."""
        if not self._is_itself():
            self.forget()
        elif self._mark.exists():
            self.wake()

    def register(self) -> None:
        """Writes the file of this very process."""
        self._mark.unlink(missing_ok=True)  # of a dead process of the same number
        self.path.write_text(f"{_birth_of(os.getpid())}\n", encoding="ascii")

    def forget(self) -> None:
        """Deletes its files."""
        self.path.unlink(missing_ok=True)
        self._mark.unlink(missing_ok=True)

    @property
    def _mark(self) -> Path:
        """Is there from before it is stopped until after it goes on."""
        return self.path.with_name(f"{self.path.name}.stopped")

    def _is_itself(self) -> bool:
        """Whether the process of this number is the one that has written the file."""
        try:
            born = self.path.read_text(encoding="ascii").split("\n", 1)[0]
        except FileNotFoundError:
            return False
        return bool(born) and _birth_of(int(self.path.name)) == born

    def _send(self, number: int) -> bool:
        """Whether there was a process to get a signal."""
        try:
            os.kill(int(self.path.name), number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

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
        process.register()
    try:
        yield process
    finally:
        process.forget()


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
        others: list[TrainingProcess] = []
        try:
            if _can_stop():  # one after the other, so that each that was stopped is woken
                others.extend(process for process in _known(folder) if process.stop())
            with _guarded(others):
                yield
        finally:
            for process in others:
                process.note_pause(start)
                process.wake()


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
                process.wake_abandoned()
    finally:
        lock.release()


def _known(folder: Path) -> list[TrainingProcess]:
    """All processes that train, but this one."""
    names = [path.name for path in folder.iterdir() if path.name.isdigit()]
    return [TrainingProcess(folder / name) for name in sorted(names) if int(name) != os.getpid()]


def _birth_of(pid: int) -> str:
    """When a process was begun, which no later one of its number has.

    Returns:
        Ticks since the system was started, where that is told: a time of the day moves with a clock
        that is set anew. Empty where there is no such process.
    """
    if _has_proc():
        fields = _status_of(pid)
        return fields[19] if fields else ""
    try:
        return repr(psutil.Process(pid).create_time())
    except psutil.Error:
        return ""


def _is_stopped(pid: int) -> bool:
    """Whether a process stands still by a signal."""
    if _has_proc():
        return _status_of(pid)[:1] == ["T"]
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False


def _status_of(pid: int) -> list[str]:
    """Fields of `/proc/PID/stat` from the state on, the third; none of a dead process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()  # the name before it may hold anything


def _has_proc() -> bool:
    return (_PROC / "self" / "stat").exists()


def _can_stop() -> bool:
    return hasattr(signal, "SIGSTOP")


def _measuring(folder: Path) -> FileLock:
    return FileLock(folder / "measuring.lock")


def _folder() -> Path:
    user = os.getuid() if hasattr(os, "getuid") else re.sub(r"\W", "-", getpass.getuser())
    folder = Path(tempfile.gettempdir()) / f"autokd-training-3-{user}"  # 3: of what its files hold
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
