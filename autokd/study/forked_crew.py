"""One forked process a job, side by side on the cores.

A forked process has everything that this one has, teacher and pictures included, without a copy;
it trains on one thread, pinned to cores of its own, sends what came of it through a pipe and
ends. It dies with this process, whatever kills that.
"""

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any, final

import torch

from autokd.distillation import keep_freed_memory
from autokd.study.crew import Done, Job
from autokd.study.stillness import TrainingProcess, known_as_training, wake_abandoned
from autokd.types import EpochLog

__all__ = ["ForkedCrew", "can_fork", "settle_child"]

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_TRIAL_S = 10.0  # for a forked process to show that it can train
_LOOK_S = 5.0  # after processes that were stopped and forgotten
_MOST_DEATHS = 3  # in a row, without an epoch in between
_MOST_KILLS = 10  # likewise, where somebody has sent a signal and memory has not run out
_VMSTAT = Path("/proc/vmstat")


@dataclass(kw_only=True, eq=False)
class _Worker:
    """One forked process and the job it does."""

    job: Job
    slot: int
    process: Any
    pipe: Connection
    n_deaths: int = 0  # of those before it, since the last epoch
    heard: int = 0  # the last epoch; one that is begun again may ask after it again
    n_out_of_memory: int | None  # of all processes of the machine, before it was begun


@final
class ForkedCrew:
    """A process for each job, as many at once as there are slots."""

    def __init__(self, size: int) -> None:
        """Nothing runs yet.

        Args:
            size: Slots; each gets an equal share of the cores.
        """
        self.size = size
        self._workers: list[_Worker] = []
        self._halting = multiprocessing.get_context("fork").RawValue("b", 0)

    @property
    def is_halting(self) -> bool:
        """Whether the processes were told to end."""
        return bool(self._halting.value)

    def halt(self) -> None:
        """Tells all processes, and those that are forked from now on."""
        self._halting.value = 1

    @property
    def running(self) -> Sequence[Job]:
        """What the processes are doing."""
        return tuple(worker.job for worker in self._workers)

    def start(self, job: Job) -> None:
        """Forks a process for the job.

        Args:
            job: Its result must be picklable.

        Raises:
            ValueError: All slots are taken.
        """
        taken = {worker.slot for worker in self._workers}
        free = [slot for slot in range(self.size) if slot not in taken]
        if not free:
            raise ValueError(f"`start` must find a free slot, got {self.size} running jobs")
        self._workers.append(self._fork(job, slot=free[0]))

    def wait(
        self, on_epoch: Callable[[Job, EpochLog], object], *, patience_s: float | None = None
    ) -> Done | None:
        """Waits for a job to end; one whose process was killed is begun again.

        It is given up when it dies three times in a row without an epoch in between; ten times
        where SIGKILL or SIGTERM ended it and the kernel says that memory has not run out meanwhile.

        Args:
            on_epoch: Told of each epoch of each job meanwhile; `False` ends it at its stops.
            patience_s: To wait at the longest, if something is heard of no job.

        Returns:
            The job and its result; none where patience is at its end. What the job raised is
            raised here.
        """
        end = None if patience_s is None else time.monotonic() + patience_s
        while True:
            left_s = _LOOK_S if end is None else min(_LOOK_S, end - time.monotonic())
            ready = wait([worker.pipe for worker in self._workers], timeout=max(0.0, left_s))
            wake_abandoned()
            if not ready and end is not None and time.monotonic() >= end:
                return None
            for worker in [one for one in self._workers if one.pipe in ready]:
                kind, value = _receive(worker.pipe)
                if kind == "epoch":
                    if value.epoch > worker.heard:
                        worker.heard, worker.n_deaths = value.epoch, 0
                    _answer(worker, value, goes_on=on_epoch(worker.job, value) is not False)
                    continue
                self._remove(worker)
                if kind == "error":
                    raise value
                if kind == "done":
                    return Done(job=worker.job, result=value[0], paused_s=value[1])
                if (fault := _give_up(worker)) is not None:
                    return Done(job=worker.job, fault=fault)
                again = self._fork(worker.job, slot=worker.slot)
                again.n_deaths, again.heard = worker.n_deaths + 1, worker.heard
                self._workers.append(again)

    def close(self) -> None:
        """Kills what is still running."""
        for worker in self._workers:
            worker.process.kill()
        for worker in list(self._workers):
            self._remove(worker)

    def dismiss(self) -> None:
        """Nobody waits: a process lives no longer than its job."""

    def _fork(self, job: Job, *, slot: int) -> _Worker:
        context = multiprocessing.get_context("fork")
        n_out_of_memory = _count_out_of_memory()
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_run, args=(job, theirs, self._cores(job, slot), self._halting), daemon=True
        )
        with warnings.catch_warnings():
            # Python warns of any fork beside threads; `build_crew` has tried that it works.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        theirs.close()
        return _Worker(
            job=job, slot=slot, process=process, pipe=ours, n_out_of_memory=n_out_of_memory
        )

    def _cores(self, job: Job, slot: int) -> list[int]:
        cores = sorted(os.sched_getaffinity(0))
        return cores if job.is_wide else cores[slot % len(cores) :: self.size] or cores

    def _remove(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.process.join()
        worker.pipe.close()


def _answer(worker: _Worker, row: EpochLog, *, goes_on: bool) -> None:
    """Tells a process that waits at one of its stops."""
    if row.epoch in worker.job.stops:
        with contextlib.suppress(OSError):  # it was killed meanwhile
            worker.pipe.send(goes_on)


def _run(job: Job, pipe: Connection, cores: list[int], halting: ctypes.c_byte) -> None:
    """What a forked process does."""

    def tell(training: TrainingProcess, row: EpochLog) -> bool:
        pipe.send(("epoch", training.without_pauses(row)))
        goes_on = pipe.recv() if row.epoch in job.stops else True
        return bool(goes_on) and not halting.value

    settle_child(cores)
    torch.set_num_threads(1)  # until its engine is known
    try:
        with known_as_training() as training:
            result = job.work(partial(tell, training))
            paused_s = training.paused_s
        pipe.send(("done", (result, paused_s)))
    except BaseException as error:  # noqa: BLE001
        # Whatever it is, the parent raises it, with this traceback as its cause.
        pipe.send(("error", _make_portable(error)))


def settle_child(cores: Collection[int] = ()) -> None:
    """What a forked process does first: dies with its parent, is deaf to Ctrl-C, keeps its memory.

    A polite kill ends it alone: the parent's handler, which it inherits, would halt its siblings.

    Args:
        cores: It is pinned to; any if none.
    """
    # A progress bar of the parent may have held the lock of its own streams when this was forked.
    # What the user's code prints here must not come between the lines of `--json`.
    sys.stdout = sys.stderr = sys.__stderr__
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if cores:
            os.sched_setaffinity(0, cores)
        keep_freed_memory()


def _make_portable(error: BaseException) -> object:
    """The error with its traceback, or its text where it cannot travel."""
    whole = ExceptionWithTraceback(error, error.__traceback__)
    try:
        pickle.loads(pickle.dumps(whole))
    except Exception:  # noqa: BLE001 - whatever an unknown class raises
        return RuntimeError(f"{type(error).__name__}: {error}")
    return whole


def _receive(pipe: Connection) -> tuple[str, Any]:
    """What a worker says next: `epoch`, `done` or `error` with a value, or that it was killed."""
    try:
        return pipe.recv()
    except (EOFError, OSError):  # before a message, or in the middle of one
        return "killed", None


def _give_up(worker: _Worker) -> str | None:
    """Why a job whose process has died is not begun again; none where it is."""
    n, code = worker.n_deaths + 1, worker.process.exitcode
    count = _count_out_of_memory()
    is_killed = code in (-signal.SIGKILL, -signal.SIGTERM)
    has_room = count is not None and count == worker.n_out_of_memory
    if n < (_MOST_KILLS if is_killed and has_room else _MOST_DEATHS):
        return None
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    why = (
        "something kills it, perhaps a guard of memory"
        if is_killed and has_room
        else "most likely memory ran out"
    )
    return f"its process ended {n} times without a result ({how}); {why}"


def _count_out_of_memory() -> int | None:
    """How many processes the kernel has killed for want of memory; none where it does not tell."""
    try:
        found = re.search(r"^oom_kill (\d+)$", _VMSTAT.read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else int(found[1])


def can_fork() -> bool:
    """Whether a forked process can compute a gradient here, on several threads too."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_try_gradient, daemon=True)
    process.start()
    process.join(_TRIAL_S)
    if process.exitcode is None:
        process.kill()
    return process.exitcode == 0


def _try_gradient() -> None:
    """Ends with exit code 1 where torch refuses, and not at all where its threads are lost."""
    sys.stderr = None  # torch's refusal is no news
    torch.set_num_threads(2)
    many = torch.ones(2**20, requires_grad=True)
    (many * many).sum().backward()
