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
from autokd.distillation import Engine, OnEpoch, Plan, evaluate, measure_engine
from autokd.latency import StopwatchTarget, device_fingerprint, library_versions
from autokd.spaces import Space, build_space
from autokd.study.crew import Crew, Job
from autokd.study.crews import build_crew
from autokd.study.finalists import estimate
from autokd.study.progress import SearchProgress
from autokd.study.teaching import Faculty, build_teachers
from autokd.types import Recipe, Sample

__all__ = ["Bench", "Lesson", "Outcome", "describe_machine", "gain", "open_bench"]

_TIMED_EPOCHS = 3


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
    engine: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """Something that a crew does, and what is said of what it found."""

    title: str
    epochs: int
    work: Callable[[OnEpoch], Any]
    tell: Callable[[Any], str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """Data, students and teachers that lessons share.

    Attributes:
        engines: How the steps of each student are computed, in all of its lessons: two that find
            it for themselves may train in different types of numbers.
    """

    config: Config
    data: SearchData
    test: TestData
    space: Space
    faculty: Faculty
    crew: Crew
    batch_size: int
    engines: dict[str, Engine] = dataclasses.field(default_factory=dict[str, Engine])

    @property
    def device(self) -> torch.device:
        """Where teachers and students are trained."""
        return torch.device(self.config.device)

    @property
    def n_steps(self) -> int:
        """Of an epoch."""
        return len(self.data.train_images) // self.batch_size

    def run(self, lessons: Sequence[Lesson], *, seeds: int) -> dict[str, list[Outcome]]:
        """Every lesson with every seed, as many at once as there are cores."""
        self._settle_engines(lessons)
        tasks = [
            Task(
                title=f"{lesson.name}, seed {seed}",
                epochs=lesson.epochs,
                work=partial(self._train, lesson, seed),
                tell=lambda outcome: f"{outcome.test_accuracy:.2%}",
            )
            for seed in range(seeds)
            for lesson in lessons
        ]
        outcomes: dict[str, list[Outcome]] = {lesson.name: [] for lesson in lessons}
        for outcome in self._work_off(tasks):
            outcomes[outcome.name].append(outcome)
        for rows in outcomes.values():
            rows.sort(key=lambda row: row.seed)
        return outcomes

    def time_steps(self, lessons: Sequence[Lesson]) -> dict[str, float]:
        """Milliseconds of a step of each lesson, as many lessons at once as there are cores.

        In trainings of their own, of three epochs that show the same view: what is kept of it is
        there after the first, and the faster one of the others counts. Neither finding the engine
        nor validation is in it.

        Args:
            lessons: Each once.

        Returns:
            By name.
        """
        self._settle_engines(lessons)
        tasks = [
            Task(
                title=f"{lesson.name}, a step",
                epochs=_TIMED_EPOCHS,
                work=partial(self._time, lesson),
                tell=lambda found: f"{found[1]:.1f} ms",
            )
            for lesson in lessons
        ]
        return dict(self._work_off(tasks))

    def _work_off(self, tasks: Sequence[Task]) -> list[Any]:
        """What all tasks give, in the order in which they end."""
        waiting, found, start = list(tasks)[::-1], [], time.monotonic()
        console = Console(stderr=True, highlight=False)
        while waiting or self.crew.running:
            while waiting and len(self.crew.running) < self.crew.size:
                task = waiting.pop()
                job = Job(key=task, title=task.title, epochs=task.epochs, work=task.work)
                self.crew.start(job)
            done = self.crew.wait(lambda _job, _row: None)
            if done.fault:
                sys.exit(f"{done.job.title}: {done.fault}")
            found.append(done.result)
            left = (time.monotonic() - start) / len(found) * (len(tasks) - len(found))
            console.print(
                f"{done.job.title}: {done.job.key.tell(done.result)}   "
                f"{len(found)}/{len(tasks)}, {left / 60:.0f} min left"
            )
        return found

    def _settle_engines(self, lessons: Sequence[Lesson]) -> None:
        """Finds out how each student is computed, one after another."""
        for lesson in lessons:
            name = self._name(lesson)
            if name in self.engines:
                continue
            same = [one.epochs for one in lessons if self._name(one) == name]
            task = Task(
                title=f"engine of student {len(self.engines) + 1}",
                epochs=0,
                work=partial(self._find_engine, lesson, max(same) * self.n_steps),
                tell=str,
            )
            (self.engines[name],) = self._work_off([task])

    def _name(self, lesson: Lesson) -> str:
        """That of the student of a lesson."""
        architecture = self.space.architecture_of(self.space.complete(lesson.sample))
        return ", ".join(f"{label}={value}" for label, value in sorted(architecture.items()))

    def _find_engine(self, lesson: Lesson, n_steps: int, _on_epoch: OnEpoch) -> Engine:
        card, pictures = self.data.card, self.data.train_images[: self.batch_size]
        student, _ = build_student(self.space, lesson.sample, data=card, seed=0)
        return measure_engine(
            student,
            pictures.float() / 255,
            n_classes=card.n_classes,
            device=self.device,
            n_steps=n_steps,
        )

    def _plan(self, lesson: Lesson, *, epochs: int, seed: int) -> Plan:
        return Plan(
            epochs=epochs,
            batch_size=self.batch_size,
            seed=seed,
            device=self.device,
            engine=self.engines[self._name(lesson)],
        )

    def _time(self, lesson: Lesson, on_epoch: OnEpoch) -> tuple[str, float]:
        """Name of a lesson, and milliseconds of its step; the mean over its generations."""
        student, _ = build_student(self.space, lesson.sample, data=self.data.card, seed=0)
        data = dataclasses.replace(
            self.data, val_images=self.data.val_images[:1], val_labels=self.data.val_labels[:1]
        )
        teacher = lesson.teacher and dataclasses.replace(lesson.teacher, n_views=1)
        curve = train_student(
            student,
            lesson.recipe,
            data=data,
            teacher=teacher,
            plan=self._plan(lesson, epochs=_TIMED_EPOCHS, seed=0),
            on_epoch=on_epoch,
        ).curve
        seconds = [
            min(row.seconds for row in curve[first + 1 : first + _TIMED_EPOCHS])
            for first in range(0, len(curve), _TIMED_EPOCHS)
        ]
        return lesson.name, sum(seconds) / len(seconds) / self.n_steps * 1000

    def _train(self, lesson: Lesson, seed: int, on_epoch: OnEpoch) -> Outcome:
        student, _ = build_student(self.space, lesson.sample, data=self.data.card, seed=seed)
        training = train_student(
            student,
            lesson.recipe,
            data=self.data,
            teacher=lesson.teacher,
            plan=self._plan(lesson, epochs=lesson.epochs, seed=seed),
            on_epoch=on_epoch,
        )
        engine = Engine(device=self.device)
        _, accuracy = evaluate(
            student.to(self.device), self.test.images, self.test.labels, engine=engine
        )
        return Outcome(
            name=lesson.name,
            seed=seed,
            val_accuracy=training.val_accuracy,
            test_accuracy=accuracy,
            n_params=sum(value.numel() for value in student.parameters()),
            engine=str(training.engine),
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
