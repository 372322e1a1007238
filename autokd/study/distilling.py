"""One student, no search: trained like a finalist, timed beside the teacher, exported."""

import dataclasses
import math
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from autokd.candidate import build_student, screen_candidate
from autokd.config import Config, check_options, check_student
from autokd.data import SearchData, load_data
from autokd.distillation import build_exits
from autokd.errors import BuildError, ConfigError, SpaceError
from autokd.exporters import Bundle, check_folder
from autokd.latency import COMPARING, SCREENING
from autokd.reports import draw_curves, draw_front
from autokd.spaces import Space
from autokd.study.announcements import announce, dismiss, open_tracker, tell_choice
from autokd.study.appraisal import Appraiser
from autokd.study.benches import build_bench
from autokd.study.crew import Crew
from autokd.study.crews import build_crew, tell_size
from autokd.study.delivery import Depot, names_of
from autokd.study.diary import Diary
from autokd.study.finalists import (
    build_front_student,
    choose_best,
    compare_with_twin,
    retime_student,
)
from autokd.study.finals import Finals
from autokd.study.folder import StudyFolder
from autokd.study.front import hypervolume
from autokd.study.interrupts import ending_gently
from autokd.study.joint_space import build_joint_space
from autokd.study.orders import Bench
from autokd.study.planning import choose_device
from autokd.study.progress import SearchProgress
from autokd.study.refits import find_int8
from autokd.study.side_by_side import compare_files, measure_side_by_side
from autokd.study.stillness import resting_while_measured
from autokd.study.targets import build_target
from autokd.study.teaching import Faculty
from autokd.types import (
    Front,
    FrontStudent,
    StudyClosed,
    TeacherCard,
    Tracker,
    TrialResult,
)

__all__ = ["Distilled", "distill"]

_SEEDS = {False: 1, True: 3}  # with a baseline as many as an interval needs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distilled:
    """One student, what it is compared with, and its files.

    Attributes:
        front: A front of this one student; its baseline is the twin without distillation, if one
            was trained.
        bundle: The exported files and what was found when they were checked.
    """

    front: Front
    bundle: Bundle

    @property
    def student(self) -> FrontStudent:
        """With accuracies over its seeds, and the gain if there is a baseline."""
        return self.front.students[0]


def distill(
    config: Config,
    *,
    out: Path = Path("student"),
    is_registered: bool = True,
    progress: SearchProgress | None = None,
    tracker: Tracker | None = None,
) -> Distilled:
    """Trains one student, and its twin without a teacher on request; the same call goes on.

    Args:
        config: Its `student`, who teaches it on what, how long.
        out: The folder to write.
        is_registered: Whether it is logged to MLflow and registered under the study's name.
        progress: Where to show it; nothing is shown if none.
        tracker: Where to log; MLflow as configured if none.

    Returns:
        The student, measured, and its files.
    """
    start = time.monotonic()
    config = _settle(config)
    check_folder(out)
    progress = progress or SearchProgress(is_silent=True)
    folder = StudyFolder(config.study_dir)
    with folder.locked():
        session = _open_session(config, folder, progress=progress)
        session.mark = start
        tracker = tracker or open_tracker(config)
        with _closing(session, tracker), resting_while_measured(tracker):
            session.train()
        front = folder.load_front()
        data, test = session.bench.workshop.data, session.bench.test()
        depot = Depot(
            config=config,
            folder=folder,
            front=front,
            data=data.card,
            space=session.bench.workshop.space,
            test=test,
            appraiser=Appraiser(
                config=config, folder=folder, front=front, data=data, test=test, progress=progress
            ),
            is_registered=is_registered,
            progress=progress,
        )
        student = front.students[0]
        bundle = depot.deliver(student, out, aliases=names_of(student, front.students))
    return Distilled(front=front, bundle=bundle)


def _settle(config: Config) -> Config:
    """The configuration with what follows from a student being the only one.

    Args:
        config: What the user wants.

    Returns:
        It, with the epochs as those of a finalist, and as many seeds as are needed.

    Raises:
        ConfigError: Several precisions are wanted.
    """
    check_student(config)
    is_known = StudyFolder(config.study_dir).is_known
    check_options(config, command="distill", is_known=is_known)
    if config.precision == "both":
        raise ConfigError("`--precision` must be fp32 or int8 for one student, got both; name one")
    changes: dict[str, Any] = {"refit_epochs": config.epochs}
    if "seeds" not in config.model_fields_set:
        changes["seeds"] = _SEEDS[config.baseline]
    return config.model_copy(update=changes)


@final
class _Session:
    """What one process knows of the student that it is training."""

    tracker: Tracker

    def __init__(
        self,
        config: Config,
        folder: StudyFolder,
        *,
        bench: Bench,
        faculty: Faculty,
        crew: Crew,
        progress: SearchProgress,
    ) -> None:
        self.config, self.folder, self.bench = config, folder, bench
        self.faculty, self.crew, self.progress = faculty, crew, progress
        self.diary: Diary | None = None
        self.mark, self.training_s = time.monotonic(), faculty.training_s

    def train(self) -> None:
        """From the sample to a saved front of one student."""
        measured = self._screen()
        self.diary = Diary(
            measured,
            space=self.bench.workshop.space,
            seed=self.config.seed,
            tracker=self.tracker,
            judge=lambda accuracy, ms: self._volume(accuracy, ms, self.faculty.card),
        )
        finals = Finals(
            self.config,
            self.folder,
            bench=self.bench,
            crew=self.crew,
            progress=self.progress,
            witness=self.diary,
            has_twins=self.config.baseline,
        )
        try:
            with ending_gently(self._halt):
                finals.run([measured])
        finally:
            self.training_s += finals.training_s
        refits = finals.refits_of(measured.trial)
        if self.config.baseline and not any(refit.is_twin for refit in refits):
            is_taught = measured.recipe is not None and measured.recipe.is_taught
            self.progress.say(
                "warning: no twin without distillation came to its end"
                if is_taught
                else "the student learns from labels alone: it is its own baseline"
            )
        self.diary.remember(refits)
        ours = [refit.val_accuracy for refit in refits if not refit.is_twin]
        self._compare(
            dataclasses.replace(measured, state="complete", val_accuracy=sum(ours) / len(ours)),
            finals,
        )

    def _screen(self) -> TrialResult:
        """The student before it is trained."""
        workshop = self.bench.workshop
        sample = workshop.space.first_choice()
        tell_choice(self.config, space=workshop.space, sample=sample, progress=self.progress)
        measured = screen_candidate(sample, workshop, trial=0, known={})
        latency, footprint = measured.latency, measured.footprint
        if measured.state == "pruned":  # asked for, it is made all the same
            self.progress.say(f"warning: {measured.reason}")
            measured = dataclasses.replace(measured, state="measured", reason="")
        if measured.state != "measured" or latency is None or footprint is None:
            raise BuildError(f"`--student {self.config.student}`: {measured.reason}")
        teacher_ms = self.faculty.card.latency_ms
        self.progress.say(
            f"student {self.config.student}: {footprint.n_params / 1000:.1f} k parameters, "
            f"{latency.median_ms:.4g} ms, {teacher_ms / latency.median_ms:.1f} times as fast as "
            "the teacher"
        )
        if latency.median_ms >= teacher_ms:
            self.progress.say(
                f"warning: the student is no faster than the teacher, {latency.median_ms:.4g} ms "
                f"against {teacher_ms:.4g} ms"
            )
        return measured

    def _compare(self, result: TrialResult, finals: Finals) -> None:
        """Times student and teacher by turns, and saves the front of both."""
        self.progress.say("timing the student and the teacher side by side")
        target = build_target(self.config, form=COMPARING, cluster=None)
        refits = finals.refits_of(result.trial)
        times = measure_side_by_side(
            [result],
            teacher=self.faculty.models,
            target=target,
            workshop=self.bench.workshop,
            folder=self.folder,
            weights={result.trial: choose_best(one for one in refits if not one.is_twin).file},
        )
        teacher = times.correct_teacher(self.faculty.card)
        space = self.bench.workshop.space
        timed = times.correct(result)
        if timed.state == "pruned":  # asked for, it is delivered all the same
            self.progress.say(f"warning: {timed.reason}; --precision fp32 makes the faster file")
        row = build_front_student(timed, space=space, teacher_ms=teacher.latency_ms)
        student, twin = compare_with_twin(row, refits)
        if twin is not None and result.precision == "int8":  # other layers in FP32, perhaps
            ours, other = (find_int8(self.folder.path / one.weights) for one in (student, twin))
            (ratio,) = compare_files([(ours, other)], target=target)
            twin = retime_student(twin, ratio) if math.isfinite(ratio) else twin
        if twin is not None and twin.val_accuracy > student.val_accuracy:
            self.progress.say(
                f"the twin without distillation is better on validation, {twin.val_accuracy:.2%} "
                f"against {student.val_accuracy:.2%}; --loss cross_entropy trains it alone"
            )
        self.keep_time()
        wall_s, training_s = self.folder.read_time()
        self.folder.save_front(
            Front(
                study=self.config.study_name,
                n_trials=1,
                n_failed=0,
                n_pruned=0,
                wall_s=wall_s,
                training_s=training_s,
                hypervolume=self._volume(student.val_accuracy, student.latency_ms, teacher),
                teacher=teacher,
                baseline=twin,
                students=(student,),
            )
        )

    def keep_time(self) -> None:
        """Writes the time since the last call to the study's clock."""
        now = time.monotonic()
        self.folder.add_time(wall_s=now - self.mark, training_s=self.training_s)
        self.mark, self.training_s = now, 0.0

    def draw(self, front: Front) -> tuple[Path, ...]:
        """The student beside teacher and twin, and all learning curves."""
        report = self.folder.report
        report.mkdir(parents=True, exist_ok=True)
        results = [] if self.diary is None else self.diary.results
        return (
            *draw_front(front, results=results, folder=report),
            draw_curves(results, folder=report, front=front),
        )

    def _halt(self) -> None:
        self.crew.halt()
        self.progress.say("ending after this epoch; Ctrl-C again ends at once")

    def _volume(self, accuracy: float, latency_ms: float, teacher: TeacherCard) -> float:
        return hypervolume(
            [(accuracy, latency_ms)],
            chance=1 / self.bench.workshop.data.card.n_classes,
            teacher_ms=teacher.latency_ms,
        )


@contextmanager
def _closing(session: _Session, tracker: Tracker) -> Generator[None]:
    """However the session ends, the tracker learns of it and the clock is kept."""
    session.tracker = tracker
    front: Front | None = None
    try:
        announce(
            session.config,
            workshop=session.bench.workshop,
            teacher=session.faculty.card,
            tracker=tracker,
            progress=session.progress,
        )
        yield
        front = session.folder.load_front()
    finally:
        session.crew.close()
        session.progress.end()
        session.keep_time()
        if session.diary is not None:
            session.diary.close()
        dismiss(
            tracker,
            StudyClosed(
                is_finished=front is not None,
                front=front,
                files=() if front is None else session.draw(front),
                time_ms=time.time_ns() // 1_000_000,
            ),
            progress=session.progress,
        )


def _open_session(config: Config, folder: StudyFolder, *, progress: SearchProgress) -> _Session:
    """Data, student and teacher, checked in the order of what they cost."""
    device = choose_device(config)
    crew = build_crew(config.workers, device=device)
    tell_size(crew, config, device=device, say=progress.say)
    data = load_data(config)
    space = build_joint_space(config, data.card, has_assistant=bool(config.assistant))
    try:
        _check_student(space, data, seed=config.seed)
    except BuildError as error:
        raise SpaceError(f"`--student {config.student}` must be buildable, got {error}") from error
    bench, faculty = build_bench(
        config,
        folder,
        data=data,
        space=space,
        target=build_target(config, form=SCREENING, cluster=None),
        crew=crew,
        progress=progress,
    )
    return _Session(config, folder, bench=bench, faculty=faculty, crew=crew, progress=progress)


def _check_student(space: Space, data: SearchData, *, seed: int) -> None:
    """A `BuildError` says that there is no such student, or that it is too short for its exits."""
    student, recipe = build_student(space, space.first_choice(), data=data.card, seed=seed)
    if recipe.exits:
        _, reader = build_exits(
            student,
            data.train_images[:2].float() / 255,
            n_exits=recipe.exits,
            n_classes=data.card.n_classes,
            seed=seed,
        )
        with reader:  # its hooks go with the student
            pass
