"""Workers on other machines, reached through a database; a `Crew` like any other.

What they send is kept where a worker of this machine would have kept it: checkpoints, weights. A
worker that is not heard of for half a minute has lost its jobs, which go to others from their last
epoch; a job that has lost three workers in a row without an epoch between is given up. Where
another coordinator has the study meanwhile, the jobs are that one's: nothing is done to them.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from autokd.config import Config
from autokd.errors import StudyError
from autokd.jobs import JobQueue, JobState, Row
from autokd.study.calls import write_call
from autokd.study.crew import Done, Job
from autokd.study.orders import Bench, Order, Outcome
from autokd.study.teaching import Faculty
from autokd.types import EpochLog, dump_json, load_json

__all__ = [
    "BEAT_S",
    "RemoteCrew",
    "call_workers",
    "dump_result",
    "load_result",
    "read_checkpoints",
    "read_student",
    "write_files",
]

BEAT_S = 5.0
LEASE_S = 30.0
_POLL_S = 0.25
_MOST_DEATHS = 3


@dataclass(kw_only=True)
class _Posted:
    """A job that is with the workers."""

    job: Job
    order: Order
    is_adopted: bool = False
    heard: int = 0
    worker: str | None = None
    deaths: int = 0
    is_ended: bool = False


@dataclass(kw_only=True)
class _Pulse:
    """When a worker was last heard of, by this machine's clock."""

    slots: int
    beats: int
    heard_at: float


@final
class RemoteCrew:
    """As many jobs at once as the workers of the study have slots."""

    def __init__(
        self,
        queue: JobQueue,
        study: str,
        *,
        bench: Bench,
        stopped: Collection[str] = (),
        say: Callable[[str], object] = lambda _: None,
        lease_s: float = LEASE_S,
        check_alone: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing runs yet.

        Args:
            queue: Where workers look.
            study: Its name there; it is open.
            bench: Where their checkpoints and weights are kept.
            stopped: Names of jobs that wait at a rung; a worker that still asks is told to end.
            say: Shows a line to the user.
            lease_s: After which a worker is taken for dead that is not heard of.
            check_alone: Raises a `StudyError` where another coordinator has the study meanwhile.
        """
        self._queue, self._study, self._bench, self._say = queue, study, bench, say
        self._lease_s, self._check_alone = lease_s, check_alone
        self._posted: dict[str, _Posted] = {}
        self._pulses: dict[str, _Pulse] = {}
        self._has_asked_for_workers = False
        self._has_told_to_halt = False
        self._looked_at = time.monotonic()
        self.is_halting = False
        for name in stopped:
            queue.grant(study, name, goes_on=False)

    @property
    def size(self) -> int:
        """Slots of the workers that are there, and one where there is none: they may come."""
        return max(1, sum(pulse.slots for pulse in self._pulses.values()))

    @property
    def running(self) -> Sequence[Job]:
        """What was posted and not given back yet."""
        return tuple(posted.job for posted in self._posted.values())

    def start(self, job: Job) -> None:
        """Posts a job; one of this name that an earlier session has posted is taken up.

        Args:
            job: It has an order.

        Raises:
            ValueError: It has none.
        """
        if job.order is None:
            raise ValueError(f"`job` must have an order to be sent, got {job.title} without")
        name = job.order.name
        posted = _Posted(job=job, order=job.order)
        if job.order.refit is None:
            posted.heard = max((row.epoch for row in job.order.result.curve), default=0)
        self._check_alone()
        posted.is_adopted = not self._post(posted)
        if posted.is_adopted and posted.heard:  # it may have been decided, but not said
            self._queue.grant(self._study, name, epoch=posted.heard, goes_on=True)
        self._posted[name] = posted

    def _post(self, posted: _Posted) -> bool:
        """Whether a job is a new one; it asks after those epochs that were not answered yet."""
        name = posted.order.name
        return self._queue.post(
            self._study,
            name,
            order=dump_json(posted.order),
            stops=[epoch for epoch in posted.job.stops if epoch > posted.heard],
            files=read_checkpoints(self._bench, name),
        )

    def halt(self) -> None:
        """Has each job end after its epoch; the workers are told by the next `wait`."""
        self.is_halting = True

    def wait(
        self, on_epoch: Callable[[Job, EpochLog], object], *, patience_s: float | None = None
    ) -> Done | None:
        """Waits for a job to end; one whose worker died goes to another.

        Args:
            on_epoch: Told of each epoch of each job meanwhile; `False` ends it at its stops.
            patience_s: To wait at the longest.

        Returns:
            The job and its result; none where patience is at its end or workers have come. What
            a job raised on its worker that is a bug is a `RuntimeError` here.

        Raises:
            KeyboardInterrupt: It was halted, and no worker has a job that would end.
        """
        end = None if patience_s is None else time.monotonic() + patience_s
        while True:
            if self.is_halting and not self._has_told_to_halt:
                self._check_alone()
                self._queue.halt(self._study)
                self._has_told_to_halt = True
            before = self.size
            self._take_pulses()
            rows, states = self._read()
            self._hear(rows, on_epoch)
            self._post_lost(states)
            for state in states:
                done = self._look_at(state)
                if done is not None:
                    return done
            mine = [one.state for one in states if one.name in self._posted]
            if self._has_told_to_halt and all(state == "waiting" for state in mine):
                raise KeyboardInterrupt  # nobody trains what could be waited for
            if self.size > before or (end is not None and time.monotonic() > end):
                return None
            time.sleep(_POLL_S)

    def close(self) -> None:
        """Takes all jobs away from the workers, unless they are another's; checkpoints are kept."""
        for name, posted in list(self._posted.items()):
            files = self._queue.files(self._study, name)
            try:
                self._check_alone()
            except StudyError:
                self._posted.clear()
                return
            write_files(files, bench=self._bench, order=posted.order)
            self._forget(name)

    def dismiss(self) -> None:
        """Sends the workers home: the study is over."""
        self._check_alone()
        self._queue.close_study(self._study)

    # ------------------------------------------------------------------ who is there

    def _take_pulses(self) -> None:
        """Takes note of workers that came, and buries those that are not heard of any more."""
        now = time.monotonic()
        known = self._queue.workers(self._study)
        if now - self._looked_at > self._lease_s:  # the database or this machine was away
            for pulse in self._pulses.values():
                pulse.heard_at = now
        self._looked_at = now
        for worker in set(self._pulses) - set(known):
            self._lose(worker, "left")
        for worker, (slots, beats) in known.items():
            pulse = self._pulses.get(worker)
            if pulse is None:
                self._say(f"worker {worker} is there, {slots} side by side")
            if pulse is None or pulse.beats != beats:
                self._pulses[worker] = _Pulse(slots=slots, beats=beats, heard_at=now)
            elif now - pulse.heard_at > self._lease_s:
                self._queue.leave(worker)
                self._lose(worker, f"is not heard of for {self._lease_s:.0f} s")
        if not self._pulses and not self._has_asked_for_workers:
            self._say(
                f"waiting for workers: autokd worker --study {self._study} --storage ..., "
                "on any machine"
            )
        self._has_asked_for_workers = not self._pulses

    def _lose(self, worker: str, how: str) -> None:
        del self._pulses[worker]
        self._say(f"worker {worker} {how}; what it had goes to others")

    # ------------------------------------------------------------------ what they say

    def _read(self) -> tuple[list[Row], list[JobState]]:
        """What is new in the database, which is still ours after it was waited for."""
        heard = {name: posted.heard for name, posted in self._posted.items()}
        rows = self._queue.rows(self._study, heard=heard)
        states = self._queue.states(self._study)
        self._check_alone()
        return rows, states

    def _post_lost(self, states: Sequence[JobState]) -> None:
        """Posts again what somebody else has taken out of the database."""
        there = {state.name for state in states}
        for name, posted in self._posted.items():
            if name not in there:
                self._say(f"{posted.job.title} is not in the database any more; posted again")
                posted.worker = None
                self._post(posted)

    def _hear(self, rows: Sequence[Row], on_epoch: Callable[[Job, EpochLog], object]) -> None:
        for row in rows:
            posted = self._posted[row.name]
            posted.heard, posted.deaths = row.epoch, 0
            goes_on = on_epoch(posted.job, load_json(EpochLog, row.text)) is not False
            if row.epoch in posted.job.stops:
                posted.is_ended |= not goes_on
                self._queue.grant(self._study, row.name, epoch=row.epoch, goes_on=goes_on)
            elif posted.is_adopted:  # it may ask what an earlier session has decided, but not said
                self._queue.grant(self._study, row.name, epoch=row.epoch, goes_on=True)

    def _look_at(self, state: JobState) -> Done | None:
        """What came of a job, if it has ended; a death of its worker is counted."""
        posted = self._posted.get(state.name)
        if posted is None:  # of an earlier session, which will or will not want it again
            return None
        if state.state == "done" and state.result is not None:
            return self._end(posted, state.result)
        if posted.worker is not None and state.worker != posted.worker:
            posted.deaths += 1
        posted.worker = state.worker
        if posted.deaths < _MOST_DEATHS:
            return None
        self._forget(state.name)
        fault = f"its worker was lost {_MOST_DEATHS} times without an epoch between"
        return Done(job=posted.job, fault=f"{fault}; most likely memory ran out")

    def _end(self, posted: _Posted, text: str) -> Done | None:
        name, result = posted.order.name, load_json(_Result, text)
        if result.bug:
            self._forget(name)
            raise RuntimeError(f"{posted.job.title} failed on its worker:\n{result.bug}")
        if result.outcome is None:
            self._forget(name)
            return Done(job=posted.job, fault=result.fault)
        files = self._queue.files(self._study, name)
        write_files(files, bench=self._bench, order=posted.order)
        if not (result.outcome.is_final or posted.is_ended or self.is_halting):
            # An earlier session has halted it, or its worker was told to leave.
            self._queue.free(self._study, name)
            posted.worker = None
            return None
        self._forget(name)
        return Done(job=posted.job, result=result.outcome, paused_s=result.paused_s)

    def _forget(self, name: str) -> None:
        del self._posted[name]
        self._queue.remove(self._study, name)


def call_workers(
    queue: JobQueue,
    config: Config,
    *,
    bench: Bench,
    faculty: Faculty,
    stopped: Sequence[int],
    say: Callable[[str], object],
    check_alone: Callable[[], None],
) -> RemoteCrew:
    """Tells the workers of a database of a study, and of teachers that were trained for it.

    Args:
        queue: Where they look.
        config: Of the study.
        bench: Where checkpoints and weights are kept.
        faculty: Who teaches.
        stopped: Trials that wait at a rung.
        say: Shows a line to the user.
        check_alone: As `RemoteCrew` takes it.

    Returns:
        The workers, as soon as there are any.
    """
    call = write_call(
        config, data=bench.workshop.data.card, space=bench.workshop.space, faculty=faculty
    )
    files = {path.name: path.read_bytes() for path in faculty.trained}
    queue.open_study(config.study_name, call, files=files)
    return RemoteCrew(
        queue,
        config.study_name,
        bench=bench,
        stopped=[f"trial-{number}" for number in stopped],
        say=say,
        check_alone=check_alone,
    )


@dataclass(frozen=True, kw_only=True)
class _Result:
    """What a worker sends when a job has ended."""

    outcome: Outcome | None
    paused_s: float
    fault: str
    bug: str


def dump_result(
    outcome: Outcome | None = None, *, paused_s: float = 0.0, fault: str = "", bug: str = ""
) -> str:
    """What came of a job, as its worker writes it.

    Args:
        outcome: Of `carry_out`.
        paused_s: How long it stood still.
        fault: Why nothing came of it that lies in the job: `Done.fault`.
        bug: What it raised that nobody has foreseen, with its traceback.

    Returns:
        JSON.
    """
    return dump_json(_Result(outcome=outcome, paused_s=paused_s, fault=fault, bug=bug))


def load_result(text: str) -> tuple[Outcome | None, float]:
    """Outcome and seconds of standing still out of what `dump_result` wrote."""
    result = load_json(_Result, text)
    return result.outcome, result.paused_s


def read_checkpoints(bench: Bench, name: str) -> dict[str, bytes]:
    """The checkpoints of a training on this machine, by the name of the file."""
    return {path.name: path.read_bytes() for path in bench.workshop.checkpoints.files(name)}


def read_student(bench: Bench, order: Order) -> dict[str, bytes]:
    """The files of the trained student of an order, as far as there are any."""
    paths = bench.files_of(order)
    return {name: path.read_bytes() for name, path in paths.items() if path.exists()}


def write_files(files: dict[str, bytes], *, bench: Bench, order: Order) -> None:
    """Puts files of a job where a training on this machine would have put them.

    Args:
        files: Checkpoints by their own names, those of the student as `read_student` names them.
        bench: Whose folders.
        order: That they belong to.
    """
    known = bench.files_of(order)
    for name, content in files.items():
        path = known.get(name, bench.workshop.checkpoints.path / Path(name).name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(content)
        temporary.replace(path)
