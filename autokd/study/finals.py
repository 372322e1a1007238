"""The finals: the front trained again, longer, each beside its twin without distillation.

Students are chosen and re-ranked on the validation split, and where the twin is the better one
there, it takes the student's place; the test split is read here for the first time, once per
trained network.
"""

import dataclasses
import math
import time
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import final

import torch
from scipy import stats

from autokd.candidate import (
    Workshop,
    build_student,
    load_student,
    save_student,
    train_student,
)
from autokd.config import Config
from autokd.data import load_test
from autokd.distillation import Engine, OnEpoch, Student, evaluate
from autokd.errors import WorkerError
from autokd.spaces import Space
from autokd.study.crew import Crew, Job
from autokd.study.folder import StudyFolder
from autokd.study.progress import SearchProgress
from autokd.study.refits import Refit, load_refits
from autokd.types import (
    EpochLog,
    Estimate,
    FrontStudent,
    Recipe,
    TrialResult,
    dump_json,
    load_json,
)

__all__ = ["Finals", "build_front_student", "estimate", "fill_student", "find_weights"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Entry:
    """A training of the finals that is wanted."""

    result: TrialResult
    seed: int
    is_twin: bool

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.result.trial}-{self.seed}-{'twin' if self.is_twin else 'kd'}"

    @property
    def generations(self) -> int:
        """How often the student is trained."""
        recipe = self.result.recipe
        return 1 if self.is_twin or recipe is None else recipe.generations

    @property
    def title(self) -> str:
        """For people."""
        return f"trial {self.result.trial}, seed {self.seed}{', twin' if self.is_twin else ''}"


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
    ours = [refit for refit in refits if not refit.is_twin]
    twins = [refit for refit in refits if refit.is_twin]
    if not twins:  # not distilled: its own twin
        return dataclasses.replace(_fill(student, ours), kd_gain=0.0, kd_gain_ci95=0.0)
    gain = estimate([a.test_accuracy - b.test_accuracy for a, b in zip(ours, twins, strict=True)])
    kept, plain = _fill(student, ours), _fill(student, twins)
    if plain.val_accuracy > kept.val_accuracy:
        kept = dataclasses.replace(plain, recipe=_without_teacher(student.recipe), is_twin=True)
    return dataclasses.replace(kept, kd_gain=gain.mean, kd_gain_ci95=gain.ci95)


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


@final
class Finals:
    """Trains finalists and their twins, and puts what came of it into the front."""

    def __init__(
        self,
        config: Config,
        folder: StudyFolder,
        *,
        workshop: Workshop,
        crew: Crew,
        progress: SearchProgress,
    ) -> None:
        """Nothing is trained yet.

        Args:
            config: Seeds and epochs.
            folder: Where refits are kept, so that an interrupted final goes on.
            workshop: What the study shares.
            crew: Who trains.
            progress: Shows what is trained.
        """
        self._config, self._folder, self._workshop = config, folder, workshop
        self._checkpoints = workshop.checkpoints
        self._crew, self._progress = crew, progress
        self.training_s = 0.0
        self._refits: dict[int, list[Refit]] = {}
        self._test = load_test(config)

    def run(self, results: Sequence[TrialResult]) -> None:
        """Trains whatever is missing; without a refit only asks the test split.

        Args:
            results: The finalists and the baseline; one that is both counts once.
        """
        finalists = list({result.trial: result for result in results}.values())
        if not self._config.refit:
            for result in finalists:
                self._refits[result.trial] = [self._ask_test(result)]
            return
        entries = [
            _Entry(result=result, seed=self._config.seed + 1 + seed, is_twin=is_twin)
            for result in finalists
            for seed in range(self._config.seeds)
            for is_twin in ((False, True) if _is_distilled(result) else (False,))
        ]
        done = {entry.name: self._load(entry) for entry in entries}
        todo = [entry for entry in entries if done[entry.name] is None]
        self._progress.begin(
            "trainings of the finals", total=len(entries), done=len(entries) - len(todo)
        )
        for entry, refit in self._train(todo):
            done[entry.name] = refit
            self._progress.step(done=sum(one is not None for one in done.values()))
        self._progress.end()
        for entry in entries:
            refit = done[entry.name]
            if refit is not None:
                self._refits.setdefault(entry.result.trial, []).append(refit)

    def _train(self, todo: Sequence[_Entry]) -> Generator[tuple[_Entry, Refit]]:
        """Refits as they end, as many side by side as the crew is large."""
        waiting = list(reversed(todo))
        while waiting or self._crew.running:
            if self._crew.is_halting and not self._crew.running:
                raise KeyboardInterrupt  # what was cut off goes on next time
            while (
                waiting and len(self._crew.running) < self._crew.size and not self._crew.is_halting
            ):
                entry = waiting.pop()
                self._crew.start(
                    Job(
                        key=entry, title=entry.title, epochs=self._epochs * entry.generations,
                        work=partial(self._refit, entry),
                    )
                )  # fmt: skip
            done = self._crew.wait(self._show)
            if done.fault:
                raise WorkerError(f"{done.job.title}: {done.fault}")
            refit, seconds = done.result
            self.training_s += seconds / self._crew.size
            if refit is not None:
                self._checkpoints.drop(self._name_training(done.job.key))
                yield done.job.key, refit

    def _show(self, job: Job, row: EpochLog) -> None:
        self._progress.epoch(job.title, row, epochs=job.epochs)

    def rank(self, finalists: Sequence[FrontStudent]) -> list[FrontStudent]:
        """The finalists that no faster one equals on validation, fastest first."""
        refitted = sorted((self.fill(s) for s in finalists), key=lambda s: s.latency_ms)
        best, kept = -1.0, []
        for student in refitted:
            if student.val_accuracy > best:
                best = student.val_accuracy
                kept.append(student)
        return kept

    def fill(self, student: FrontStudent) -> FrontStudent:
        """A student that was in the finals, with what came of it."""
        refits = self._refits[student.trial]
        return fill_student(student, refits) if self._config.refit else _fill(student, refits)

    def fill_twin(self, student: FrontStudent) -> FrontStudent | None:
        """A student that was in the finals, as it is without distillation; none without a refit."""
        twins = [refit for refit in self._refits[student.trial] if refit.is_twin]
        if not twins:
            return None
        plain = dataclasses.replace(student, recipe=_without_teacher(student.recipe))
        return dataclasses.replace(_fill(plain, twins), kd_gain=0.0, kd_gain_ci95=0.0)

    @property
    def _epochs(self) -> int:
        return self._config.refit_epochs or math.ceil(1.5 * self._workshop.plan.epochs)

    def _count_twin_epochs(self, recipe: Recipe) -> int:
        """As many steps as its student has, which may see more pictures, more than once."""
        n_train = len(self._workshop.data.train_images)
        n_more = len(self._workshop.data.unlabelled_images) if recipe.is_distilled else 0
        return round(self._epochs * recipe.generations * (n_train + n_more) / n_train)

    def _load(self, entry: _Entry) -> Refit | None:
        """What an earlier session has trained."""
        path = self._folder.refits / f"{entry.name}.json"
        if not path.exists() or not path.with_suffix(".safetensors").exists():
            return None
        known = load_json(Refit, path.read_text(encoding="utf-8"))
        return known if known.epochs == self._epochs else None

    def _name_training(self, entry: _Entry) -> str:
        """Of its checkpoints; a training of another length is another one."""
        return f"final-{entry.name}-{self._epochs}"

    def _refit(self, entry: _Entry, on_epoch: OnEpoch) -> tuple[Refit | None, float]:
        """One finalist or twin, trained and written to disk unless cut off; the seconds it took."""
        result, data = entry.result, self._workshop.data
        start = time.perf_counter()
        student, recipe = build_student(
            self._workshop.space, result.sample, data=data.card, seed=entry.seed
        )
        epochs = self._count_twin_epochs(recipe) if entry.is_twin else self._epochs
        training = train_student(
            student,
            _without_teacher(recipe) if entry.is_twin else recipe,
            data=data,
            teacher=self._workshop.teachers[recipe.taught_by],
            plan=dataclasses.replace(
                self._workshop.plan,
                epochs=epochs,
                seed=entry.seed,
                engine=self._workshop.engines.get(result.network),
            ),
            on_epoch=on_epoch,
            keepers=self._checkpoints.keepers(self._name_training(entry)),
        )
        seconds = time.perf_counter() - start
        if training.is_stopped:
            return None, seconds
        refit = Refit(
            trial=result.trial,
            seed=entry.seed,
            is_twin=entry.is_twin,
            val_accuracy=training.val_accuracy,
            test_accuracy=self._measure_test(student),
            epochs=self._epochs,
        )
        path = self._folder.refits / f"{entry.name}.json"
        save_student(student, path.with_suffix(".safetensors"))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(dump_json(refit), encoding="utf-8")
        temporary.replace(path)
        return refit, seconds

    def _ask_test(self, result: TrialResult) -> Refit:
        student = load_student(
            self._workshop.space,
            result.sample,
            data=self._workshop.data.card,
            weights=find_weights(self._folder, trial=result.trial, same_as=result.same_as),
        )
        return Refit(
            trial=result.trial,
            seed=self._config.seed,
            is_twin=False,
            val_accuracy=result.val_accuracy or 0.0,
            test_accuracy=self._measure_test(student),
            epochs=self._workshop.plan.epochs,
        )

    def _measure_test(self, student: Student) -> float:
        engine = Engine(device=torch.device("cpu"))
        return evaluate(student, self._test.images, self._test.labels, engine=engine)[1]


def find_weights(
    folder: StudyFolder, *, trial: int, same_as: int | None = None, is_twin: bool = False
) -> Path:
    """The best weights of a trial: of its refit that did best on validation, else its own."""
    refits = load_refits(folder, pattern=f"{trial}-*-{'twin' if is_twin else 'kd'}")
    if refits:
        best = max(refits, key=lambda path: (refits[path].val_accuracy, -refits[path].seed))
        return best.with_suffix(".safetensors")
    return folder.weights / f"trial-{trial if same_as is None else same_as}.safetensors"


def _is_distilled(result: TrialResult) -> bool:
    recipe = result.recipe
    return recipe is not None and (recipe.is_distilled or recipe.is_self_distilled)


def _without_teacher(recipe: Recipe) -> Recipe:
    return dataclasses.replace(
        recipe,
        alpha=0.0,
        alpha_end=0.0,
        alpha_schedule="constant",
        feature_loss="none",
        exits=0,
        generations=1,
    )
