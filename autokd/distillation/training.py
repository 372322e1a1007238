"""One straight training loop; a teacher is optional, everything else is the same without."""

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from autokd.distillation.engine import Engine, measure_engine
from autokd.distillation.losses import distillation_loss
from autokd.distillation.schedules import (
    SMALLEST_SCALE,
    alpha_at,
    feature_weight_at,
    scale_at,
    temperature_at,
)
from autokd.distillation.teaching import Teaching, Views
from autokd.errors import BuildError, DivergedError
from autokd.types import EpochLog, Recipe

__all__ = ["Augment", "Plan", "Training", "TrainingData", "distill", "evaluate"]

_WARM_UP = 0.1  # of all steps
_CLIP_NORM = 5.0
_EVAL_BATCH = 512


@runtime_checkable
class Augment(Protocol):
    """Makes views and targets of a batch."""

    def __call__(self, images: Tensor, labels: Tensor, *, indices: Tensor, epoch: int) -> Views:
        """uint8 pictures and labels, which pictures of the data set they are, epoch from 0."""
        ...


@runtime_checkable
class TrainingData(Protocol):
    """Pictures as uint8 (count, channels, height, width), labels as int64; never a test split."""

    @property
    def train_images(self) -> Tensor:
        """What is learnt from."""
        ...

    @property
    def train_labels(self) -> Tensor:
        """Their classes."""
        ...

    @property
    def val_images(self) -> Tensor:
        """What chooses the epoch."""
        ...

    @property
    def val_labels(self) -> Tensor:
        """Their classes."""
        ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and where.

    Attributes:
        epochs: Passes over the training pictures.
        batch_size: Pictures of a step.
        seed: Of the order of the pictures.
        device: Where the student is trained.
        engine: How a step is computed there; found by timing if none.
    """

    epochs: int
    batch_size: int
    seed: int
    device: torch.device
    engine: Engine | None = None


@dataclass(frozen=True, kw_only=True)
class Training:
    """What came of a training; the student itself holds the weights of its best epoch.

    Attributes:
        curve: One row per epoch.
        val_accuracy: Of the best epoch, in [0, 1].
        engine: How the steps were computed.
        seconds: Wall time.
        answers: Where the teacher's came from: `live`, `kept` or `mixed`; empty without one.
    """

    curve: tuple[EpochLog, ...]
    val_accuracy: float
    engine: Engine
    seconds: float
    answers: str = ""


def distill(  # noqa: PLR0915 - one loop that reads from top to bottom
    student: nn.Module,
    data: TrainingData,
    *,
    recipe: Recipe,
    plan: Plan,
    augment: Augment,
    teaching: Teaching,
    on_epoch: Callable[[EpochLog], None] = lambda _: None,
) -> Training:
    """Trains a student in place, on the labels and on what the teacher says of the same views.

    Args:
        student: Takes views in [0, 1], gives logits; ends with the weights of the epoch of the
            highest validation accuracy, on the CPU, in evaluation mode.
        data: Pictures and labels.
        recipe: Loss, schedules and optimiser; its augmentation is what `augment` does.
        plan: Epochs, batch, seed, device.
        augment: Makes views and targets of a batch; teacher and student see the same views.
        teaching: What it has to learn from beside the labels.
        on_epoch: Called after each epoch.

    Returns:
        The curve and the best accuracy.

    Raises:
        ValueError: The recipe distils and there is no teacher.
        DivergedError: The loss is not finite any more.
    """
    if recipe.is_distilled and teaching.logits is None:
        raise ValueError("`teaching` must have a teacher for a recipe that distils, got none")
    start = time.perf_counter()
    device = plan.device
    images, labels = data.train_images.to(device), data.train_labels.to(device)
    batch_size = min(plan.batch_size, len(images))
    first = torch.arange(batch_size)
    example = augment(images[:batch_size], labels[:batch_size], indices=first, epoch=0)
    n_steps = len(images) // batch_size
    # What reads inside the student, or shows it pictures of other sizes, cannot be replayed.
    is_plain = teaching.features is None and teaching.exits is None and recipe.resizing == "none"
    engine = _choose_engine(student, example, plan=plan, n_steps=n_steps if is_plain else 0)
    if recipe.resizing != "none":
        _try_smaller(student, example.pictures)
    student.to(device, memory_format=engine.memory_format)  # type: ignore[call-overload]
    run = engine.build_step(student.train(), example.pictures)
    order = torch.Generator().manual_seed(plan.seed)
    parameters = [*student.parameters(), *teaching.parameters()]
    optimiser = _build_optimiser(parameters, recipe)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=recipe.learning_rate,
        total_steps=plan.epochs * n_steps + 1,
        pct_start=_WARM_UP,
        cycle_momentum=False,
    )
    curve: list[EpochLog] = []
    best: tuple[float, float] = (-1.0, 0.0)
    best_weights: dict[str, Tensor] = {}

    for epoch in range(plan.epochs):
        epoch_start = time.perf_counter()
        progress = epoch / max(1, plan.epochs - 1)
        alpha, temperature = alpha_at(recipe, progress), temperature_at(recipe, progress)
        feature_weight, scale = feature_weight_at(recipe, progress), scale_at(recipe, progress)
        student.train()
        loss_sum = torch.zeros((), device=device)
        shuffled = torch.randperm(len(images), generator=order)
        for indices in shuffled[: n_steps * batch_size].split(batch_size):
            batch = indices.to(device, non_blocking=True)
            views = augment(images[batch], labels[batch], indices=indices, epoch=epoch)
            pictures = _shrink(views.pictures, scale)
            pictures = pictures.contiguous(memory_format=engine.memory_format)
            teacher_logits = None
            with engine.precision():
                if teaching.logits is not None and (alpha > 0 or feature_weight > 0):
                    teacher_logits = teaching.logits(views)
                student_logits = run(pictures)
            loss = distillation_loss(
                student_logits.float(),
                views.targets,
                teacher_logits=teacher_logits,
                recipe=recipe,
                alpha=alpha,
                temperature=temperature,
            )
            if teaching.features is not None and feature_weight > 0:
                loss = loss + feature_weight * teaching.features.loss(views)
            if teaching.exits is not None:
                loss = loss + teaching.exits.loss(student_logits.float(), views.targets)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, _CLIP_NORM)
            optimiser.step()
            schedule.step()
            loss_sum += loss.detach()

        train_loss = loss_sum.item() / n_steps
        if not math.isfinite(train_loss):
            raise DivergedError(f"loss is {train_loss} in epoch {epoch + 1} of {plan.epochs}")
        val_loss, val_accuracy = evaluate(student, data.val_images, data.val_labels, engine=engine)
        row = EpochLog(
            epoch=epoch + 1,
            train_loss=train_loss,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            learning_rate=float(schedule.get_last_lr()[0]),
            alpha=alpha,
            temperature=temperature,
            seconds=time.perf_counter() - epoch_start,
        )
        curve.append(row)
        on_epoch(row)
        if (val_accuracy, -val_loss) > best:
            best = (val_accuracy, -val_loss)
            best_weights = copy.deepcopy(student.state_dict())

    student.load_state_dict(best_weights)
    student.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    student.eval()
    return Training(
        curve=tuple(curve),
        val_accuracy=best[0],
        engine=engine,
        seconds=time.perf_counter() - start,
        answers="" if teaching.logits is None else teaching.logits.name,
    )


@torch.no_grad()
def evaluate(
    network: nn.Module,
    images: UInt8[Tensor, "count channels height width"],
    labels: Int64[Tensor, " count"],
    *,
    engine: Engine,
) -> tuple[float, float]:
    """Cross-entropy and top-1 of a network.

    Args:
        network: Takes views in [0, 1]; left in evaluation mode.
        images: Any number of pictures.
        labels: Their classes.
        engine: How to compute.

    Returns:
        The mean loss in nats (an infinite or undefined one as 1e9) and the accuracy in [0, 1].
    """
    network.eval()
    loss_sum = torch.zeros((), device=engine.device)
    n_right = torch.zeros((), device=engine.device)
    for pictures, truth in zip(images.split(_EVAL_BATCH), labels.split(_EVAL_BATCH), strict=True):
        views = pictures.to(engine.device).float().div_(255)
        with engine.precision():
            logits: Float[Tensor, "batch classes"] = network(
                views.contiguous(memory_format=engine.memory_format)
            )
        truth = truth.to(engine.device)
        loss_sum += F.cross_entropy(logits.float(), truth, reduction="sum")
        n_right += (logits.argmax(1) == truth).sum()
    loss = torch.nan_to_num(loss_sum / len(labels), nan=1e9, posinf=1e9).item()
    return loss, n_right.item() / len(labels)


def _choose_engine(student: nn.Module, example: Views, *, plan: Plan, n_steps: int) -> Engine:
    """That of the plan, or the fastest; never recorded where there are no steps for it."""
    if plan.engine is not None:
        is_graphed = plan.engine.is_graphed and n_steps > 0
        return dataclasses.replace(plan.engine, is_graphed=is_graphed)
    return measure_engine(
        student,
        example.pictures,
        n_classes=example.targets.shape[1],
        device=plan.device,
        n_steps=plan.epochs * n_steps,
    )


def _shrink(pictures: Tensor, scale: float) -> Tensor:
    """The pictures with a share of their side."""
    if scale == 1:
        return pictures
    size = [max(1, round(side * scale)) for side in pictures.shape[2:]]
    return F.interpolate(pictures, size=size, mode="bilinear", antialias=True)


@torch.no_grad()
def _try_smaller(student: nn.Module, pictures: Tensor) -> None:
    """Refuses a student that takes pictures of one size only.

    Raises:
        BuildError: It fails on smaller ones.
    """
    smaller = _shrink(pictures[:2], SMALLEST_SCALE)
    try:
        copy.deepcopy(student).to(smaller.device).eval()(smaller)
    except Exception as error:
        # The forward pass is the code of the space, which may raise anything.
        line = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise BuildError(
            f"student must take pictures of {tuple(smaller.shape[2:])} too for progressive "
            f"resizing, got {line}; pass --fix resizing=none"
        ) from error


def _build_optimiser(weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser; biases and norms are not decayed."""
    parameters = [weight for weight in weights if weight.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True, fused=True)
