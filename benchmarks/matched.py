"""Trainings that differ in one thing: the same student, seeds and schedule, side by side.

Shared by the benchmarks of accuracy; run none of it itself.
"""

import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from autokd.candidate import KnownTeacher, build_student, train_student
from autokd.config import Config
from autokd.data import SearchData, TestData, load_data, load_test
from autokd.distillation import Engine, Plan, evaluate
from autokd.latency import StopwatchTarget, device_fingerprint, library_versions
from autokd.spaces import Space, build_space
from autokd.study.crew import Crew, Job
from autokd.study.crews import build_crew
from autokd.study.finalists import estimate
from autokd.study.progress import SearchProgress
from autokd.study.teaching import Faculty, build_teachers
from autokd.types import EpochLog, Recipe, Sample

__all__ = ["Bench", "Lesson", "Outcome", "describe_machine", "gain", "open_bench"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lesson:
    """One way of training.

    Attributes:
        name: Unique in a table.
        recipe: How.
        teacher: By whom, of the bench's teachers.
        sample: Which student.
        epochs: How long.
    """

    name: str
    recipe: Recipe
    teacher: KnownTeacher | None
    sample: Sample
    epochs: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a lesson with one seed."""

    name: str
    seed: int
    val_accuracy: float
    test_accuracy: float
    n_params: int
    step_ms: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """Data, students and teachers that lessons share."""

    config: Config
    data: SearchData
    test: TestData
    space: Space
    faculty: Faculty
    crew: Crew
    batch_size: int

    @property
    def device(self) -> torch.device:
        """Where teachers and students are trained."""
        return torch.device(self.config.device)

    def run(self, lessons: Sequence[Lesson], *, seeds: int) -> dict[str, list[Outcome]]:
        """Every lesson with every seed, as many at once as there are cores."""
        waiting = [(lesson, seed) for seed in range(seeds) for lesson in lessons][::-1]
        n_jobs, start = len(waiting), time.monotonic()
        outcomes: dict[str, list[Outcome]] = {lesson.name: [] for lesson in lessons}
        console = Console(stderr=True, highlight=False)
        while waiting or self.crew.running:
            while waiting and len(self.crew.running) < self.crew.size:
                lesson, seed = waiting.pop()
                work = partial(self._train, lesson, seed)
                title = f"{lesson.name}, seed {seed}"
                self.crew.start(Job(key=lesson, title=title, epochs=lesson.epochs, work=work))
            done = self.crew.wait(lambda _job, _row: None)
            if done.fault:
                sys.exit(f"{done.job.title}: {done.fault}")
            outcome: Outcome = done.result
            outcomes[outcome.name].append(outcome)
            n_done = sum(map(len, outcomes.values()))
            left = (time.monotonic() - start) / n_done * (n_jobs - n_done)
            console.print(
                f"{done.job.title}: {outcome.test_accuracy:.2%}   {n_done}/{n_jobs}, "
                f"{left / 60:.0f} min left"
            )
        for rows in outcomes.values():
            rows.sort(key=lambda row: row.seed)
        return outcomes

    def _train(self, lesson: Lesson, seed: int, on_epoch: Callable[[EpochLog], None]) -> Outcome:
        card = self.data.card
        student, _ = build_student(self.space, lesson.sample, data=card, seed=seed)
        plan = Plan(epochs=lesson.epochs, batch_size=self.batch_size, seed=seed, device=self.device)
        training = train_student(
            student,
            lesson.recipe,
            data=self.data,
            teacher=lesson.teacher,
            plan=plan,
            on_epoch=on_epoch,
        )
        engine = Engine(device=self.device)
        _, accuracy = evaluate(
            student.to(self.device), self.test.images, self.test.labels, engine=engine
        )
        n_steps = len(self.data.train_images) // self.batch_size * len(training.curve)
        return Outcome(
            name=lesson.name,
            seed=seed,
            val_accuracy=training.val_accuracy,
            test_accuracy=accuracy,
            n_params=sum(value.numel() for value in student.parameters()),
            step_ms=training.seconds / n_steps * 1000,
        )


def open_bench(
    space: str,
    *,
    device: str,
    batch_size: int,
    **options: Any,  # noqa: ANN401
) -> Bench:
    """Loads the data and the teachers as `autokd search` would.

    Args:
        space: Of the students.
        device: Where teachers and students are trained.
        batch_size: Of every lesson.
        **options: Of `Config`.

    Returns:
        The bench; its teachers are trained unless they are in the cache.
    """
    config, where = Config(space=space, device=device, **options), torch.device(device)
    crew = build_crew(config.workers, device=where)
    data = load_data(config)
    joint = build_space(
        space,
        recipe=config.recipe,
        input_shape=data.card.shape,
        n_classes=data.card.n_classes,
        has_assistant=bool(config.assistant),
    )
    with tempfile.TemporaryDirectory() as models:
        faculty = build_teachers(
            config,
            data,
            space=joint,
            target=StopwatchTarget(),
            models=Path(models),
            device=where,
            crew=crew,
            progress=SearchProgress(),
        )
    return Bench(
        config=config,
        data=data,
        test=load_test(config),
        space=joint,
        faculty=faculty,
        crew=crew,
        batch_size=batch_size,
    )


def gain(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> dict[str, float | None]:
    """The paired difference of test accuracies, with its 95 % interval."""
    paired = estimate(
        [a.test_accuracy - b.test_accuracy for a, b in zip(ours, theirs, strict=True)]
    )
    return {"gain": paired.mean, "gain_ci95": paired.ci95}


def describe_machine(device: str = "cpu") -> Mapping[str, str]:
    """What every figure stands with."""
    gpu = {"gpu": torch.cuda.get_device_name()} if device == "cuda" else {}
    return {"device": device_fingerprint(), **gpu, **library_versions()}
