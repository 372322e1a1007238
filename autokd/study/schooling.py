"""The school of teachers: loads them or has them trained, and judges them."""

import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

import torch
from torch import nn

from autokd.config import Config, find_cache
from autokd.data import SearchData
from autokd.distillation import Plan
from autokd.errors import TeacherError
from autokd.teachers import (
    AnyTeacher,
    Committee,
    Teacher,
    TeacherPlan,
    TeacherRequest,
    build_committee,
    check_teacher,
    evaluate_teacher,
    load_alone,
    load_assistant,
    load_teacher,
)
from autokd.types import RECIPE_PRIORS, Recipe

__all__ = ["School", "TrainTeacher"]


@runtime_checkable
class TrainTeacher(Protocol):
    """Trains a network on labels, or an assistant on what its teacher says as well."""

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
        """The network, trained in place, from the checkpoint on if there is one.

        Args:
            network: Takes views in [0, 1] at the data's size, gives logits.
            recipe: What it learns from, and with what optimiser.
            title: What it is called while it is trained, as in "epochs of the TITLE".
            plan: How to train it.
            checkpoint: A file of this training's own.
            teacher: Of an assistant.

        Returns:
            The network.
        """
        ...


@final
class School:
    """Trains and judges teachers.

    Attributes:
        data: Pictures to train and to judge on.
        device: Where they are asked.
        say: Shows a line to the user.
        accuracies: Top-1 on the validation split, by digest of whoever was judged.
        trained: Files of the weights of those that were trained, in this session or another.
        lag: How far the student stays behind its teacher where labels alone teach it: validation
            accuracy of the teacher less that of the student; none where nobody has asked.
    """

    def __init__(
        self,
        config: Config,
        data: SearchData,
        *,
        device: torch.device,
        say: Callable[[str], object],
        train: TrainTeacher | None = None,
        known: Mapping[str, float] | None = None,
        lag: float | None = None,
    ) -> None:
        """Nobody has been looked at yet.

        Args:
            config: How teachers are prepared.
            data: Pictures to train and to judge on.
            device: Where they are asked.
            say: Shows a line to the user.
            train: Trains those that have to be; they are refused if none.
            known: Accuracies that were found elsewhere; nobody else may teach then.
            lag: What was found elsewhere.
        """
        self.data, self.device, self.say = data, device, say
        self.accuracies: dict[str, float] = {}
        self.trained: list[Path] = []
        self.lag = lag
        self._config, self._train, self._known = config, train, known
        self._cache = find_cache()

    def load(self, request: TeacherRequest, *, is_alone: bool) -> Teacher:
        """A teacher, loaded or trained, judged, and shown if there are others."""
        with _naming("--teacher" if is_alone else f"--teacher {request.spec}"):
            teacher = load_teacher(
                request, config=self._config, data=self.data.card, fit=self._fit, cache=self._cache
            )
            accuracy = self._judge(teacher)
        self._note(teacher)
        if teacher.gives_probabilities:
            self.say(f"teacher {teacher.name} ends in a softmax: its logarithm is taken for logits")
        if not is_alone:
            self.say(f"teacher {teacher.name}: {accuracy:.1%} on validation")
        return teacher

    def load_assistant(
        self, request: TeacherRequest, *, teacher: AnyTeacher, n_params: int | None
    ) -> Teacher:
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
        self._note(assistant)
        size = "" if assistant.n_params is None else f", {assistant.n_params / 1000:.1f} k"
        self.say(f"assistant {assistant.name}: {accuracy:.1%} on validation{size}")
        return assistant

    def find_lag(self, student: nn.Module, *, plan: Plan, teacher: AnyTeacher) -> float:
        """How far a student stays behind where labels alone teach it.

        Args:
            student: With fresh weights; its weights of another session are read from the cache.
            plan: As long and in such batches as a trial is trained.
            teacher: Has been judged.

        Returns:
            `lag`, in [-1, 1].
        """
        if self.lag is not None:
            return self.lag
        usual = Recipe()
        with _naming("--assistant auto"):
            alone = load_alone(
                student,
                plan=TeacherPlan(
                    epochs=plan.epochs,
                    batch_size=plan.batch_size,
                    learning_rate=usual.learning_rate,
                    weight_decay=usual.weight_decay,
                    seed=plan.seed,
                ),
                data=self.data.card,
                fit=partial(self._fit, title="student alone"),
                cache=self._cache,
            )
        alone.to(self.device)
        images, labels = self.data.val_images, self.data.val_labels
        accuracy = evaluate_teacher(alone, images=images, labels=labels)
        self.say(f"the student alone: {accuracy:.1%} on validation")
        self.lag = self.accuracies[teacher.digest] - accuracy
        return self.lag

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

    def _note(self, teacher: Teacher) -> None:
        if teacher.weights_file is not None and teacher.weights_file.exists():
            self.trained.append(teacher.weights_file)

    def _judge(self, teacher: AnyTeacher) -> float:
        """The validation accuracy, once it is better than always saying the same.

        Args:
            teacher: Any.

        Returns:
            Top-1 in [0, 1]; looked up where it was found elsewhere.

        Raises:
            TeacherError: It is no better, or it is another one than elsewhere.
        """
        teacher.to(self.device)
        if self._known is not None:
            if teacher.digest not in self._known:
                raise TeacherError(
                    f"`--teacher` must be who teaches the study, got {teacher.name} with other "
                    "weights or preprocessing; pass --teacher or --teacher-weights of this machine"
                )
            self.accuracies[teacher.digest] = self._known[teacher.digest]
            return self._known[teacher.digest]
        labels = self.data.val_labels
        accuracy = evaluate_teacher(teacher, images=self.data.val_images, labels=labels)
        check_teacher(accuracy, labels=labels, classes=self.data.card.classes)
        self.accuracies[teacher.digest] = accuracy
        return accuracy

    def _fit(
        self, network: nn.Module, *, plan: TeacherPlan, checkpoint: Path, title: str = "teacher"
    ) -> nn.Module:
        """A network trained on the labels."""
        recipe = _build_recipe(plan)
        return self._have_trained(
            network, recipe, title=title, plan=plan, checkpoint=checkpoint, teacher=None
        )

    def _teach(
        self, network: nn.Module, *, plan: TeacherPlan, checkpoint: Path, teacher: AnyTeacher
    ) -> nn.Module:
        """An assistant trained on the labels and on what its teacher says."""
        textbook: dict[str, Any] = dict(RECIPE_PRIORS["textbook"])
        recipe = dataclasses.replace(_build_recipe(plan), **textbook)
        return self._have_trained(
            network, recipe, title="assistant", plan=plan, checkpoint=checkpoint, teacher=teacher
        )

    def _have_trained(
        self,
        network: nn.Module,
        recipe: Recipe,
        *,
        title: str,
        plan: TeacherPlan,
        checkpoint: Path,
        teacher: AnyTeacher | None,
    ) -> nn.Module:
        if self._train is None:
            raise TeacherError(
                "`--teacher` was trained for the study and would be another one here; train "
                "where all devices are alike, or pass --teacher file:PATH"
            )
        return self._train(
            network, recipe, title=title, plan=plan, checkpoint=checkpoint, teacher=teacher
        )


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
