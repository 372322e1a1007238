"""The finals: the front trained again, longer, each beside its twin without distillation.

Students are chosen and re-ranked on the validation split, and where the twin is the better one
there, it takes the student's place; the test split is read here for the first time, once per
trained network.
"""

import math
from collections.abc import Collection, Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, final, runtime_checkable

from autokd.candidate import count_rounding_epochs, load_student
from autokd.config import Config
from autokd.errors import ConstraintError, WorkerError
from autokd.study.crew import Crew, Job
from autokd.study.engines import explain_mixture, settle_engines
from autokd.study.finalists import (
    compare_with_twin,
    explain_vanity,
    fill,
    fill_student,
    retime_student,
)
from autokd.study.folder import StudyFolder
from autokd.study.orders import Bench, Order, Outcome, carry_out
from autokd.study.progress import SearchProgress
from autokd.study.refits import (
    Entry,
    Refit,
    keep_refit,
    load_refit,
    measure_test,
    name_weights,
)
from autokd.types import EpochLog, FrontStudent, TrialResult

__all__ = ["Finals", "Witness"]


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

    def fail(self, entry: Entry, reason: str) -> None:
        """Nothing came of a training."""
        ...


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
        self._finalists: dict[int, TrialResult] = {}
        self._refits: dict[int, list[Refit]] = {}
        self._faults: dict[Entry, str] = {}
        self._ratios: dict[tuple[int, bool], float] = {}

    def run(self, results: Sequence[TrialResult], *, baseline: TrialResult | None = None) -> None:
        """Trains whatever is missing; without a refit only asks the test split.

        Args:
            results: The finalists.
            baseline: Trained beside them, if any; one that is both counts once.

        Raises:
            KeyboardInterrupt: The user has halted the crew before all were trained.
            WorkerError: Not one of the finalists could be trained.
        """
        finalists = {result.trial: result for result in results}
        if baseline is not None:
            finalists.setdefault(baseline.trial, baseline)
        self._finalists = finalists
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
        todo = [entry for entry in entries if done[entry] is None]
        self._progress.begin(
            "trainings of the finals", total=len(entries), done=len(entries) - len(todo)
        )
        self._collect()
        if todo:
            self._bench.test()  # once, before the processes that need it are made
        for entry, refit in self._train(self._order(todo, finalists, done=done)):
            done[entry] = refit
            n_over = sum(one is not None for one in done.values()) + len(self._faults)
            self._progress.step(done=n_over)
        self._progress.end()
        if any(refit is None and entry not in self._faults for entry, refit in done.items()):
            raise KeyboardInterrupt  # the user has halted the last of them; they go on next time
        self._remember(done)
        if not any(self.has(result.trial) for result in results):  # whatever came of the baseline
            reasons = self._explain_faults([result.trial for result in results])
            raise WorkerError(f"none of the finalists could be trained again: {reasons}")

    def _explain_faults(self, trials: Collection[int]) -> str:
        faults = {why for entry, why in self._faults.items() if entry.trial in trials}
        return "; ".join(sorted(faults))

    def _order(
        self,
        todo: Sequence[Entry],
        finalists: Mapping[int, TrialResult],
        *,
        done: Mapping[Entry, Refit | None],
    ) -> list[Order]:
        """Trainings that are wanted, those of one student computed alike."""
        trained: dict[int, str] = {}
        for entry, refit in done.items():
            if refit is not None and refit.engine:
                trained.setdefault(entry.trial, refit.engine)
        wanted = {entry.trial: finalists[entry.trial] for entry in todo}
        settled = settle_engines(
            list(wanted.values()),
            bench=self._bench,
            crew=self._crew,
            folder=self._folder,
            trained=trained,
            is_alone=len(todo) == 1,
        )
        return [Order(result=settled[entry.trial], refit=entry) for entry in todo]

    def _remember(self, done: Mapping[Entry, Refit | None]) -> None:
        """Keeps what came of the trainings, and says where they cannot be compared."""
        for entry, refit in done.items():
            if refit is not None:
                self._refits.setdefault(entry.trial, []).append(refit)
        for refits in self._refits.values():
            if warning := explain_mixture(refits, folder=self._folder):
                self._progress.say(warning)

    def has(self, trial: int) -> bool:
        """Whether a trial was in the finals and was trained to its end with a seed at least."""
        return any(not refit.is_twin for refit in self._refits.get(trial, ()))

    def _train(self, todo: Sequence[Order]) -> Generator[tuple[Entry, Refit]]:
        """Refits as they end, as many side by side as the crew is large; no failed ones."""
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
            outcome: Outcome = Outcome(fault=done.fault) if done.fault else done.result
            entry: Entry = done.job.key
            self._collect()
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
            elif outcome.fault:
                self._faults[entry] = outcome.fault
                self._bench.workshop.checkpoints.drop(entry.training)
                self._progress.say(f"{entry.title} is left out: {outcome.fault}")
                if self._witness is not None:
                    self._witness.fail(entry, outcome.fault)

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

    def _collect(self) -> None:
        """Keeps the checkpoints under their limit; a training without one begins anew if ever."""
        needed = [job.key.training for job in self._crew.running]
        gone = self._bench.workshop.checkpoints.collect(needed=needed)
        if gone:
            self._progress.say(f"checkpoints over the limit, not kept: {', '.join(gone)}")

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
            Fastest first; those that miss a limit of the user's after all only where all do,
            which is said.
            Who could not be trained again is left out, and who is no faster than in FP32; where
            all are, they are taken as the search left them.
        """
        able = [student for student in finalists if self.has(student.trial)]
        refitted = [one for one in map(self.fill, able) if not one.is_vain]
        if able and not refitted:
            refitted = self._recall_static(able)
        within = [student for student in refitted if self._is_within(student)]
        if refitted and not within:
            self._progress.say(
                "warning: trained again, no finalist is within --max-latency-ms and --min-accuracy "
                "any more; they are shown all the same"
            )
        refitted = within or refitted
        kept: list[FrontStudent] = []
        for student in sorted(refitted, key=lambda s: (-s.val_accuracy, s.latency_ms)):
            if not kept or student.is_faster_than(kept[-1]):
                kept.append(student)
        return kept[::-1]

    def _recall_static(self, students: Sequence[FrontStudent]) -> list[FrontStudent]:
        """Students whose file became too slow when it was trained on, with that of the search.

        Args:
            students: As the search left them.

        Returns:
            Those that were faster than in FP32 then.

        Raises:
            ConstraintError: There are none.
        """
        faster = [student for student in students if not student.is_vain]
        if not faster:
            ratios = {one.trial: one.latency_ms / (one.fp32_latency_ms or 1.0) for one in students}
            raise ConstraintError(explain_vanity(ratios))
        self._progress.say(
            "warning: trained on, no finalist is faster in INT8 than in FP32; those of the search "
            "are taken, trained for fewer epochs"
        )
        return [fill(one, [self._ask_test(self._finalists[one.trial])]) for one in faster]

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
        filled = fill_student(student, refits) if self._config.refit else fill(student, refits)
        return retime_student(filled, self._ratios.get((student.trial, filled.is_twin), 1.0))

    def fill_twin(self, student: FrontStudent) -> FrontStudent | None:
        """A student that was in the finals, as it is without distillation; none without a refit."""
        if not self.has(student.trial):
            return None
        twin = compare_with_twin(student, self._refits[student.trial])[1]
        ratio = self._ratios.get((student.trial, True), 1.0)
        return None if twin is None else retime_student(twin, ratio)

    def rounded(self) -> dict[tuple[int, bool], Path]:
        """Weights whose INT8 file came of quantization-aware training, and so is a new one.

        Returns:
            By trial, and whether it is its twin: of the seed that did best on validation.
        """
        best: dict[tuple[int, bool], Refit] = {}
        for refits in self._refits.values():
            for refit in refits:
                key = refit.trial, refit.is_twin
                if key not in best or refit.val_accuracy > best[key].val_accuracy:
                    best[key] = refit
        return {
            key: self._folder.path / refit.file for key, refit in best.items() if refit.is_aware
        }

    @property
    def _epochs(self) -> int:
        return self._config.refit_epochs or math.ceil(1.5 * self._bench.workshop.plan.epochs)

    def _ask_test(self, result: TrialResult) -> Refit:
        workshop = self._bench.workshop
        weights = self._folder.path / name_weights(result)  # what was validated
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
            weights=name_weights(result),
        )


def _is_distilled(result: TrialResult) -> bool:
    recipe = result.recipe
    return recipe is not None and recipe.is_taught
