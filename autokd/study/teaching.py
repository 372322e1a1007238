"""Who teaches the students of a study: loaded or trained, checked and measured like a student."""

import dataclasses
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

from autokd.candidate import KnownTeacher, build_student, train_student
from autokd.config import Config, find_cache
from autokd.data import SearchData
from autokd.distillation import OnEpoch, Plan
from autokd.errors import ExportError, TeacherError, WorkerError
from autokd.exporters import export_onnx
from autokd.spaces import Space
from autokd.study.crew import Crew, Job
from autokd.study.progress import SearchProgress
from autokd.teachers import (
    AnyTeacher,
    Committee,
    KnowledgeBank,
    TeacherPlan,
    TeacherRequest,
    build_assistant_requests,
    build_committee,
    build_teacher_requests,
    check_teacher,
    evaluate_teacher,
    load_assistant,
    load_teacher,
    plan_assistants,
)
from autokd.types import RECIPE_PRIORS, EpochLog, Recipe, Target, TaughtBy, TeacherCard

__all__ = ["Faculty", "build_teachers", "check_features"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Faculty:
    """Whoever can teach a student.

    Attributes:
        teachers: By `Recipe.taught_by`, on the device; `assistant` (the last of a chain) and
            `both` only where there is an assistant.
        card: What is known of the teacher.
        models: ONNX files of the teacher, several if it is several.
        training_s: Seconds spent on training them.
    """

    teachers: Mapping[TaughtBy, KnownTeacher]
    card: TeacherCard
    models: tuple[Path, ...]
    training_s: float


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

    Returns:
        The teachers.
    """
    requests, helpers = build_teacher_requests(config), build_assistant_requests(config)
    school = _School(config, data, device=device, crew=crew, progress=progress)
    members = [school.load(request, is_alone=len(requests) == 1) for request in requests]
    teacher = school.join(members)
    files = _export(teacher, models, data=data)
    card = TeacherCard(
        name=teacher.name,
        digest=teacher.digest,
        n_params=teacher.n_params,
        val_accuracy=school.accuracies[teacher.digest],
        latency_ms=sum(target.measure(file).median_ms for file in files),
    )
    teacher.to(device)
    networks: dict[TaughtBy, AnyTeacher] = {"teacher": teacher}
    if helpers and (assistant := _make_assistant(helpers, teacher, space=space, school=school)):
        both = school.join([teacher, assistant])
        school.say(f"both together: {school.accuracies[both.digest]:.1%} on validation")
        networks |= {"assistant": assistant, "both": both}
    teachers: dict[TaughtBy, KnownTeacher] = {
        role: _remember(network, config=config, data=data, device=device)
        for role, network in networks.items()
    }
    return Faculty(teachers=teachers, card=card, models=files, training_s=school.training_s)


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
    requests: Sequence[TeacherRequest], teacher: AnyTeacher, *, space: Space, school: "_School"
) -> AnyTeacher | None:
    """The last of a chain of assistants, each taught by the one before; none if none is needed."""
    student, _ = build_student(space, {}, data=school.data.card, seed=0)
    n_student = sum(value.numel() for value in student.parameters())
    plan = plan_assistants(
        requests, teacher=teacher.name, n_teacher=teacher.n_params, n_student=n_student
    )
    if len(plan) < len(requests) and teacher.n_params is not None:
        ratio = teacher.n_params / n_student
        school.say(f"no auto assistant: the teacher has {ratio:.1f} times the student's parameters")
    if not plan:
        return None
    last = teacher
    for request, n_params in plan:
        last = school.load_assistant(request, teacher=last, n_params=n_params)
    return last


def check_features(faculty: Faculty, *, space: Space) -> None:
    """Refuses a study that may ask for features of a teacher that shows none.

    Args:
        faculty: Who teaches.
        space: Whose recipes may have a loss on features.

    Raises:
        TeacherError: A teacher is a file without modules, or several that speak as one.
    """
    losses = sorted(space.values_of("feature_loss") - {"none"})
    if not losses:
        return
    for teacher in faculty.teachers.values():
        if not teacher.has_features:
            raise TeacherError(
                f"`--loss {losses[0]}` needs the features of one teacher made of modules, got "
                f"{teacher.name}; use a loss on logits, or a teacher of timm:, torchvision: or "
                "python:"
            )


@final
class _School:
    """Trains and judges teachers.

    Attributes:
        data: Pictures to train and to judge on.
        accuracies: Top-1 on the validation split, by digest of whoever was judged.
        training_s: Seconds spent on training so far.
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
        self.data = data
        self.accuracies: dict[str, float] = {}
        self.training_s = 0.0
        self._config, self._device, self._crew, self._progress = config, device, crew, progress
        self._cache = find_cache()

    def say(self, text: str) -> None:
        """One line for the user."""
        self._progress.say(text)

    def load(self, request: TeacherRequest, *, is_alone: bool) -> AnyTeacher:
        """A teacher, loaded or trained, judged, and shown if there are others."""
        with _naming("--teacher" if is_alone else f"--teacher {request.spec}"):
            teacher = load_teacher(
                request, config=self._config, data=self.data.card, fit=self._fit, cache=self._cache
            )
            accuracy = self._judge(teacher)
        if not is_alone:
            self.say(f"teacher {teacher.name}: {accuracy:.1%} on validation")
        return teacher

    def load_assistant(
        self, request: TeacherRequest, *, teacher: AnyTeacher, n_params: int | None
    ) -> AnyTeacher:
        """An assistant, taught by that teacher or read from the cache, judged and shown."""
        with _naming(f"--assistant {request.spec}"):
            assistant = load_assistant(
                request,
                teacher=teacher,
                n_params=n_params,
                config=self._config,
                data=self.data.card,
                teach=self._teach,
                cache=self._cache,
            )
            accuracy = self._judge(assistant)
        size = "" if assistant.n_params is None else f", {assistant.n_params / 1000:.1f} k"
        self.say(f"assistant {assistant.name}: {accuracy:.1%} on validation{size}")
        return assistant

    def join(self, members: Sequence[AnyTeacher]) -> AnyTeacher:
        """The voice of one or several, judged as such."""
        joined = build_committee(
            members,
            vote=self._config.teacher_vote,
            accuracies=[self.accuracies[member.digest] for member in members],
            n_classes=self.data.card.n_classes,
            n_pictures=len(self.data.val_labels),
        )
        if isinstance(joined, Committee):
            self._judge(joined)
        return joined

    def _judge(self, teacher: AnyTeacher) -> float:
        """The validation accuracy, once it is better than always saying the same."""
        teacher.to(self._device)
        labels = self.data.val_labels
        accuracy = evaluate_teacher(teacher, images=self.data.val_images, labels=labels)
        check_teacher(accuracy, labels=labels, classes=self.data.card.classes)
        self.accuracies[teacher.digest] = accuracy
        return accuracy

    def _fit(self, network: nn.Module, *, plan: TeacherPlan) -> nn.Module:
        """A teacher trained on the labels."""
        return self._train(network, _build_recipe(plan), plan=plan, teacher=None)

    def _teach(self, network: nn.Module, *, plan: TeacherPlan, teacher: nn.Module) -> nn.Module:
        """An assistant trained on the labels and on what its teacher says."""
        textbook: dict[str, Any] = dict(RECIPE_PRIORS["textbook"])
        recipe = dataclasses.replace(_build_recipe(plan), **textbook)
        return self._train(network, recipe, plan=plan, teacher=teacher)

    def _train(
        self, network: nn.Module, recipe: Recipe, *, plan: TeacherPlan, teacher: nn.Module | None
    ) -> nn.Module:
        title = "teacher" if teacher is None else "assistant"
        self._progress.begin(f"epochs of the {title}", total=plan.epochs)

        def train(on_epoch: OnEpoch) -> tuple[dict[str, Any], float]:
            training = train_student(
                network,
                recipe,
                data=self.data,
                teacher=None if teacher is None else KnownTeacher(network=teacher),
                plan=Plan(
                    epochs=plan.epochs,
                    batch_size=plan.batch_size,
                    seed=plan.seed,
                    device=self._device,
                ),
                on_epoch=on_epoch,
            )
            state = network.state_dict()
            return {name: value.numpy() for name, value in state.items()}, training.seconds

        def show(_: Job, row: EpochLog) -> None:
            self._progress.step(done=row.epoch)
            self._progress.epoch(title, row, epochs=plan.epochs)

        self._crew.start(Job(key=None, title=title, epochs=plan.epochs, work=train, is_wide=True))
        done = self._crew.wait(show)
        self._progress.end()
        if done.fault:
            raise WorkerError(f"the {title} could not be trained: {done.fault}")
        weights, seconds = done.result
        network.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
        self.training_s += seconds
        return network


@contextmanager
def _naming(option: str) -> Generator[None]:
    """Lets errors about a teacher name the one of several that they are about.

    Args:
        option: What the user typed, `--teacher` where there is only one.

    Yields:
        Nothing.

    Raises:
        TeacherError: What was raised within, about `option`.
    """
    try:
        yield
    except TeacherError as error:
        text = str(error).replace("`--teacher`", f"`{option}`")
        is_named = option == "--teacher" or f"`{option}`" in text
        raise TeacherError(text if is_named else f"`{option}`: {text}") from error


def _build_recipe(plan: TeacherPlan) -> Recipe:
    return Recipe(
        alpha=0.0,
        alpha_end=0.0,
        augmentation=plan.augmentation,
        label_smoothing=plan.label_smoothing,
        optimiser=plan.optimiser,
        learning_rate=plan.learning_rate,
        weight_decay=plan.weight_decay,
    )


def _export(teacher: AnyTeacher, folder: Path, *, data: SearchData) -> tuple[Path, ...]:
    """Its own ONNX file, or its export; of a committee, those of its members."""
    if isinstance(teacher, Committee):
        return tuple(
            file
            for number, member in enumerate(teacher.members)
            for file in _export(member, folder / str(number), data=data)
        )
    if teacher.onnx_file is not None:
        return (teacher.onnx_file,)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        model = export_onnx(
            teacher.build_exportable() if teacher.is_exportable else teacher,
            folder / "teacher.onnx",
            shape=data.card.shape,
            is_traced=teacher.is_exportable,
        )
    except ExportError as error:
        raise TeacherError(
            f"`--teacher` must be exportable to ONNX, so that its latency can be compared; {error}"
        ) from error
    return (model,)
