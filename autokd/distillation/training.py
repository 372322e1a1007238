"""One straight training loop; a teacher is optional, everything else is the same without."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from autokd.distillation.engine import Engine, measure_engine
from autokd.distillation.losses import distillation_loss
from autokd.distillation.schedules import alpha_at, temperature_at
from autokd.errors import DivergedError
from autokd.types import EpochLog, Recipe

__all__ = ["Augment", "Plan", "Training", "TrainingData", "distill", "evaluate"]

_WARM_UP = 0.1  # of all steps
_CLIP_NORM = 5.0
_EVAL_BATCH = 512

Augment = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""uint8 pictures and labels to views in [0, 1] and a probability for each class."""


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
    """

    curve: tuple[EpochLog, ...]
    val_accuracy: float
    engine: Engine
    seconds: float


def distill(  # noqa: PLR0915 - one loop that reads from top to bottom
    student: nn.Module,
    data: TrainingData,
    *,
    recipe: Recipe,
    plan: Plan,
    augment: Augment,
    teacher: nn.Module | None,
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
        teacher: Takes the same views; may be none where the recipe does not distil.
        on_epoch: Called after each epoch.

    Returns:
        The curve and the best accuracy.

    Raises:
        ValueError: The recipe distils and there is no teacher.
        DivergedError: The loss is not finite any more.
    """
    if recipe.is_distilled and teacher is None:
        raise ValueError("`teacher` must be given for a recipe that distils, got None")
    start = time.perf_counter()
    device = plan.device
    images, labels = data.train_images.to(device), data.train_labels.to(device)
    batch_size = min(plan.batch_size, len(images))
    views, targets = augment(images[:batch_size], labels[:batch_size])
    engine = plan.engine or measure_engine(
        student, views, n_classes=targets.shape[1], device=device
    )
    student.to(device, memory_format=engine.memory_format)  # type: ignore[call-overload]
    order = torch.Generator().manual_seed(plan.seed)
    n_steps = len(images) // batch_size
    optimiser = _build_optimiser(student, recipe)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=recipe.learning_rate,
        total_steps=plan.epochs * n_steps + 1,
        pct_start=_WARM_UP,
        cycle_momentum=False,
    )
    parameters = list(student.parameters())
    curve: list[EpochLog] = []
    best: tuple[float, float] = (-1.0, 0.0)
    best_weights: dict[str, Tensor] = {}

    for epoch in range(plan.epochs):
        epoch_start = time.perf_counter()
        progress = epoch / max(1, plan.epochs - 1)
        alpha, temperature = alpha_at(recipe, progress), temperature_at(recipe, progress)
        student.train()
        loss_sum = torch.zeros((), device=device)
        shuffled = torch.randperm(len(images), generator=order).to(device)
        for batch in shuffled[: n_steps * batch_size].split(batch_size):
            views, targets = augment(images[batch], labels[batch])
            views = views.contiguous(memory_format=engine.memory_format)
            teacher_logits = None
            with engine.precision():
                if teacher is not None and alpha > 0:
                    with torch.no_grad():
                        teacher_logits = teacher(views).float()
                student_logits = student(views)
            loss = distillation_loss(
                student_logits.float(),
                targets,
                teacher_logits=teacher_logits,
                recipe=recipe,
                alpha=alpha,
                temperature=temperature,
            )
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


def _build_optimiser(student: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser; biases and norms are not decayed."""
    parameters = [p for p in student.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True, fused=True)
