"""A student while it is trained: its steps, its best weights, and what a checkpoint holds."""

import copy
import math
import time
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autokd.distillation.checkpoint import Checkpoint
from autokd.distillation.evaluation import evaluate
from autokd.distillation.losses import consensus_loss, distillation_loss
from autokd.distillation.optimiser import build_optimiser, build_schedule
from autokd.distillation.plan import Augment, Plan, TrainingData
from autokd.distillation.schedules import (
    alpha_at,
    feature_weight_at,
    scale_at,
    temperature_at,
)
from autokd.distillation.teaching import Teaching, Views
from autokd.errors import DivergedError
from autokd.types import EpochLog, Recipe

__all__ = ["Learning", "shrink"]

_CLIP_NORM = 5.0
_SEEDS_APART = 10_007  # epochs at the most; each draws from a seed of its own


@final
class Learning:
    """Trains epoch after epoch; what is drawn depends on seed and epoch alone.

    Attributes:
        curve: One row for each epoch that is done.
    """

    def __init__(  # noqa: PLR0913 - everything that meets in a step
        self,
        student: nn.Module,
        data: TrainingData,
        *,
        recipe: Recipe,
        plan: Plan,
        augment: Augment,
        teaching: Teaching,
        example: Views,
        kept: Checkpoint | None,
    ) -> None:
        """Puts the student on its device, as it was at a checkpoint if there is one.

        Args:
            student: Trained in place.
            data: Pictures and labels.
            recipe: Loss, schedules and optimiser.
            plan: Epochs, batch, seed, device and engine.
            augment: Makes views and targets of a batch.
            teaching: What it has to learn from beside the labels.
            example: Any batch.
            kept: Where to go on.

        Raises:
            ValueError: The plan has no engine.
        """
        if plan.engine is None:
            raise ValueError("`plan` must have an engine, got none")
        engine = plan.engine
        self.curve: list[EpochLog] = []
        self._student, self._recipe = student, recipe
        self._plan, self._engine, self._augment = plan, engine, augment
        self._teaching = teaching
        self._loss = consensus_loss if teaching.is_of_unlabelled else distillation_loss
        self._images = data.train_images.to(plan.device)
        self._labels = data.train_labels.to(plan.device)
        self._held_out = (data.val_images.to(plan.device), data.val_labels.to(plan.device))
        self._log_prior = None
        if recipe.is_balanced:
            self._log_prior = _log_prior(self._labels, n_classes=example.targets.shape[1])
        self._batch_size = min(plan.batch_size, len(self._images))
        self._n_steps = len(self._images) // self._batch_size
        if kept is not None:
            student.load_state_dict(kept.weights)
        student.to(plan.device, memory_format=engine.memory_format)  # type: ignore[call-overload]
        self._run = engine.build_step(student.train(), example.pictures)
        self._beside = list(teaching.parameters())
        self._parameters = [*student.parameters(), *self._beside]
        self._optimiser = build_optimiser(self._parameters, recipe)
        self._schedule = build_schedule(
            self._optimiser, peak=recipe.learning_rate, n_steps=plan.epochs * self._n_steps
        )
        self._best = (-1.0, 0.0)
        self._best_weights: dict[str, Tensor] = {}
        if kept is not None:
            self._restore(kept)

    def train_epoch(self) -> EpochLog:
        """One more epoch.

        Returns:
            The row that it adds to the curve.

        Raises:
            DivergedError: The loss is not finite any more.
        """
        epoch, plan, recipe = len(self.curve), self._plan, self._recipe
        torch.manual_seed(plan.seed * _SEEDS_APART + epoch)
        start = time.perf_counter()
        progress = epoch / (plan.epochs - 1) if plan.epochs > 1 else 1.0
        alpha, temperature = alpha_at(recipe, progress), temperature_at(recipe, progress)
        feature_weight, scale = feature_weight_at(recipe, progress), scale_at(recipe, progress)
        self._student.train()
        loss_sum = torch.zeros((), device=plan.device)
        shuffled = torch.randperm(len(self._images))[: self._n_steps * self._batch_size]
        for indices in shuffled.split(self._batch_size):
            loss_sum += self._step(
                indices,
                epoch=epoch,
                alpha=alpha,
                temperature=temperature,
                feature_weight=feature_weight,
                scale=scale,
            )
        train_loss = loss_sum.item() / self._n_steps
        if not math.isfinite(train_loss):
            raise DivergedError(f"loss is {train_loss} in epoch {epoch + 1} of {plan.epochs}")
        val_loss, val_accuracy = evaluate(self._student, *self._held_out, engine=self._engine)
        row = EpochLog(
            epoch=epoch + 1,
            train_loss=train_loss,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            learning_rate=float(self._schedule.get_last_lr()[0]),
            alpha=alpha,
            temperature=temperature,
            seconds=time.perf_counter() - start,
        )
        self.curve.append(row)
        if _rank(row) > self._best:
            self._best = _rank(row)
            self._best_weights = copy.deepcopy(self._student.state_dict())
        return row

    def _step(
        self,
        indices: Tensor,
        *,
        epoch: int,
        alpha: float,
        temperature: float,
        feature_weight: float,
        scale: float,
    ) -> Tensor:
        """One step on these pictures; gives its loss."""
        teaching = self._teaching
        batch = indices.to(self._plan.device, non_blocking=True)
        views = self._augment(
            self._images[batch], self._labels[batch], indices=indices, epoch=epoch
        )
        pictures = shrink(views.pictures, scale)
        pictures = pictures.contiguous(memory_format=self._engine.memory_format)
        teacher_logits = None
        with self._engine.precision():
            if teaching.logits is not None and (alpha > 0 or feature_weight > 0):
                teacher_logits = teaching.logits(views, temperature)
            student_logits = self._run(pictures)
        loss = self._loss(
            student_logits.float(),
            views.targets,
            teacher_logits=teacher_logits,
            recipe=self._recipe,
            alpha=alpha,
            temperature=temperature,
            log_prior=self._log_prior,
        )
        if teaching.features is not None and feature_weight > 0:
            loss = loss + feature_weight * teaching.features.loss(views)
        if teaching.exits is not None:
            loss = loss + teaching.exits.loss(
                student_logits.float(), views.targets, log_prior=self._log_prior
            )
        if teaching.original is not None:
            loss = loss + teaching.original.loss(student_logits.float(), views)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, _CLIP_NORM)
        self._optimiser.step()
        self._schedule.step()
        return loss.detach()

    def finish(self) -> float:
        """Gives the student the weights of its best epoch, on the CPU, in evaluation mode.

        Returns:
            The accuracy of that epoch.
        """
        self._student.load_state_dict(self._best_weights)
        self._student.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self._student.eval()
        return self._best[0]

    def checkpoint(self, *, seconds: float) -> Checkpoint:
        """The training as it is now.

        Args:
            seconds: That it has taken.

        Returns:
            Its tensors are those that are trained.
        """
        is_best = _rank(self.curve[-1]) == self._best
        return Checkpoint(
            curve=tuple(self.curve),
            weights=self._student.state_dict(),
            best_weights={} if is_best else self._best_weights,
            beside=[parameter.detach() for parameter in self._beside],
            optimiser=self._optimiser.state_dict(),
            schedule=self._schedule.state_dict(),
            engine=str(self._engine),
            seconds=seconds,
        )

    @torch.no_grad()
    def _restore(self, kept: Checkpoint) -> None:
        """Everything but the student's weights as it was."""
        self.curve.extend(kept.curve)
        self._best = max(_rank(row) for row in kept.curve)
        self._best_weights = kept.best_weights or copy.deepcopy(self._student.state_dict())
        self._optimiser.load_state_dict(kept.optimiser)
        self._schedule.load_state_dict(kept.schedule)
        for parameter, value in zip(self._beside, kept.beside, strict=True):
            parameter.copy_(value)


def _log_prior(labels: Tensor, *, n_classes: int) -> Tensor:
    """Logarithms of the classes' shares, as if each had been seen once more; -1 is no label."""
    counts = torch.bincount(labels[labels >= 0], minlength=n_classes) + 1.0
    return (counts / counts.sum()).log()


def _rank(row: EpochLog) -> tuple[float, float]:
    """The higher, the better the weights of an epoch."""
    return row.val_accuracy, -row.val_loss


def shrink(pictures: Tensor, scale: float) -> Tensor:
    """The pictures with a share of their side.

    Args:
        pictures: [batch channels height width].
        scale: The share, in (0, 1].

    Returns:
        Smaller ones.
    """
    if scale == 1:
        return pictures
    size = [max(1, round(side * scale)) for side in pictures.shape[2:]]
    return F.interpolate(pictures, size=size, mode="bilinear", antialias=True)
