"""One straight training loop; a teacher is optional, everything else is the same without."""

import copy
import dataclasses
import time

import torch
from torch import Tensor, nn

from autokd.distillation.checkpoint import Keeper
from autokd.distillation.engine import Engine, clamp_threads, measure_engine
from autokd.distillation.learning import Learning, shrink
from autokd.distillation.memory import keep_freed_memory
from autokd.distillation.plan import Augment, OnEpoch, Plan, Training, TrainingData
from autokd.distillation.teaching import Teaching, Views
from autokd.errors import BuildError
from autokd.types import SMALLEST_SCALE, Recipe

__all__ = ["distill"]


def distill(  # noqa: PLR0913 - everything that meets in a training
    student: nn.Module,
    data: TrainingData,
    *,
    recipe: Recipe,
    plan: Plan,
    augment: Augment,
    teaching: Teaching,
    on_epoch: OnEpoch = lambda _: None,
    keeper: Keeper | None = None,
) -> Training:
    """Trains a student in place, on the labels and on what the teacher says of the same views.

    What is drawn depends on seed and epoch alone, so that a training that goes on from a
    checkpoint gives, bit for bit, what it would have given in one go. A loss that is not finite
    any more ends it with a `DivergedError`.

    Args:
        student: Takes views in [0, 1], gives logits; ends with the weights of the epoch of the
            highest validation accuracy, on the CPU, in evaluation mode.
        data: Pictures and labels.
        recipe: Loss, schedules and optimiser; its augmentation is what `augment` does.
        plan: Epochs, batch, seed, device.
        augment: Makes views and targets of a batch; teacher and student see the same views.
        teaching: What it has to learn from beside the labels.
        on_epoch: Called after each epoch; may end the training.
        keeper: Keeps the training after each epoch; where it has kept one, that goes on.

    Returns:
        The curve and the best accuracy.

    Raises:
        ValueError: The recipe distils and there is no teacher.
    """
    if recipe.is_distilled and teaching.logits is None:
        raise ValueError("`teaching` must have a teacher for a recipe that distils, got none")
    keep_freed_memory()
    kept = None if keeper is None else keeper.load()
    start = time.perf_counter() - (0.0 if kept is None else kept.seconds)
    first = torch.arange(min(plan.batch_size, len(data.train_images)))
    images, labels = data.train_images[first], data.train_labels[first]
    example = augment(images.to(plan.device), labels.to(plan.device), indices=first, epoch=0)
    if recipe.resizing != "none":
        _try_smaller(student, example.pictures)
    earlier = None if kept is None else Engine.parse(kept.engine)
    if earlier is not None and earlier.device.type == plan.device.type:
        engine = dataclasses.replace(earlier, device=plan.device)
    else:  # new, or begun on a machine of another kind
        # What reads inside the student, or shows it pictures of other sizes, cannot be replayed.
        has_hooks = teaching.features is not None or teaching.exits is not None
        can_record = recipe.is_replayable and not has_hooks
        n_steps = len(data.train_images) // len(first) if can_record else 0
        engine = _choose_engine(student, example, plan=plan, n_steps=n_steps)
    engine = clamp_threads(engine, cores=plan.cores)
    learning = Learning(
        student,
        data,
        recipe=recipe,
        plan=dataclasses.replace(plan, engine=engine),
        augment=augment,
        teaching=teaching,
        example=example,
        kept=kept,
    )
    is_stopped = False
    while len(learning.curve) < plan.epochs and not is_stopped:
        row = learning.train_epoch()
        if keeper is not None:
            keeper.save(learning.checkpoint(seconds=time.perf_counter() - start))
        is_stopped = on_epoch(row) is False and row.epoch < plan.epochs
    return Training(
        val_accuracy=learning.finish(),
        curve=tuple(learning.curve),
        engine=engine,
        seconds=time.perf_counter() - start,
        answers="" if teaching.logits is None else teaching.logits.name,
        is_stopped=is_stopped,
    )


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
        cores=plan.cores,
    )


@torch.no_grad()
def _try_smaller(student: nn.Module, pictures: Tensor) -> None:
    """Refuses a student that takes pictures of one size only.

    Raises:
        BuildError: It fails on smaller ones.
    """
    smaller = shrink(pictures[:2], SMALLEST_SCALE)
    try:
        copy.deepcopy(student).to(smaller.device).eval()(smaller)
    except Exception as error:
        # The forward pass is the code of the space, which may raise anything.
        line = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise BuildError(
            f"student must take pictures of {tuple(smaller.shape[2:])} too for progressive "
            f"resizing, got {line}; pass --fix resizing=none"
        ) from error
