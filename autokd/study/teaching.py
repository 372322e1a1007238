"""Who teaches the students of a study: loaded or trained, checked and measured like a student."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

from autokd.candidate import CheckpointFile, KnownTeacher, build_student, train_student
from autokd.config import Config, find_cache
from autokd.data import N_VIEWS, SearchData
from autokd.distillation import OnEpoch, Plan
from autokd.errors import ExportError, TeacherError, WorkerError
from autokd.exporters import export_onnx, export_program
from autokd.spaces import Space
from autokd.study.crew import Crew, Job
from autokd.study.planning import build_plan
from autokd.study.progress import SearchProgress
from autokd.study.schooling import School
from autokd.teachers import (
    AnyTeacher,
    Committee,
    KnowledgeBank,
    TeacherPlan,
    TeacherRequest,
    build_assistant_requests,
    build_teacher_requests,
    plan_assistants,
)
from autokd.types import EpochLog, Recipe, Target, TaughtBy, TeacherCard

__all__ = ["Faculty", "build_teachers", "recall_teachers"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Faculty:
    """Whoever can teach a student.

    Attributes:
        teachers: By `Recipe.taught_by`, on the device; `assistant` (the last of a chain) and
            `both` only where there is an assistant.
        card: What is known of the teacher.
        models: ONNX files of the teacher, several if it is several.
        training_s: Seconds spent on training them.
        accuracies: Top-1 on the validation split, by digest of each teacher and committee.
        trained: Files of the weights of those that were trained for it.
        latency_device: What the teacher was timed on, and students are; empty where that is told
            by a table.
        lag: As `School.lag`.
    """

    teachers: Mapping[TaughtBy, KnownTeacher]
    card: TeacherCard
    models: tuple[Path, ...]
    training_s: float
    accuracies: Mapping[str, float]
    trained: tuple[Path, ...]
    latency_device: str
    lag: float | None = None


def build_teachers(  # noqa: PLR0913 - everything that is needed to teach
    config: Config,
    data: SearchData,
    *,
    space: Space,
    target: Target,
    models: Path,
    device: torch.device,
    crew: Crew,
    progress: SearchProgress,
    others: Sequence[Target] = (),
) -> Faculty:
    """The teachers behind `--teacher` and `--assistant`, with validation accuracy and latency.

    All that can be wrong about the options is found before anything is trained.

    Args:
        config: What the user wants.
        data: Pictures to fit them to and to check them on.
        space: Its default student says how far the teacher is above the students.
        target: What the teacher's latency is measured on.
        models: Folder that the teacher's ONNX files are kept in.
        device: Where they will be asked.
        crew: Who trains them.
        progress: Shows their training.
        others: Further targets, which may want more files than the first.

    Returns:
        The teachers.
    """
    trainer = _Trainer(config, data, device=device, crew=crew, progress=progress)
    school = School(config, data, device=device, train=trainer, say=progress.say)
    networks = _gather(config, space=space, school=school)
    teacher = networks["teacher"]
    has_program = any(one.needs_program for one in (target, *others))
    files = _export(teacher, models, data=data, has_program=has_program)
    teacher.to(device)
    latencies = [target.measure(file) for file in files]
    card = TeacherCard(
        name=teacher.name,
        digest=teacher.digest,
        n_params=teacher.n_params,
        val_accuracy=school.accuracies[teacher.digest],
        latency_ms=sum(latency.median_ms for latency in latencies),
    )
    return Faculty(
        teachers=_remember_all(networks, config=config, data=data, device=device),
        card=card,
        models=files,
        training_s=trainer.training_s,
        accuracies=school.accuracies,
        trained=tuple(school.trained),
        latency_device="" if config.latency_table else latencies[0].device,
        lag=school.lag,
    )


def recall_teachers(
    config: Config,
    data: SearchData,
    *,
    space: Space,
    device: torch.device,
    accuracies: Mapping[str, float],
    lag: float | None = None,
) -> Mapping[TaughtBy, KnownTeacher]:
    """The teachers of a study on another machine, where nobody is trained or judged anew.

    Args:
        config: That of the study, with the paths of this machine.
        data: The same pictures.
        space: The same space.
        device: Where they will be asked.
        accuracies: `Faculty.accuracies` of the study; weights that were trained for it lie in
            this machine's cache.
        lag: `Faculty.lag` of the study.

    Returns:
        `Faculty.teachers`. A `TeacherError` says that one is another one here.
    """
    school = School(config, data, device=device, say=lambda _: None, known=accuracies, lag=lag)
    networks = _gather(config, space=space, school=school)
    return _remember_all(networks, config=config, data=data, device=device)


def _gather(config: Config, *, space: Space, school: School) -> dict[TaughtBy, AnyTeacher]:
    """Who teaches, by role; on the device."""
    requests, helpers = build_teacher_requests(config), build_assistant_requests(config)
    members = [school.load(request, is_alone=len(requests) == 1) for request in requests]
    teacher = school.join(members)
    networks: dict[TaughtBy, AnyTeacher] = {"teacher": teacher}
    plan = build_plan(config, data=school.data, device=school.device)
    if helpers and (
        assistant := _make_assistant(helpers, teacher, space=space, school=school, plan=plan)
    ):
        both = school.join([teacher, assistant])
        school.say(f"both together: {school.accuracies[both.digest]:.1%} on validation")
        networks |= {"assistant": assistant, "both": both}
    return networks


def _remember_all(
    networks: Mapping[TaughtBy, AnyTeacher],
    *,
    config: Config,
    data: SearchData,
    device: torch.device,
) -> dict[TaughtBy, KnownTeacher]:
    return {
        role: _remember(network, config=config, data=data, device=device)
        for role, network in networks.items()
    }


def _remember(
    network: AnyTeacher, *, config: Config, data: SearchData, device: torch.device
) -> KnownTeacher:
    """A teacher, with a bank of its answers unless the user wants none."""
    bank = KnowledgeBank(
        network,
        cache=find_cache(),
        teacher_digest=network.digest,
        data_digest=data.card.digest + data.card.unlabelled_digest,
        device_type=device.type,
    )
    return KnownTeacher(
        network=network,
        name=network.name,
        has_features=network.has_features,
        bank=bank if config.bank else None,
        n_views=config.views,
        student_taps=config.student_tap,
        teacher_taps=config.teacher_tap,
    )


def _make_assistant(
    requests: Sequence[TeacherRequest],
    teacher: AnyTeacher,
    *,
    space: Space,
    school: School,
    plan: Plan,
) -> AnyTeacher | None:
    """The last of a chain of assistants, each taught by the one before; none if none is needed."""
    student, _ = build_student(space, {}, data=school.data.card, seed=plan.seed)
    n_student = sum(value.numel() for value in student.parameters())
    wanted = plan_assistants(
        requests,
        teacher=teacher.name,
        n_teacher=teacher.n_params,
        n_student=n_student,
        find_lag=lambda: school.find_lag(student, plan=plan, teacher=teacher),
    )
    if len(wanted) < len(requests) and teacher.n_params is not None:
        ratio = f"the teacher has {teacher.n_params / n_student:.1f} times the student's parameters"
        lag = "" if school.lag is None else f" and is {100 * school.lag:.1f} points above it"
        school.say(f"no auto assistant: {ratio}{lag}")
    last: AnyTeacher | None = None
    for request, n_params in wanted:
        last = school.load_assistant(
            request, teacher=teacher if last is None else last, n_params=n_params
        )
    return last


@final
class _Trainer:
    """Has a crew train teachers, and shows it.

    Attributes:
        training_s: Seconds spent on it so far.
    """

    def __init__(
        self,
        config: Config,
        data: SearchData,
        *,
        device: torch.device,
        crew: Crew,
        progress: SearchProgress,
    ) -> None:
        self.training_s = 0.0
        self._config, self._data, self._device = config, data, device
        self._crew, self._progress = crew, progress

    def __call__(
        self,
        network: nn.Module,
        recipe: Recipe,
        *,
        title: str,
        plan: TeacherPlan,
        checkpoint: Path,
        teacher: AnyTeacher | None,
    ) -> nn.Module:
        keeper = CheckpointFile(checkpoint)
        known = None if teacher is None else self._know(teacher)
        kept = keeper.load()
        n_done, seconds_before = (0, 0.0) if kept is None else (len(kept.curve), kept.seconds)
        self._progress.begin(f"epochs of the {title}", total=plan.epochs, done=n_done)

        def train(on_epoch: OnEpoch) -> tuple[dict[str, Any], float]:
            training = train_student(
                network,
                recipe,
                data=self._data,
                teacher=known,
                plan=Plan(
                    epochs=plan.epochs,
                    batch_size=plan.batch_size,
                    seed=plan.seed,
                    device=self._device,
                ),
                on_epoch=on_epoch,
                keepers=lambda _: keeper,
            )
            state = network.state_dict()
            return {name: value.numpy() for name, value in state.items()}, training.seconds

        def show(_: Job, row: EpochLog) -> None:
            self._progress.step(done=row.epoch)
            self._progress.epoch(title, row, epochs=plan.epochs)

        self._crew.start(Job(key=None, title=title, epochs=plan.epochs, work=train, is_wide=True))
        done = None
        try:
            while done is None:
                done = self._crew.wait(show)
        except BaseException:  # there is no session yet that would end what it trains
            self._crew.close()
            raise
        self._progress.end()
        if done.fault:
            raise WorkerError(f"the {title} could not be trained: {done.fault}")
        weights, seconds = done.result
        network.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
        self.training_s += seconds - seconds_before
        return network

    def _know(self, teacher: AnyTeacher) -> KnownTeacher:
        """The teacher of an assistant, with the bank that students will ask for the same views.

        The number of views is not the user's: weights in the cache do not depend on it.

        Args:
            teacher: On the device.

        Returns:
            It, with a bank unless the user wants none.
        """
        known = _remember(teacher, config=self._config, data=self._data, device=self._device)
        return dataclasses.replace(known, n_views=N_VIEWS)


def _export(
    teacher: AnyTeacher, folder: Path, *, data: SearchData, has_program: bool
) -> tuple[Path, ...]:
    """Its own ONNX file, or its export; of a committee, those of its members."""
    if isinstance(teacher, Committee):
        return tuple(
            file
            for number, member in enumerate(teacher.members)
            for file in _export(member, folder / str(number), data=data, has_program=has_program)
        )
    if teacher.onnx_file is not None:
        if has_program:
            raise TeacherError(
                "`--teacher` must be a torch network where torch is the target, got "
                f"{teacher.onnx_file}"
            )
        return (teacher.onnx_file,)
    folder.mkdir(parents=True, exist_ok=True)
    network = teacher.build_exportable() if teacher.is_exportable else teacher
    shape = data.card.shape
    try:
        model = export_onnx(
            network, folder / "teacher.onnx", shape=shape, is_traced=teacher.is_exportable
        )
        if has_program:
            export_program(network, folder / "teacher.pt2", shape=shape)
    except ExportError as error:
        raise TeacherError(
            f"`--teacher` must be exportable to ONNX, so that its latency can be compared; {error}"
        ) from error
    return (model,)
