"""What a study has found so far: the front, the finalists, the baseline, the hypervolume."""

import math
from collections.abc import Collection, Sequence
from typing import final

from autokd.candidate import explain_int8, explain_slowness
from autokd.config import Config
from autokd.spaces import Space
from autokd.study.finalists import build_front_student, explain_vanity
from autokd.study.finals import Finals
from autokd.study.front import hypervolume, layers, near_front, pareto
from autokd.study.side_by_side import SideBySide
from autokd.types import DataCard, Front, FrontStudent, TeacherCard, TrialResult

__all__ = ["Findings"]

_FINALISTS, _TRIALS_A_FINALIST = 8, 6  # at least 8, or one for 6 trials, where there are as many
_CONTENDERS = 12  # timed again, at least
_APART = 1.03  # latencies nearer to each other tell nothing new


@final
class Findings:
    """Reads the results of a study; the list is the session's and grows."""

    def __init__(
        self,
        config: Config,
        results: Sequence[TrialResult],
        *,
        space: Space,
        data: DataCard,
        teacher: TeacherCard,
    ) -> None:
        """Keeps what the results are compared with."""
        self._config, self._results = config, results
        self._space, self._data, self._teacher = space, data, teacher
        self._timed: Collection[str] | None = None

    def contenders(self) -> list[TrialResult]:
        """What may be on the front if it is timed again, and what that is compared with."""
        chosen = layers(self._able(), min_accuracy=self._config.min_accuracy, n=_CONTENDERS)
        first = self.first()
        return chosen if first is None or first in chosen else [*chosen, first]

    def settle(self, times: SideBySide) -> None:
        """From now on only what was timed together counts, with the latency that it had there."""
        self._results = [times.correct(result) for result in self._results]
        self._teacher = times.correct_teacher(self._teacher)
        self._timed = times.students.keys()

    @property
    def results(self) -> Sequence[TrialResult]:
        """All of them, with the latencies that count."""
        return self._results

    def front(self) -> list[TrialResult]:
        """The Pareto-best results, fastest first, without those that the teacher itself beats."""
        front = pareto(self._able(), min_accuracy=self._config.min_accuracy)
        return [result for result in front if not self._is_beaten_by_teacher(result)] or front

    def _is_beaten_by_teacher(self, result: TrialResult) -> bool:
        is_slower = (
            result.latency is not None and result.latency.median_ms >= self._teacher.latency_ms
        )
        return is_slower and (result.val_accuracy or 0.0) <= self._teacher.val_accuracy

    def finalists(self) -> list[TrialResult]:
        """The front, and what may belong to it as far as the validation split can tell."""
        front = self.front()
        if not self._config.refit:
            return front
        least = self._config.min_accuracy or 0.0
        able = [result for result in self._able() if (result.val_accuracy or 0.0) >= least]
        able = [result for result in able if not self._is_beaten_by_teacher(result)]
        near = near_front(able, front=front, n_val=self._data.n_val)
        wanted = min(_FINALISTS, len(self._results) // _TRIALS_A_FINALIST)
        chosen = list(front)
        for result in near:
            if len(chosen) < wanted and all(_are_apart(result, one) for one in chosen):
                chosen.append(result)
        return chosen

    def baseline(self) -> TrialResult | None:
        """The default student without distillation: the first trial, unless it had to distil."""
        first = self.first()
        if first is None or first.recipe is None:
            return None
        return None if first.recipe.is_taught else first

    def first(self) -> TrialResult | None:
        """The default student, which is the first trial, if it runs on the target."""
        trained = [one for one in self._results if one.state == "complete" and one.latency]
        return next((one for one in trained if one.trial == 0), None)

    def hypervolume(self) -> float:
        """Of the front so far."""
        return self._volume([self._build(result) for result in self.front()])

    def build_front(self, finals: Finals | None, *, wall_s: float, training_s: float) -> Front:
        """The front as a value.

        Args:
            finals: After which the finalists are ranked anew, with test accuracies.
            wall_s: Wall time of the study.
            training_s: The part of it that was training.

        Returns:
            What `autokd front` shows.
        """
        if finals is None:
            students = [self._build(result) for result in self.front()]
        else:
            students = finals.rank([self._build(result) for result in self.finalists()])
        baseline = None if (plain := self.baseline()) is None else self._build(plain)
        if baseline is not None and finals is not None:
            baseline = finals.fill(baseline) if finals.has(baseline.trial) else None
        elif finals is not None and (first := self.first()) is not None:
            baseline = finals.fill_twin(self._build(first))
        if baseline is not None and not math.isfinite(baseline.latency_ms):
            baseline = None  # its file cannot be timed
        return Front(
            study=self._config.study_name,
            n_trials=len(self._results),
            n_failed=sum(result.state == "failed" for result in self._results),
            n_pruned=sum(result.state == "pruned" for result in self._results),
            n_stopped=sum(result.state == "stopped" for result in self._results),
            wall_s=wall_s,
            training_s=training_s,
            hypervolume=self._volume(students),
            teacher=self._teacher,
            baseline=baseline,
            students=tuple(students),
        )

    def describe_past(self, limit_ms: float | None) -> str:
        """What earlier sessions have left, in one line.

        Args:
            limit_ms: Of today; none if none.

        Returns:
            How many trials, and how many of them today's limit would not bar.
        """
        line = f"going on after {len(self._results)} finished trials"
        n_barred = sum(
            one.state == "pruned"
            and one.latency is not None
            and not explain_int8(one.latency, one.fp32_latency)
            and not explain_slowness(one.latency, max_latency_ms=limit_ms)
            for one in self._results
        )
        if n_barred:
            line += (
                f"; {n_barred} were not trained under an earlier latency limit and would be today: "
                "a larger --budget tries others, another --study begins anew"
            )
        return line

    def describe_misery(self) -> str:
        """Why there is no front, in one line."""
        config, results = self._config, self._results
        if not results and config.timeout_s is not None:
            return (
                f"`--timeout` must leave time for a trial, got {config.timeout_s:g} s, which the "
                "study has used up; pass a longer --timeout"
            )
        compared = [result.latency for result in self._compared()]
        times = [latency.median_ms for latency in compared if latency is not None]
        able = [result for result in self._able() if result.state == "complete"]
        accuracies = [r.val_accuracy for r in able if r.val_accuracy is not None]
        if config.max_latency_ms is not None and min(times, default=0.0) > config.max_latency_ms:
            return (
                f"`--max-latency-ms` must be met by a student, got {config.max_latency_ms:g}; "
                f"the fastest of {len(times)} takes {min(times):.4g} ms"
            )
        if config.min_accuracy is not None and accuracies:
            within = "" if config.max_latency_ms is None else " within --max-latency-ms"
            return (
                f"`--min-accuracy` must be met by a student, got {config.min_accuracy:g}; "
                f"the best of {len(accuracies)}{within} reaches {max(accuracies):.4g}"
            )
        if line := _explain_int8(results):
            return line
        reasons = sorted({result.reason for result in results if result.reason})
        return f"no student could be trained in {len(results)} trials: {'; '.join(reasons)}"

    def _able(self) -> list[TrialResult]:
        """Results within the latency limit, which may be another one than in a session before."""
        limit = self._config.max_latency_ms
        return [
            result
            for result in self._compared()
            if limit is None or result.latency is None or result.latency.median_ms <= limit
        ]

    def _compared(self) -> Sequence[TrialResult]:
        """All results, and after they were timed together only those."""
        if self._timed is None:
            return self._results
        return [result for result in self._results if result.artefact in self._timed]

    def _build(self, result: TrialResult) -> FrontStudent:
        return build_front_student(result, space=self._space, teacher_ms=self._teacher.latency_ms)

    def _volume(self, students: Sequence[FrontStudent]) -> float:
        return hypervolume(
            [(student.val_accuracy, student.latency_ms) for student in students],
            chance=1 / self._data.n_classes,
            teacher_ms=self._teacher.latency_ms,
        )


def _explain_int8(results: Sequence[TrialResult]) -> str:
    """What is said where no student was faster in INT8; empty where that is not what happened."""
    lost = {
        one.trial: one.latency.median_ms / one.fp32_latency.median_ms
        for one in results
        if one.state == "pruned" and one.latency is not None and one.fp32_latency is not None
    }
    return explain_vanity(lost) if lost and len(lost) == len(results) else ""


def _are_apart(one: TrialResult, other: TrialResult) -> bool:
    """Whether two latencies differ by more than a few percent."""
    if one.latency is None or other.latency is None:
        return False
    times = sorted((one.latency.median_ms, other.latency.median_ms))
    return times[1] > times[0] * _APART
