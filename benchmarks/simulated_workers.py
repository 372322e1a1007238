"""A search with many workers in simulated time: only the coordinator's decisions are real."""

import heapq
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import nni
import optuna
from nni.nas.nn.pytorch import ModelSpace
from trained_table import LABELS, OPERATIONS, Table, TableSurveyor, measure_volume

from autokd.spaces import Space
from autokd.study.auto_sampler import AutoSampler
from autokd.study.rungs import REDUCTION, Rungs
from autokd.study.sampling import build_sampler
from autokd.study.trials import Trials
from autokd.surrogate import Advice, Noise
from autokd.types import EpochLog, Latency, Prospect, Sample, TrialResult

RUNG, EPOCHS = 12, 200  # of the table's two trainings
LOOKS = 8  # before each trial, as `autokd.study.sampling` has it
LOOKING_SHARE = 0.1  # of the time, as `autokd.candidate.surveying` has it
NOISE = Noise(n_val=3000)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One simulated search.

    Attributes:
        sampler: As `--sampler` names it.
        has_rungs: Whether trials may be stopped.
        n_workers: That train side by side.
        seed: Of the sampler.
        n_trials: After which it ends at the latest.
        enough: Hypervolume after which it ends.
        training_s: Mean of a full training; half of it grows with the parameters.
        measure_s: Of a network's latency, one after another.
        decide_s: Of each of the coordinator's decisions; measured if none.
    """

    sampler: str
    has_rungs: bool
    n_workers: int
    seed: int
    n_trials: int
    enough: float
    training_s: float
    measure_s: float
    decide_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What came of a simulated search.

    Attributes:
        points: Seconds and hypervolume, after each full training.
        end_s: When it ended.
        n_trials: That were begun.
        n_trained: That were trained to the end.
        deciding_s: That the coordinator thought.
        measuring_s: That it waited for latencies.
        training_s: Of all workers together.
    """

    points: list[tuple[float, float]]
    end_s: float
    n_trials: int
    n_trained: int
    deciding_s: float
    measuring_s: float
    training_s: float


class MeasuringSurveyor:
    """The table's networks, each of which takes time to be looked at once."""

    def __init__(self, table: Table, *, measure_s: float, now: Callable[[], float]) -> None:
        """Has looked at nothing yet.

        Args:
            table: Whose networks they are.
            measure_s: Seconds of a look.
            now: Tells the time, from 0 on.
        """
        self.inner = TableSurveyor(table)
        self._measure_s, self._now = measure_s, now
        self._seen: set[int] = set()
        self.n_fresh = 0

    def survey(self, samples: Sequence[Sample]) -> list[Prospect | None]:
        """What is known of the first of them, as far as the time goes."""
        for index, row in enumerate(map(self.inner.row_of, samples)):
            is_over = self.n_fresh * self._measure_s >= LOOKING_SHARE * self._now()
            if index and is_over and row not in self._seen:
                return self.inner.survey(samples[:index])
            self.look(row)
        return self.inner.survey(samples)

    def look(self, row: int | None) -> None:
        """Counts a network that was not looked at before."""
        if row is not None and row not in self._seen:
            self._seen.add(row)
            self.n_fresh += 1


@dataclass(frozen=True, kw_only=True)
class _Job:
    trial: optuna.Trial
    row: int
    is_short: bool


class _Cell(ModelSpace):
    """The table's networks as a model space of NNI."""

    def __init__(self) -> None:
        super().__init__()
        for label in LABELS:
            self.add_mutable(nni.choice(label, list(OPERATIONS)))


class SimulatedSearch:
    """The steps of `autokd.study.loop` with a clock of its own."""

    def __init__(self, table: Table, setting: Setting) -> None:
        """Begins nothing yet."""
        self._table, self._setting = table, setting
        self._surveyor = MeasuringSurveyor(
            table, measure_s=setting.measure_s, now=lambda: self._now
        )
        space = Space("table", architecture=_Cell(), recipe={})
        stops = (RUNG,) if setting.has_rungs else ()
        advice = Advice(n_surveyed=LOOKS, reduction=REDUCTION, noise=NOISE, seed=setting.seed)
        auto = AutoSampler(self._surveyor, dimensions=space.dimensions, advice=advice, rungs=stops)
        self._trials = Trials(
            "simulated",
            storage=optuna.storages.InMemoryStorage(),
            sampler=build_sampler(setting.sampler, auto=auto, seed=setting.seed),
            space=space,
            referee=auto,
        )
        self._rungs = Rungs(stops, standings=self._trials.standings)
        sizes = table.n_params / table.n_params.mean()
        self._seconds = setting.training_s * (0.5 + 0.5 * sizes)
        self._now = self._deciding_s = self._measuring_s = self._training_s = 0.0
        self._n_idle, self._n_begun = setting.n_workers, 0
        self._events: list[tuple[float, int, _Job]] = []
        self._stopped: dict[int, int] = {}
        self._chosen: list[int] = []
        self._points: list[tuple[float, float]] = []

    def run(self) -> Trace:
        """Trials until there is enough."""
        while not self._is_enough():
            while self._n_idle and self._start_next():
                pass
            if not self._events:
                break
            at, _, job = heapq.heappop(self._events)
            self._now = max(self._now, at)
            self._hear(job)
        return Trace(
            points=self._points,
            end_s=self._now,
            n_trials=self._n_begun,
            n_trained=len(self._chosen),
            deciding_s=self._deciding_s,
            measuring_s=self._measuring_s,
            training_s=self._training_s,
        )

    def _is_enough(self) -> bool:
        return bool(self._points) and self._points[-1][1] >= self._setting.enough

    @contextmanager
    def _deciding(self) -> Generator[None]:
        """The coordinator is busy for as long as the processor was, and as it measures."""
        n_fresh, start = self._surveyor.n_fresh, time.process_time()
        yield
        spent = time.process_time() - start
        given = self._setting.decide_s
        decided = spent if given is None else given
        measured = (self._surveyor.n_fresh - n_fresh) * self._setting.measure_s
        self._deciding_s += decided
        self._measuring_s += measured
        self._now += decided + measured

    def _start_next(self) -> bool:
        """Whether there was something to begin or to go on with."""
        has_budget = self._n_begun < self._setting.n_trials
        if not has_budget and not self._stopped:
            return False
        with self._deciding():
            chosen = self._rungs.next(is_last_call=not has_budget) if self._stopped else None
            if chosen is not None:
                row, trial = self._stopped.pop(chosen.key), self._trials.resume(chosen.key)
            elif has_budget:
                trial, sample = self._trials.begin()
                row = self._surveyor.inner.row_of(sample)
                self._surveyor.look(row)
                self._n_begun += 1
                if row is None or row in self._chosen:  # no network, or trained before
                    self._end(trial, row)
                    return True
            else:
                return False
        self._train(trial, row, is_resumed=chosen is not None)
        return True

    def _train(self, trial: optuna.Trial, row: int, *, is_resumed: bool) -> None:
        is_short = not is_resumed and bool(self._rungs.stops(trial.number))
        share = RUNG / EPOCHS if is_short else 1 - (RUNG / EPOCHS if is_resumed else 0)
        seconds = float(self._seconds[row]) * share
        self._training_s += seconds
        self._n_idle -= 1
        job = _Job(trial=trial, row=row, is_short=is_short)
        order = 2 * trial.number + (not is_short)
        heapq.heappush(self._events, (self._now + seconds, order, job))

    def _hear(self, job: _Job) -> None:
        """A trial has reached its rung or its end."""
        number = job.trial.number
        with self._deciding():
            self._n_idle += 1
            if not job.is_short:
                self._end(job.trial, job.row)
                self._chosen.append(job.row)
                self._points.append((self._now, measure_volume(self._table, self._chosen)))
                return
            self._trials.stop(job.trial, self._result(job.trial, job.row, state="stopped"))
            first = self._rungs.next()
            goes_on = first is not None and first.key == number
            if not goes_on:
                self._rungs.explain(number, epoch=RUNG, epochs=EPOCHS)
                self._stopped[number] = job.row
        if goes_on:
            self._train(self._trials.resume(number), job.row, is_resumed=True)

    def _end(self, trial: optuna.Trial, row: int | None) -> None:
        state = "failed" if row is None else "complete"
        result = self._result(trial, row or 0, state=state)
        self._trials.save(trial, result)
        self._trials.end(trial, result)

    def _result(self, trial: optuna.Trial, row: int, *, state: str) -> TrialResult:
        low = float(self._table.low_accuracies[row])
        n_epochs = RUNG if self._rungs.epochs and state != "failed" else 0
        return TrialResult(
            trial=trial.number,
            state=state,
            sample=dict(trial.params),
            network=str(row),
            val_accuracy=float(self._table.accuracies[row]) if state == "complete" else low,
            latency=replace(LATENCY, median_ms=float(self._table.latencies[row])),
            curve=tuple(replace(EPOCH, epoch=1 + i, val_accuracy=low) for i in range(n_epochs)),
        )


LATENCY = Latency(
    median_ms=1.0, ci95_low_ms=1.0, ci95_high_ms=1.0, p10_ms=1.0, p90_ms=1.0, n_runs=1, batch=1,
    threads=1, runtime="table", device="table", drift=1.0,
)  # fmt: skip
EPOCH = EpochLog(
    epoch=1, train_loss=1.0, val_loss=1.0, val_accuracy=0.5, learning_rate=0.1, alpha=0.5,
    temperature=4.0, seconds=1.0,
)  # fmt: skip
