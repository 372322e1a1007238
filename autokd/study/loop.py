"""The trials of a study, as many side by side as the crew is large."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import final

import optuna

from autokd.candidate import Workshop, screen_candidate, train_candidate
from autokd.config import Config
from autokd.distillation import Engine
from autokd.study.crew import Crew, Done, Job
from autokd.study.progress import SearchProgress
from autokd.study.trials import Trials
from autokd.types import (
    EpochEnded,
    EpochLog,
    Latency,
    Recipe,
    Tracker,
    TrialInterrupted,
    TrialResult,
    TrialStarted,
)

__all__ = ["TrialLoop"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Running:
    """A trial that is being trained."""

    trial: optuna.Trial
    measured: TrialResult


@final
class TrialLoop:
    """Asks for candidates, measures them while nobody trains, has them trained, ends them."""

    def __init__(
        self,
        config: Config,
        *,
        workshop: Workshop,
        trials: Trials,
        crew: Crew,
        tracker: Tracker,
        progress: SearchProgress,
    ) -> None:
        """Begins nothing yet.

        Args:
            config: Budget and limits.
            workshop: What all candidates share.
            trials: Optuna's side.
            crew: Who trains.
            tracker: Told of everything that happens to a trial but its end.
            progress: Shows the epochs.
        """
        self._config, self._workshop, self._trials = config, workshop, trials
        self._crew, self._tracker, self._progress = crew, tracker, progress

    def run(
        self,
        results: Sequence[TrialResult],
        *,
        take: Callable[[TrialResult], None],
        is_late: Callable[[], bool],
    ) -> None:
        """Trials until the budget or the time is used up.

        Args:
            results: Of finished trials; the caller's list, which `take` lets grow.
            take: Given each final result, before Optuna is told.
            is_late: Whether no new trial should begin.

        Raises:
            KeyboardInterrupt: The user stopped it; what was running is back in the queue.
        """
        for result in results:
            self._learn_engine(result)
        try:
            while True:
                while self._has_room(results) and not is_late():
                    self._begin(_known(results), take=take)
                if not self._crew.running:
                    return
                self._end(self._crew.wait(self._show), take=take)
        except KeyboardInterrupt:
            cut_off = [job.key.trial.number for job in self._crew.running]
            self._crew.close()
            self._trials.requeue()
            for number in cut_off:
                self._tracker.log(TrialInterrupted(trial=number, time_ms=_now_ms()))
            raise

    def _has_room(self, results: Sequence[TrialResult]) -> bool:
        n_running = len(self._crew.running)
        return n_running < self._crew.size and len(results) + n_running < self._config.budget

    def _begin(
        self,
        known: Mapping[tuple[str, Recipe], TrialResult],
        *,
        take: Callable[[TrialResult], None],
    ) -> None:
        """Measures the next candidate; whoever is idle trains it if it is worth it."""
        trial, sample = self._trials.begin()
        limit_ms = self._config.max_latency_ms
        self._tracker.log(TrialStarted(trial=trial.number, sample=sample, time_ms=_now_ms()))

        def constrain(latency: Latency) -> None:
            if limit_ms is not None:
                self._trials.constrain(trial, latency, max_latency_ms=limit_ms)

        result = self._trials.saved_result(trial)
        if result is None:
            result = screen_candidate(
                sample, self._workshop, trial=trial.number, known=known, on_measured=constrain
            )
        if result.state != "measured":
            self._finish(trial, result, take=take)
            return
        self._crew.start(
            Job(
                key=_Running(trial=trial, measured=result),
                title=f"trial {trial.number}",
                epochs=self._workshop.plan.epochs
                * (result.recipe.generations if result.recipe else 1),
                work=self._build_work(result),
            )
        )

    def _build_work(
        self, measured: TrialResult
    ) -> Callable[[Callable[[EpochLog], None]], TrialResult]:
        def work(on_epoch: Callable[[EpochLog], None]) -> TrialResult:
            return train_candidate(measured, self._workshop, on_epoch=on_epoch)

        return work

    def _show(self, job: Job, row: EpochLog) -> None:
        number = job.key.trial.number
        self._tracker.log(EpochEnded(trial=number, epoch=row, time_ms=_now_ms()))
        self._progress.epoch(job.title, row, epochs=job.epochs)

    def _end(self, done: Done, *, take: Callable[[TrialResult], None]) -> None:
        running: _Running = done.job.key
        result: TrialResult = done.result
        if done.fault:
            result = dataclasses.replace(running.measured, state="failed", reason=done.fault)
        training_s = max(0.0, result.training_s - done.paused_s)
        self._finish(running.trial, dataclasses.replace(result, training_s=training_s), take=take)

    def _finish(
        self, trial: optuna.Trial, result: TrialResult, *, take: Callable[[TrialResult], None]
    ) -> None:
        """Keeps a result and ends its trial.

        In this order a kill between any two steps loses nothing: a saved result is taken up
        again, and what was told to the tracker is told again.
        """
        self._trials.save(trial, result)
        self._learn_engine(result)
        take(result)
        self._trials.end(trial, result, min_accuracy=self._config.min_accuracy)

    def _learn_engine(self, result: TrialResult) -> None:
        if not result.engine:
            return
        engine = Engine.parse(result.engine)
        if engine.device.type == self._workshop.plan.device.type:  # a study may change devices
            self._workshop.engines[result.network] = engine


def _known(results: Sequence[TrialResult]) -> dict[tuple[str, Recipe], TrialResult]:
    return {
        (result.network, result.recipe): result
        for result in reversed(results)
        if result.state == "complete" and result.recipe is not None
    }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
