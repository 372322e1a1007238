"""How a teacher is trained, and the seam to whatever trains it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from autokd.teachers.committee import AnyTeacher
from autokd.types import InputShape

__all__ = [
    "FitNetwork",
    "TeachNetwork",
    "TeacherPlan",
    "Workload",
    "count_macs",
    "plan_finetuning",
    "plan_training",
]

_CPU_MACS, _CUDA_MACS = 6e13, 6e15  # a training of about 20 minutes on 2 cores; on one GPU
_N_STEPS = 15_000


@dataclass(frozen=True, kw_only=True)
class TeacherPlan:
    """How a teacher is trained on the training split.

    Attributes:
        epochs: Passes over the training split.
        batch_size: Pictures per step.
        learning_rate: Peak of a warm-up and cosine schedule.
        weight_decay: Not for biases and norms.
        optimiser: AdamW, or SGD with Nesterov momentum 0.9.
        augmentation: Random crops, with or without horizontal flips.
        label_smoothing: Share of the label's mass spread over all classes. Kept at 0: a
            smoothed teacher teaches worse (Müller, Kornblith & Hinton, "When Does Label
            Smoothing Help?", 2019, section 4. https://arxiv.org/abs/1906.02629).
        seed: Of weights, batches and augmentation.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    optimiser: Literal["adamw", "sgd"] = "adamw"
    augmentation: Literal["crop", "flip_crop"] = "crop"
    label_smoothing: float = 0.0
    seed: int = 0


@runtime_checkable
class FitNetwork(Protocol):
    """Trains a network on the training split, supervised.

    Called for `auto` and for `--teacher-finetune` only, and not when the result is cached.
    """

    def __call__(self, network: nn.Module, *, plan: TeacherPlan, checkpoint: Path) -> nn.Module:
        """The network with its best weights.

        Args:
            network: Takes views in [0, 1] at the data's size, gives logits.
            plan: How to train it.
            checkpoint: A file of this training's own, to go on from when it was cut off; whoever
                calls removes it when the weights are kept.

        Returns:
            The network or a copy of it: the names in its state dict are the same.
        """
        ...


@runtime_checkable
class TeachNetwork(Protocol):
    """Trains an assistant on the training split and on what its teacher says, by the textbook.

    The recipe is `RECIPE_PRIORS["textbook"]`: soft targets at temperature 4, alpha 0.9. Not
    called when the result is cached.
    """

    def __call__(
        self, network: nn.Module, *, plan: TeacherPlan, checkpoint: Path, teacher: AnyTeacher
    ) -> nn.Module:
        """The network with its best weights.

        Args:
            network: Takes views in [0, 1] at the data's size, gives logits.
            plan: How to train it.
            checkpoint: As for `FitNetwork`.
            teacher: Takes the same views, gives logits of the same classes.

        Returns:
            The network or a copy of it: the names in its state dict are the same.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What decides how long a training may be.

    Attributes:
        macs: Multiply-accumulates of one forward of one picture.
        n_train: Pictures of the training split.
        is_colour: Whether pictures have colour, and so a mirror image of the same class.
        has_cuda: Whether a GPU does the work.
        seed: Of the training.
    """

    macs: int
    n_train: int
    is_colour: bool
    has_cuda: bool
    seed: int


def count_macs(network: nn.Module, *, shape: InputShape) -> int:
    """Multiply-accumulates of one forward of one picture.

    Args:
        network: Takes prepared pictures; left in eval mode.
        shape: Channels, height and width of them.

    Returns:
        Those of convolutions, matrix products and attention.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, *shape))
    return counter.get_total_flops() // 2


def plan_training(work: Workload) -> TeacherPlan:
    """A training from the first weight on: 5 to 30 epochs, about 6e13 MACs on a CPU.

    Args:
        work: Size of the network and of the data.

    Returns:
        The plan.
    """
    return _plan(work, epochs=(5, 30), learning_rate=3e-3 if work.macs < 10**8 else 1e-3)


def plan_finetuning(work: Workload) -> TeacherPlan:
    """A short training at a low rate, of a network that knows something already.

    Args:
        work: Size of the network and of the data.

    Returns:
        The plan: 3 to 10 epochs.
    """
    return _plan(work, epochs=(3, 10), learning_rate=2e-4)


def _plan(work: Workload, *, epochs: tuple[int, int], learning_rate: float) -> TeacherPlan:
    """As many epochs as compute and steps allow, within bounds; a backward costs two forwards."""
    batch_size = 64 if work.n_train < 5000 else 128
    affordable = (_CUDA_MACS if work.has_cuda else _CPU_MACS) / (3 * work.macs * work.n_train)
    wanted = min(affordable, _N_STEPS * batch_size / work.n_train)
    return TeacherPlan(
        epochs=max(epochs[0], min(epochs[1], round(wanted))),
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=0.05,
        augmentation="flip_crop" if work.is_colour else "crop",
        seed=work.seed,
    )
