"""How the steps of a student are computed, decided once for all of its trainings."""

import dataclasses

import torch

from autokd.candidate.preparation import Workshop
from autokd.candidate.students import build_student
from autokd.distillation import Engine, measure_engine
from autokd.types import TrialResult

__all__ = ["find_engine", "learn_engine", "move_engine", "recall_engine"]


def find_engine(result: TrialResult, workshop: Workshop) -> Engine:
    """Times the ways to compute a step of a student; computes gradients in this process.

    Args:
        result: Whose sample says which student.
        workshop: Pictures, and where and how long it is trained.

    Returns:
        The fastest. One that is recorded stands for its bare self where a training cannot be.
    """
    data, plan = workshop.data, workshop.plan
    student, _ = build_student(workshop.space, result.sample, data=data.card, seed=plan.seed)
    pictures = data.train_images[: plan.batch_size]
    return measure_engine(
        student,
        pictures.float() / 255,
        n_classes=data.card.n_classes,
        device=plan.device,
        n_steps=plan.epochs * (len(data.train_images) // len(pictures)),
        cores=plan.cores,
    )


def recall_engine(result: TrialResult, workshop: Workshop) -> Engine | None:
    """How a student was computed before, so that other trainings of it compare with that.

    Args:
        result: Tells the engine, if it is known.
        workshop: Where it is trained now, perhaps on a device of another kind: also there it
            computes with the same numbers, be they slow.

    Returns:
        That of the result, else the last one of the same network; none where neither is known.
    """
    device = workshop.plan.device
    if not result.engine:
        return workshop.engines.get(result.network)
    return move_engine(Engine.parse(result.engine), device=device)


def learn_engine(result: TrialResult, workshop: Workshop) -> None:
    """Remembers how a student was computed, for other trainings of the same network.

    On a GPU nothing is learnt of a training whose steps could not be recorded: that they were not
    does not say that those of another recipe should not be.

    Args:
        result: Of a training; of one that was not begun nothing is learnt.
        workshop: Keeps it. A study may change devices: what was found on another kind is left.
    """
    if not result.engine or result.recipe is None:
        return
    engine, kind = Engine.parse(result.engine), workshop.plan.device.type
    if engine.device.type == kind and (kind != "cuda" or result.recipe.is_replayable):
        workshop.engines[result.network] = engine


def move_engine(engine: Engine, *, device: torch.device) -> Engine:
    """What computes with the same numbers on another device, be they slow there.

    Args:
        engine: Of the first device.
        device: The other; perhaps of another kind, for which nothing is recorded.

    Returns:
        The engine there.
    """
    if engine.device.type == device.type:
        return dataclasses.replace(engine, device=device)
    return Engine(device=device, is_bf16=engine.is_bf16, is_channels_last=engine.is_channels_last)
