"""What a training is given and what comes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from autokd.distillation.engine import Engine
from autokd.distillation.teaching import Views
from autokd.types import EpochLog

__all__ = ["Augment", "OnEpoch", "Plan", "Training", "TrainingData"]

OnEpoch = Callable[[EpochLog], object]
"""Called after each epoch; the training ends with it if this gives `False`."""


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
        cores: That it may use of those that the process has; all of them if none.
    """

    epochs: int
    batch_size: int
    seed: int
    device: torch.device
    engine: Engine | None = None
    cores: int | None = None


@dataclass(frozen=True, kw_only=True)
class Training:
    """What came of a training; the student itself holds the weights of its best epoch.

    Attributes:
        curve: One row per epoch.
        val_accuracy: Of the best epoch, in [0, 1].
        engine: How the steps were computed.
        seconds: Wall time, that before the checkpoint included.
        answers: Where the teacher's came from: `live`, `kept` or `mixed`; several, with commas
            between, where generations differ; empty without one.
        is_stopped: Whether it was ended before its last epoch.
    """

    curve: tuple[EpochLog, ...]
    val_accuracy: float
    engine: Engine
    seconds: float
    answers: str = ""
    is_stopped: bool = False
