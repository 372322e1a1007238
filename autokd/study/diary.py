"""What a tracker is told of the trainings of one student: each is a trial of its own."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import final

from autokd.spaces import Space
from autokd.study.refits import Entry, Refit, without_teacher
from autokd.types import (
    EpochEnded,
    EpochLog,
    Sample,
    Tracker,
    TrialEnded,
    TrialInterrupted,
    TrialResult,
    TrialResumed,
    TrialStarted,
)

__all__ = ["Diary", "number_training"]


def number_training(training: Entry | Refit, *, seed: int) -> int:
    """Under which number a tracker knows a training.

    Even numbers are trainings of the student, odd ones those of its twin, two for each seed: so
    they stay the same when more seeds or the twin are asked for later.

    Args:
        training: Of the only student of a study.
        seed: Of the study.

    Returns:
        The number.
    """
    return 2 * (training.seed - seed - 1) + training.is_twin


@final
class Diary:
    """A `Witness` of the finals that writes them into a tracker, by `number_training`."""

    def __init__(
        self,
        measured: TrialResult,
        *,
        space: Space,
        seed: int,
        tracker: Tracker,
        judge: Callable[[float, float], float],
    ) -> None:
        """Nothing has happened yet.

        Args:
            measured: The student before it is trained.
            space: For its architecture.
            seed: Of the study.
            tracker: Where to write.
            judge: Gives the hypervolume of an accuracy and a latency in ms.
        """
        self._measured, self._tracker, self._judge = measured, tracker, judge
        self._architecture = space.architecture_of(measured.sample)
        self._seed = seed
        self._open: set[int] = set()
        self._results: dict[int, TrialResult] = {}

    @property
    def results(self) -> list[TrialResult]:
        """What is over, by number."""
        return [self._results[number] for number in sorted(self._results)]

    def begin(self, entry: Entry, *, is_resumed: bool) -> None:
        """A training begins, or goes on."""
        number, now = self._number(entry), _now_ms()
        self._open.add(number)
        if is_resumed:
            self._tracker.log(TrialResumed(trial=number, time_ms=now))
        else:
            sample = self._sample(seed=entry.seed, is_twin=entry.is_twin)
            self._tracker.log(TrialStarted(trial=number, sample=sample, time_ms=now))

    def take(self, entry: Entry, row: EpochLog) -> None:
        """An epoch has ended."""
        self._tracker.log(EpochEnded(trial=self._number(entry), epoch=row, time_ms=_now_ms()))

    def end(self, refit: Refit) -> None:
        """A training is over."""
        result = self._build(refit)
        self._open.discard(result.trial)
        self._results[result.trial] = result
        latency_ms = result.latency.median_ms if result.latency else 0.0
        self._tracker.log(
            TrialEnded(
                result=result,
                hypervolume=self._judge(refit.val_accuracy, latency_ms),
                time_ms=_now_ms(),
            )
        )

    def fail(self, entry: Entry, reason: str) -> None:
        """Nothing came of a training."""
        result = dataclasses.replace(
            self._measured,
            trial=self._number(entry),
            state="failed",
            reason=reason,
            sample=self._sample(seed=entry.seed, is_twin=entry.is_twin),
        )
        self._open.discard(result.trial)
        self._tracker.log(TrialEnded(result=result, hypervolume=0.0, time_ms=_now_ms()))

    def remember(self, refits: Sequence[Refit]) -> None:
        """Takes up what was trained in an earlier session, of which the tracker knows."""
        for refit in refits:
            self._results.setdefault(self._number(refit), self._build(refit))

    def close(self) -> None:
        """What is not over was interrupted."""
        for number in sorted(self._open):
            self._tracker.log(TrialInterrupted(trial=number, time_ms=_now_ms()))
        self._open.clear()

    def _build(self, refit: Refit) -> TrialResult:
        recipe = self._measured.recipe
        return dataclasses.replace(
            self._measured,
            trial=self._number(refit),
            state="complete",
            sample=self._sample(seed=refit.seed, is_twin=refit.is_twin),
            recipe=without_teacher(recipe) if recipe is not None and refit.is_twin else recipe,
            val_accuracy=refit.val_accuracy,
            fp32_val_accuracy=refit.float_val_accuracy,
            curve=refit.curve,
            training_s=sum(row.seconds for row in refit.curve),
            engine=refit.engine,
            answers=refit.answers,
        )

    def _sample(self, *, seed: int, is_twin: bool) -> Sample:
        """What tells the trainings of one student apart."""
        return {**self._architecture, "seed": seed, "is_twin": is_twin}

    def _number(self, training: Entry | Refit) -> int:
        return number_training(training, seed=self._seed)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
