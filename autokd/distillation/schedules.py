"""How alpha, the temperature and the weight of features move through a training."""

import math

from autokd.types import SMALLEST_SCALE, Recipe, TemperatureSchedule

__all__ = ["alpha_at", "feature_weight_at", "scale_at", "temperature_at"]

_SCALES = ((0.4, SMALLEST_SCALE), (0.7, 0.75))  # until which part of the training


_WARM_UP = 0.2  # of the training
_STEP = 0.5  # of the training


def alpha_at(recipe: Recipe, progress: float) -> float:
    """Weight of the loss on logits at a point of the training.

    Args:
        recipe: Start, end and shape.
        progress: 0 in the first epoch, 1 in the last.

    Returns:
        A number between the start and the end; 0 where the teacher is not listened to.
    """
    if not recipe.has_logit_loss:
        return 0.0
    schedule = recipe.alpha_schedule
    return _value_at(recipe.alpha, recipe.alpha_end, schedule=schedule, progress=progress)


def scale_at(recipe: Recipe, progress: float) -> float:
    """Share of a picture's side that the student is shown at a point of the training.

    Args:
        recipe: Its `resizing`.
        progress: 0 in the first epoch, 1 in the last.

    Returns:
        1, or less at the beginning.

    References:
        Howard, "Training Imagenet in 3 hours for USD 25", 2018 (progressive resizing).
        Tan & Le, "EfficientNetV2", 2021, section 4. https://arxiv.org/abs/2104.00298
    """
    if recipe.resizing == "none":
        return 1.0
    return next((scale for end, scale in _SCALES if progress < end), 1.0)


def temperature_at(recipe: Recipe, progress: float) -> float:
    """Temperature at a point of the training; `decay` goes linearly to 1.

    Args:
        recipe: Start, end and shape.
        progress: 0 in the first epoch, 1 in the last.

    Returns:
        A positive number between the start and the end (1 for `decay` and `warm_up`).

    References:
        Jafari et al., "Annealing Knowledge Distillation", 2021.
        https://arxiv.org/abs/2104.07163
    """
    schedule, end = recipe.temperature_schedule, recipe.temperature_end
    if schedule == "decay":
        schedule, end = "linear", 1.0
    return _value_at(recipe.temperature, end, schedule=schedule, progress=progress, rest=1.0)


def feature_weight_at(recipe: Recipe, progress: float) -> float:
    """Factor of the feature loss at a point of the training.

    Args:
        recipe: Start, end and shape.
        progress: 0 in the first epoch, 1 in the last.

    Returns:
        A number between the start and the end; 0 where there is no feature loss.
    """
    if not recipe.has_feature_loss:
        return 0.0
    start, end, schedule = (
        recipe.feature_weight,
        recipe.feature_weight_end,
        recipe.feature_schedule,
    )
    return _value_at(start, end, schedule=schedule, progress=progress)


def _value_at(
    start: float,
    end: float,
    *,
    schedule: TemperatureSchedule,
    progress: float,
    rest: float = 0.0,
) -> float:
    """A number on its way; `rest` is where a warm-up comes from."""
    if schedule == "constant":
        return start
    if schedule == "warm_up":
        share = min(1.0, progress / _WARM_UP)
        return rest * (1 - share) + start * share
    share = progress
    if schedule == "cosine":
        share = (1 - math.cos(math.pi * progress)) / 2
    if schedule == "step":
        share = float(progress >= _STEP)
    return start * (1 - share) + end * share
