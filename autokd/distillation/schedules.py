"""How alpha and temperature move through a training."""

import math

from autokd.types import Recipe

__all__ = ["alpha_at", "temperature_at"]


def alpha_at(recipe: Recipe, progress: float) -> float:
    """Weight of the distillation loss at a point of the training.

    Args:
        recipe: Start, end and shape.
        progress: 0 in the first epoch, 1 in the last.

    Returns:
        A number between the start and the end.
    """
    if recipe.alpha_schedule == "constant":
        return recipe.alpha
    share = progress
    if recipe.alpha_schedule == "cosine":
        share = (1 - math.cos(math.pi * progress)) / 2
    return recipe.alpha * (1 - share) + recipe.alpha_end * share


def temperature_at(recipe: Recipe, progress: float) -> float:
    """Temperature at a point of the training; `decay` goes linearly to 1.

    Args:
        recipe: Start and shape.
        progress: 0 in the first epoch, 1 in the last.

    Returns:
        A positive number between the start and 1.

    References:
        Jafari et al., "Annealing Knowledge Distillation", 2021.
        https://arxiv.org/abs/2104.07163
    """
    if recipe.temperature_schedule == "constant":
        return recipe.temperature
    return recipe.temperature * (1 - progress) + progress
