"""One student trained by one recipe: pictures, teacher and loop are joined here."""

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from autokd.candidate.objectives import KnownTeacher, build_objective
from autokd.data import N_VIEWS, Augment, SearchData, build_augmentation, join_unlabelled
from autokd.distillation import (
    FeatureReader,
    FeatureTeaching,
    Keeper,
    LiveTeacher,
    OnEpoch,
    OriginalTeaching,
    Plan,
    RememberedTeacher,
    Student,
    Tap,
    Teaching,
    Training,
    Views,
    build_exits,
    distill,
)
from autokd.errors import BuildError, ConfigError
from autokd.teachers import KnowledgeBank, expand_answers, is_abridged
from autokd.types import EpochLog, Recipe

__all__ = ["train_once", "train_student"]

_BORN_AGAIN: dict[str, Any] = {"alpha": 0.5, "alpha_end": 0.5, "temperature": 1.0}
"""How a student that had no teacher learns from its former self (Furlanello et al., 2018)."""

_FEATURES_LIMIT_BYTES = 32 * 2**20  # of one view; larger ones are asked for again


def train_student(
    student: nn.Module,
    recipe: Recipe,
    *,
    data: SearchData,
    teacher: KnownTeacher | None,
    plan: Plan,
    on_epoch: OnEpoch = lambda _: None,
    keepers: Callable[[int], Keeper] | None = None,
) -> Training:
    """Distils one student by its recipe; without its teacher where that is not listened to.

    Born-again generations begin with the same fresh weights, taught by the generation before:
    Furlanello et al., "Born-Again Neural Networks", 2018. https://arxiv.org/abs/1805.04770

    Args:
        student: Trained in place.
        recipe: Loss, schedules, augmentation and optimiser.
        data: Training and validation pictures; those without labels join where a teacher can
            say something of them.
        teacher: Who teaches; may be none where the recipe does not distil.
        plan: Epochs, batch, seed and device.
        on_epoch: Called after each epoch; may end the training.
        keepers: Gives what keeps a generation, counted from 0; a training that was cut off goes on
            from there.

    Returns:
        The curve and the best accuracy.
    """
    fresh = copy.deepcopy(student.state_dict())
    training = train_once(
        student,
        recipe,
        data=data,
        teacher=teacher,
        plan=plan,
        on_epoch=on_epoch,
        keeper=None if keepers is None else keepers(0),
    )
    for generation in range(1, recipe.generations):
        if training.is_stopped:
            break
        former = KnownTeacher(
            network=copy.deepcopy(student).requires_grad_(requires_grad=False).to(plan.device),
            n_views=N_VIEWS if teacher is None else teacher.n_views,
            student_taps=() if teacher is None else teacher.student_taps,
            teacher_taps=_taps_of_former(teacher),
        )
        student.load_state_dict(fresh)
        before = training
        training = train_once(
            student,
            recipe if recipe.is_distilled else dataclasses.replace(recipe, **_BORN_AGAIN),
            data=data if recipe.is_distilled else _without_unlabelled(data),
            teacher=former,
            plan=dataclasses.replace(plan, seed=plan.seed + 1000 * generation),
            on_epoch=_count_on(on_epoch, n_before=len(before.curve)),
            keeper=None if keepers is None else keepers(generation),
        )
        training = dataclasses.replace(
            training,
            curve=(*before.curve, *(_later(row, len(before.curve)) for row in training.curve)),
            seconds=before.seconds + training.seconds,
            answers=_join_answers(before.answers, training.answers),
        )
    return training


def _join_answers(before: str, after: str) -> str:
    """Where answers came from in one generation or another, each kind once."""
    kinds = [kind for kind in (*before.split(", "), after) if kind]
    return ", ".join(dict.fromkeys(kinds))


def _taps_of_former(teacher: KnownTeacher | None) -> tuple[str, ...]:
    """The student's own taps, as they are called in the student behind its normalisation."""
    return () if teacher is None else tuple(f"network.{path}" for path in teacher.student_taps)


def _later(row: EpochLog, n_before: int) -> EpochLog:
    return dataclasses.replace(row, epoch=row.epoch + n_before)


def _count_on(on_epoch: OnEpoch, *, n_before: int) -> OnEpoch:
    return lambda row: on_epoch(_later(row, n_before))


def _without_unlabelled(data: SearchData) -> SearchData:
    """What a student without a teacher learns from, its own self as a teacher or not."""
    return dataclasses.replace(data, unlabelled_images=data.unlabelled_images[:0])


def train_once(  # noqa: PLR0913 - everything that meets in a training
    student: nn.Module,
    recipe: Recipe,
    *,
    data: SearchData,
    teacher: KnownTeacher | None,
    plan: Plan,
    on_epoch: OnEpoch = lambda _: None,
    keeper: Keeper | None = None,
    original: OriginalTeaching | None = None,
) -> Training:
    """One generation of `train_student`; torch's generators are afterwards as they were.

    Args:
        student: Trained in place.
        recipe: Loss, schedules, augmentation and optimiser.
        data: Training and validation pictures.
        teacher: Who teaches; may be none where the recipe does not distil.
        plan: Epochs, batch, seed and device.
        on_epoch: Called after each epoch; may end the training.
        keeper: Keeps the training after each epoch; where it has kept one, that goes on.
        original: The student before its numbers were rounded, to be learnt from as well.

    Returns:
        The curve and the best accuracy.
    """
    pictures = join_unlabelled(data) if recipe.is_distilled else data
    augment = build_augmentation(
        recipe,
        n_classes=data.card.n_classes,
        n_pictures=len(pictures.train_images),
        seed=plan.seed,
        n_views=N_VIEWS if teacher is None else teacher.n_views,
    )
    device = plan.device
    with contextlib.ExitStack() as hooks:
        hooks.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        teaching = Teaching(original=original)
        if teacher is not None and recipe.is_distilled:
            classroom = _Classroom(
                student=student,
                recipe=recipe,
                images=pictures.train_images,
                n_classes=data.card.n_classes,
                teacher=teacher,
                plan=plan,
            )
            teaching = classroom.prepare(augment, hooks=hooks)
            teaching = dataclasses.replace(teaching, original=original)
        if recipe.exits:
            exits, reader = build_exits(
                student,
                data.train_images[:2].float() / 255,
                n_exits=recipe.exits,
                n_classes=data.card.n_classes,
                seed=plan.seed,
            )
            hooks.enter_context(reader)
            teaching = dataclasses.replace(teaching, exits=exits.to(plan.device))
        return distill(
            student,
            pictures,
            recipe=recipe,
            plan=plan,
            augment=augment,
            teaching=teaching,
            on_epoch=on_epoch,
            keeper=keeper,
        )


@dataclass(frozen=True, kw_only=True)
class _Classroom:
    """Who is taught by whom, how, with which pictures."""

    student: nn.Module
    recipe: Recipe
    images: Tensor
    n_classes: int
    teacher: KnownTeacher
    plan: Plan

    def prepare(self, augment: Augment, *, hooks: contextlib.ExitStack) -> Teaching:
        """What the recipe wants of the teacher, remembered where it can be.

        Args:
            augment: Whose views it is asked about.
            hooks: Closes the readers of features after the training.

        Returns:
            The teaching.
        """
        is_mixture, is_exact = self.recipe.mix != "none", self.recipe.mix_targets == "exact"
        is_mixed = is_mixture and not (is_exact or self.recipe.has_feature_loss)
        is_abridged_here = is_abridged(self.n_classes) and self.recipe.needs_all_logits
        # Nobody knows what the teacher says of a mixture, or of each of very many classes.
        is_unknown = (is_mixture and not is_mixed) or is_abridged_here
        bank = None if is_unknown else self.teacher.bank
        features = None
        if self.recipe.has_feature_loss:
            features, is_kept = self._prepare_features(augment, bank=bank, hooks=hooks)
            bank = bank if is_kept else None
        if bank is None:
            live = LiveTeacher(self.teacher.network, is_mixed=is_mixed)
            return Teaching(logits=live, features=features)
        kept = RememberedTeacher(
            partial(self._recall, bank, augment),
            expand=expand_answers,
            check=bank.check,
            device=self.plan.device,
            name="mixed" if is_mixed else "kept",
        )
        return Teaching(logits=kept, features=features)

    def _recall(self, bank: KnowledgeBank, augment: Augment, view: int) -> Tensor:
        return bank.recall(
            str(augment.viewer),
            view=view,
            n_pictures=len(self.images),
            render=partial(self.render, augment, view),
        )

    def render(self, augment: Augment, view: int, indices: Tensor) -> Tensor:
        images = self.images[indices].to(self.plan.device)
        # Half precision would move the pixels of a rotation.
        with torch.autocast(self.plan.device.type, enabled=False):
            return augment.viewer(images, indices, view=view)

    def _prepare_features(
        self, augment: Augment, *, bank: KnowledgeBank | None, hooks: contextlib.ExitStack
    ) -> tuple[FeatureTeaching, bool]:
        """The loss on features, and whether the teacher's side of it is remembered."""
        kind = self.recipe.feature_loss
        if kind == "none" or not isinstance(self.student, Student):
            raise BuildError(f"student must be a Student with --loss {kind}")
        views = self.render(augment, 0, torch.arange(min(2, len(self.images))))
        try:
            objective, inner = build_objective(
                self.student,
                kind,
                teacher=self.teacher,
                views=views,
                seed=self.plan.seed,
            )
        except ConfigError as error:  # of this student: what holds for all is told at the start
            raise BuildError(str(error)) from error
        objective = objective.to(self.plan.device)
        ours = hooks.enter_context(FeatureReader(self.student.network, objective.student_taps))
        theirs = hooks.enter_context(FeatureReader(inner, objective.teacher_taps, is_detached=True))
        row_bytes = 2 * sum(tap.channels * tap.height * tap.width for tap in objective.teacher_taps)
        is_kept = bank is not None and row_bytes * len(self.images) <= _FEATURES_LIMIT_BYTES
        if bank is None or not is_kept:
            return FeatureTeaching(objective, ours=ours, theirs=lambda _: theirs.features), False
        remembered = _RememberedFeatures(
            self, augment, bank=bank, reader=theirs, taps=objective.teacher_taps
        )
        return FeatureTeaching(objective, ours=ours, theirs=remembered), True


class _RememberedFeatures:
    """A teacher's features, out of the bank."""

    def __init__(
        self,
        classroom: _Classroom,
        augment: Augment,
        *,
        bank: KnowledgeBank,
        reader: FeatureReader,
        taps: Sequence[Tap],
    ) -> None:
        self._classroom, self._augment, self._bank = classroom, augment, bank
        self._reader, self._taps = reader, taps
        self._view = -1
        self._kept = torch.empty(0)

    def __call__(self, views: Views) -> list[Tensor]:
        """The features of a batch, in the order of the taps."""
        is_first = self._view < 0
        if views.view != self._view:
            self._kept, self._view = self._recall(views.view), views.view
        rows = self._kept[views.indices].to(self._classroom.plan.device).float()
        if is_first:
            self._bank.check(rows, views.clean, answer=self._answer)
        parts = rows.split([tap.channels * tap.height * tap.width for tap in self._taps], dim=1)
        return [
            part if tap.layout == "embedding" else part.unflatten(1, (tap.channels, *tap.size))
            for part, tap in zip(parts, self._taps, strict=True)
        ]

    def _recall(self, view: int) -> Tensor:
        where = " ".join(f"{tap.path}/{tap.layout}" for tap in self._taps)
        return self._bank.remember(
            f"{self._augment.viewer} features {where}",
            view=view,
            n_pictures=len(self._classroom.images),
            render=partial(self._classroom.render, self._augment, view),
            answer=self._answer,
        )

    def _answer(self, views: Tensor) -> Tensor:
        with torch.no_grad():
            self._classroom.teacher.network(views)
        return torch.cat([part.flatten(1) for part in self._reader.features], dim=1).half()
