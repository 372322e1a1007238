"""The optimiser of a recipe and the schedule of its learning rate."""

from collections.abc import Sequence

import torch
from torch import nn

from autokd.types import Recipe

__all__ = ["build_optimiser", "build_schedule"]

_WARM_UP = 0.1  # of all steps


def build_optimiser(weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser; biases and norms are not decayed.

    Args:
        weights: What is trained; frozen ones are left out.
        recipe: Its `optimiser`, `learning_rate` and `weight_decay`.

    Returns:
        AdamW, or SGD with Nesterov momentum.
    """
    parameters = [weight for weight in weights if weight.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True, fused=True)


def build_schedule(
    optimiser: torch.optim.Optimizer, *, peak: float, n_steps: int
) -> torch.optim.lr_scheduler.OneCycleLR:
    """A warm-up over a tenth of the steps, then a cosine to nothing.

    Args:
        optimiser: Whose learning rate it is.
        peak: The highest.
        n_steps: Of the whole training.

    Returns:
        The schedule, stepped after each step.
    """
    total = n_steps + 1
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=peak,
        total_steps=total,
        pct_start=_WARM_UP if _WARM_UP * total != 1 else 1.5 / total,  # torch divides by 0
        cycle_momentum=False,
    )
