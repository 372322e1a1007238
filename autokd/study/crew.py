"""Who trains: the jobs, what a crew promises, and the crew that is this process itself."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable

from autokd.distillation import OnEpoch
from autokd.study.orders import Order
from autokd.study.stillness import known_as_training
from autokd.types import EpochLog

__all__ = ["Crew", "Done", "InlineCrew", "Job"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """Something to train.

    Attributes:
        key: What it is, for whoever started it; not looked at.
        title: For people.
        epochs: It will take, for people.
        is_wide: Whether it may use all cores, having no other job beside it.
        work: Trains; calls its argument after each epoch, ends if that gives `False`, and gives
            something that can be pickled.
        stops: Epochs after which it asks whether to go on.
        order: The same as a value, which can be carried out on another machine; none where the
            work can only be done here.
    """

    key: Any
    title: str
    epochs: int
    work: Callable[[OnEpoch], object]
    is_wide: bool = False
    stops: Collection[int] = ()
    order: Order | None = None


@dataclass(frozen=True, kw_only=True)
class Done:
    """A job that has ended.

    Attributes:
        job: Which.
        result: What its work gave; none where there is a fault.
        fault: Why nothing came of it: its process was killed again and again without an epoch
            between.
        paused_s: How long it was stopped, so that something else could be timed.
    """

    job: Job
    result: Any = None
    fault: str = ""
    paused_s: float = 0.0


@runtime_checkable
class Crew(Protocol):
    """Takes jobs as long as `n_idle` is above 0, and gives them back done in any order."""

    @property
    def size(self) -> int:
        """How many jobs can run side by side."""
        ...

    @property
    def running(self) -> Sequence[Job]:
        """Jobs that were started and not given back yet."""
        ...

    def start(self, job: Job) -> None:
        """Begins a job."""
        ...

    @property
    def is_halting(self) -> bool:
        """Whether nothing new should be started."""
        ...

    def wait(
        self, on_epoch: Callable[[Job, EpochLog], object], *, patience_s: float | None = None
    ) -> Done | None:
        """Waits for a job to end, telling of epochs meanwhile; `False` ends it at its stops.

        None where patience is at its end, or where the crew has grown.
        """
        ...

    def halt(self) -> None:
        """Has each job end after the epoch that it is in; may be called by a signal's handler."""
        ...

    def close(self) -> None:
        """Ends what is still running; nothing comes of it."""
        ...

    def dismiss(self) -> None:
        """The study is over: whoever waits for jobs of it need not any more."""
        ...


@final
class InlineCrew:
    """This process, one job at a time."""

    size = 1

    def __init__(self) -> None:
        """Nothing runs yet."""
        self._jobs: list[Job] = []
        self.is_halting = False

    @property
    def running(self) -> Sequence[Job]:
        """The job that `wait` will do."""
        return tuple(self._jobs)

    def start(self, job: Job) -> None:
        """Keeps the job for `wait`."""
        self._jobs.append(job)

    def wait(
        self, on_epoch: Callable[[Job, EpochLog], object], *, patience_s: float | None = None
    ) -> Done:
        """Does the job, however long it takes."""
        del patience_s
        job = self._jobs[0]

        def tell(row: EpochLog) -> bool:
            row = training.without_pauses(row)
            is_over = on_epoch(job, row) is False and row.epoch in job.stops
            return not (is_over or self.is_halting)

        with known_as_training() as training:
            result = job.work(tell)
            paused_s = training.paused_s
        self._jobs.remove(job)
        return Done(job=job, result=result, paused_s=paused_s)

    def halt(self) -> None:
        """Ends the job after its epoch."""
        self.is_halting = True

    def close(self) -> None:
        """Forgets the job."""
        self._jobs.clear()

    def dismiss(self) -> None:
        """Nobody waits."""
