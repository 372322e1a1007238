"""A training after an epoch, from which it goes on as if it had never been cut off."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from autokd.types import EpochLog

__all__ = ["Checkpoint", "Keeper"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """All that a training is after an epoch; what it draws depends on seed and epoch alone.

    Attributes:
        curve: One row for each epoch that is done.
        weights: Of the student.
        best_weights: Of its best epoch; empty where that is the last one.
        beside: What is trained beside the student, in the order of `Teaching.parameters`.
        optimiser: Its state.
        schedule: State of the learning rate's schedule.
        engine: How the steps were computed, as `Engine` writes it.
        seconds: Wall time so far.
    """

    curve: tuple[EpochLog, ...]
    weights: dict[str, Tensor]
    best_weights: dict[str, Tensor]
    beside: list[Tensor]
    optimiser: dict[str, Any]
    schedule: dict[str, Any]
    engine: str
    seconds: float


@runtime_checkable
class Keeper(Protocol):
    """Keeps the last checkpoint of one training."""

    def load(self) -> Checkpoint | None:
        """What was kept last, its tensors on the CPU; none where there is nothing of use."""
        ...

    def save(self, checkpoint: Checkpoint) -> None:
        """Keeps a checkpoint in place of the one before; its tensors go on to change."""
        ...
