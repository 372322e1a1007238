"""The finals: the front trained again, longer, each beside its twin without distillation.

Students are chosen and re-ranked on the validation split, and where the twin is the better one
there, it takes the student's place; the test split is read here for the first time, once per
trained network.
"""

import dataclasses
import math
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Protocol, final, runtime_checkable

from scipy import stats

from autokd.candidate import count_rounding_epochs, load_student
from autokd.config import Config
from autokd.errors import WorkerError
from autokd.spaces import Space
from autokd.study.crew import Crew, Job
from autokd.study.folder import StudyFolder
from autokd.study.orders import Bench, Order, Outcome, carry_out
from autokd.study.progress import SearchProgress
from autokd.study.refits import (
    Entry,
    Refit,
    keep_refit,
    load_refit,
    measure_test,
    without_teacher,
)
from autokd.types import EpochLog, Estimate, FrontStudent, TrialResult

__all__ = [
    "Finals",
    "Witness",
    "build_front_student",
    "compare_with_twin",
    "estimate",
    "fill_student",
    "is_vain",
    "retime_student",
]


@runtime_checkable
class Witness(Protocol):
    """Is told what happens to each training of the finals."""

    def begin(self, entry: Entry, *, is_resumed: bool) -> None:
        """A training begins, or goes on."""
        ...

    def take(self, entry: Entry, row: EpochLog) -> None:
        """An epoch has ended."""
        ...

    def end(self, refit: Refit) -> None:
        """A training is over; what came of it is not kept yet."""
        ...


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and half-width of the 95 % t-interval; none of it for a single value."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return Estimate(mean=mean, ci95=None, n=len(values))
    spread = float(stats.sem(values))
    width = float(stats.t.ppf(0.975, len(values) - 1)) * spread
    return Estimate(mean=mean, ci95=width, n=len(values))


def build_front_student(result: TrialResult, *, space: Space, teacher_ms: float) -> FrontStudent:
    """A row of the front from a complete result of the search, without test accuracy.

    Args:
        result: A complete one.
        space: For its architecture.
        teacher_ms: Latency of the teacher.

    Returns:
        The row.

    Raises:
        ValueError: The result is not complete.
    """
    latency, footprint, recipe = result.latency, result.footprint, result.recipe
    if latency is None or footprint is None or recipe is None or result.val_accuracy is None:
        raise ValueError(f"`result` must be complete, got trial {result.trial} {result.state}")
    return FrontStudent(
        trial=result.trial,
        val_accuracy=result.val_accuracy,
        latency_ms=latency.median_ms,
        latency_ci95_ms=(latency.ci95_low_ms, latency.ci95_high_ms),
        speed_up=teacher_ms / latency.median_ms,
        n_params=footprint.n_params,
        macs=footprint.macs,
        size_bytes=footprint.size_bytes,
        architecture=space.architecture_of(result.sample),
        recipe=recipe,
        fp32_latency_ms=None if result.fp32_latency is None else result.fp32_latency.median_ms,
    )


def fill_student(student: FrontStudent, refits: Sequence[Refit]) -> FrontStudent:
    """A student of the search, with what came of its trainings in the finals.

    Args:
        student: As the search left it.
        refits: Its own and those of its twin without distillation, in the order of their seeds.

    Returns:
        The student, or its twin if that is more accurate on validation, mean against mean; either
        with the gain by distillation on the test split, which is negative where it costs something.
    """
    kept, plain = compare_with_twin(student, refits)
    if plain is None:  # not distilled: its own twin
        return dataclasses.replace(kept, kd_gain=0.0, kd_gain_ci95=0.0)
    if plain.val_accuracy > kept.val_accuracy:
        gain = {"kd_gain": kept.kd_gain, "kd_gain_ci95": kept.kd_gain_ci95}
        return dataclasses.replace(plain, **gain, is_twin=True)
    return kept


def compare_with_twin(
    student: FrontStudent, refits: Sequence[Refit]
) -> tuple[FrontStudent, FrontStudent | None]:
    """A student and its twin without distillation, with what came of their trainings.

    Args:
        student: What is known before.
        refits: Of both, in the order of their seeds.

    Returns:
        The student, with the gain on the test split if it has a twin; and the twin, if any.
    """
    ours = [refit for refit in refits if not refit.is_twin]
    twins = [refit for refit in refits if refit.is_twin]
    kept = _fill(student, ours)
    if not twins:
        return kept, None
    gain = estimate([a.test_accuracy - b.test_accuracy for a, b in zip(ours, twins, strict=True)])
    plain = dataclasses.replace(student, recipe=without_teacher(student.recipe))
    return (
        dataclasses.replace(kept, kd_gain=gain.mean, kd_gain_ci95=gain.ci95),
        dataclasses.replace(_fill(plain, twins), kd_gain=0.0, kd_gain_ci95=0.0),
    )


def _fill(student: FrontStudent, refits: Sequence[Refit]) -> FrontStudent:
    """Its accuracies over these trainings."""
    test = estimate([refit.test_accuracy for refit in refits])
    return dataclasses.replace(
        student,
        val_accuracy=estimate([refit.val_accuracy for refit in refits]).mean,
        test_accuracy=test.mean,
        test_accuracy_ci95=test.ci95,
        n_seeds=test.n,
    )


def retime_student(student: FrontStudent, ratio: float) -> FrontStudent:
    """A student whose file is another one than that which was timed.

    Args:
        student: As it was timed.
        ratio: The time of its file now over that of the one before.

    Returns:
        It, with the time of its file.
    """
    low, high = student.latency_ci95_ms
    return dataclasses.replace(
        student,
        latency_ms=student.latency_ms * ratio,
        latency_ci95_ms=(low * ratio, high * ratio),
        speed_up=student.speed_up / ratio,
    )


def is_vain(student: FrontStudent) -> bool:
    """Whether a student is in INT8 and no faster than it would be in FP32."""
    own_ms = student.fp32_latency_ms
    return own_ms is not None and student.latency_ms >= own_ms


@final
class Finals:
    """Trains finalists and their twins, and puts what came of it into the front."""

    def __init__(
        self,
        config: Config,
        folder: StudyFolder,
        *,
        bench: Bench,
        crew: Crew,
        progress: SearchProgress,
        witness: Witness | None = None,
        has_twins: bool = True,
    ) -> None:
        """Nothing is trained yet.

        Args:
            config: Seeds and epochs.
            folder: Where refits are kept, so that an interrupted final goes on.
            bench: Where they are trained if the crew does it here.
            crew: Who trains.
            progress: Shows what is trained.
            witness: Told of each training, if any.
            has_twins: Whether students that distil are trained without a teacher, too.
        """
        self._config, self._folder, self._bench = config, folder, bench
        self._crew, self._progress = crew, progress
        self._witness, self._has_twins = witness, has_twins
        self.training_s = 0.0
        self._refits: dict[int, list[Refit]] = {}
        self._ratios: dict[tuple[int, bool], float] = {}

    def run(self, results: Sequence[TrialResult]) -> None:
        """Trains whatever is missing; without a refit only asks the test split.

        Args:
            results: The finalists and the baseline; one that is both counts once.

        Raises:
            KeyboardInterrupt: The user has halted the crew before all were trained.
        """
        finalists = {result.trial: result for result in results}
        if not self._config.refit:
            for result in finalists.values():
                self._refits[result.trial] = [self._ask_test(result)]
            return
        entries = [
            Entry(trial=result.trial, seed=self._config.seed + 1 + seed, is_twin=is_twin,
                  epochs=self._epochs)
            for result in finalists.values()
            for seed in range(self._config.seeds)
            for is_twin in (
                (False, True) if self._has_twins and _is_distilled(result) else (False,)
            )
        ]  # fmt: skip
        done = {entry: load_refit(self._folder, entry) for entry in entries}
        todo = [
            Order(result=finalists[entry.trial], refit=entry)
            for entry in entries
            if done[entry] is None
        ]
        self._progress.begin(
            "trainings of the finals", total=len(entries), done=len(entries) - len(todo)
        )
        if todo:
            self._bench.test()  # once, before the processes that need it are made
        for entry, refit in self._train(todo):
            done[entry] = refit
            self._progress.step(done=sum(one is not None for one in done.values()))
        self._progress.end()
        if None in done.values():  # the user has halted the last of them; they go on next time
            raise KeyboardInterrupt
        for entry, refit in done.items():
            if refit is not None:
                self._refits.setdefault(entry.trial, []).append(refit)

    def _train(self, todo: Sequence[Order]) -> Generator[tuple[Entry, Refit]]:
        """Refits as they end, as many side by side as the crew is large."""
        waiting = list(reversed(todo))
        while waiting or self._crew.running:
            if self._crew.is_halting and not self._crew.running:
                raise KeyboardInterrupt  # what was cut off goes on next time
            while (
                waiting and len(self._crew.running) < self._crew.size and not self._crew.is_halting
            ):
                self._start(waiting.pop(), is_alone=len(todo) == 1)
            done = self._crew.wait(self._show)
            if done is None:
                continue
            if done.fault:
                raise WorkerError(f"{done.job.title}: {done.fault}")
            outcome: Outcome = done.result
            entry: Entry = done.job.key
            self.training_s += outcome.seconds / self._crew.size
            if outcome.refit is not None:
                if self._witness is not None:
                    self._witness.end(outcome.refit)
                keep_refit(self._folder, entry, outcome.refit)
                self._bench.workshop.checkpoints.drop(entry.training)
                if outcome.refit.why_not_aware:
                    self._progress.say(
                        f"{entry.title}: quantized as it is, since {outcome.refit.why_not_aware}"
                    )
                yield entry, outcome.refit

    def _start(self, order: Order, *, is_alone: bool) -> None:
        entry, recipe = order.refit, order.result.recipe
        if entry is None:
            raise ValueError("`order` must be of the finals, got one of a trial")
        if self._witness is not None:
            is_resumed = entry.training in self._bench.workshop.checkpoints
            self._witness.begin(entry, is_resumed=is_resumed)
        generations = 1 if entry.is_twin or recipe is None else recipe.generations
        is_int8 = order.result.precision == "int8"
        n_rounding = count_rounding_epochs(entry.epochs) if is_int8 else 0
        self._crew.start(
            Job(
                key=entry,
                title=entry.title,
                epochs=entry.epochs * generations + n_rounding,
                is_wide=is_alone,
                work=partial(carry_out, order, self._bench),
                order=order,
            )
        )

    def _show(self, job: Job, row: EpochLog) -> None:
        if self._witness is not None:
            self._witness.take(job.key, row)
        self._progress.epoch(job.title, row, epochs=job.epochs)

    def refits_of(self, trial: int) -> Sequence[Refit]:
        """What came of a finalist and of its twin, in the order of their seeds."""
        return self._refits[trial]

    def rank(self, finalists: Sequence[FrontStudent]) -> list[FrontStudent]:
        """The finalists that are surely faster than those that equal them on validation.

        Args:
            finalists: As the search left them.

        Returns:
            Fastest first; those that miss a limit of the user's after all only where all do.
        """
        refitted = [self.fill(student) for student in finalists]
        refitted = [student for student in refitted if not is_vain(student)] or refitted
        refitted = [student for student in refitted if self._is_within(student)] or refitted
        kept: list[FrontStudent] = []
        for student in sorted(refitted, key=lambda s: (-s.val_accuracy, s.latency_ms)):
            if not kept or student.is_faster_than(kept[-1]):
                kept.append(student)
        return kept[::-1]

    def _is_within(self, student: FrontStudent) -> bool:
        """Whether it meets the user's limits still, over all its seeds and with its last file."""
        limit_ms, least = self._config.max_latency_ms, self._config.min_accuracy
        is_fast = limit_ms is None or student.latency_ms <= limit_ms
        return is_fast and (least is None or student.val_accuracy >= least)

    def retime(self, ratios: Mapping[tuple[int, bool], float]) -> None:
        """Corrects latencies of finalists whose file is another one now.

        Args:
            ratios: By trial, and whether it is its twin: the new time over the old one.
        """
        self._ratios = dict(ratios)

    def fill(self, student: FrontStudent) -> FrontStudent:
        """A student that was in the finals, with what came of it."""
        refits = self._refits[student.trial]
        filled = fill_student(student, refits) if self._config.refit else _fill(student, refits)
        return retime_student(filled, self._ratios.get((student.trial, filled.is_twin), 1.0))

    def fill_twin(self, student: FrontStudent) -> FrontStudent | None:
        """A student that was in the finals, as it is without distillation; none without a refit."""
        twins = [refit for refit in self._refits[student.trial] if refit.is_twin]
        return compare_with_twin(student, self._refits[student.trial])[1] if twins else None

    @property
    def _epochs(self) -> int:
        return self._config.refit_epochs or math.ceil(1.5 * self._bench.workshop.plan.epochs)

    def _ask_test(self, result: TrialResult) -> Refit:
        workshop = self._bench.workshop
        number = result.trial if result.same_as is None else result.same_as
        weights = self._folder.weights / f"trial-{number}.safetensors"  # what was validated
        student = load_student(
            workshop.space, result.sample, data=workshop.data.card, weights=weights
        )
        return Refit(
            trial=result.trial,
            seed=self._config.seed,
            is_twin=False,
            val_accuracy=result.val_accuracy or 0.0,
            test_accuracy=measure_test(
                student, self._bench.test(), weights=weights, precision=result.precision
            ),
            epochs=workshop.plan.epochs,
        )


def _is_distilled(result: TrialResult) -> bool:
    recipe = result.recipe
    return recipe is not None and (recipe.is_distilled or recipe.is_self_distilled)
