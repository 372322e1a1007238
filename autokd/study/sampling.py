"""What Optuna is asked: the sampler and the first trials."""

import math
import warnings
from collections.abc import Callable, Sequence

import optuna
from torch import nn

from autokd.config import Config
from autokd.spaces import Space
from autokd.study.auto_sampler import AutoSampler
from autokd.surrogate import Advice
from autokd.types import Dimension, Sample, Surveyor

__all__ = ["build_advice", "build_sampler", "first_samples"]

_POPULATION = 20
_SURVEYED = 8  # networks that `auto` looks at before each trial, if there is time
_USUAL_DEVIATION = 0.3  # of a picture's being right, where nine of ten are


def build_advice(config: Config, *, n_val: int, seed: int) -> Advice:
    """How `auto` works in a study.

    Args:
        config: Limits that it keeps.
        n_val: Pictures of the validation split, which set the noise of an accuracy.
        seed: Of its draws.

    Returns:
        The advice.
    """
    return Advice(
        n_surveyed=_SURVEYED,
        noise_std=_USUAL_DEVIATION / math.sqrt(n_val),
        max_latency_ms=config.max_latency_ms or math.inf,
        min_accuracy=config.min_accuracy or 0.0,
        seed=seed,
    )


def build_sampler(
    name: str,
    *,
    surveyor: Surveyor,
    dimensions: Sequence[Dimension],
    advice: Advice,
    n_workers: int = 1,
) -> optuna.samplers.BaseSampler:
    """The sampler behind `--sampler`.

    Args:
        name: `auto`, or one of Optuna's: `tpe` (multivariate), `nsga2`, `gp` or `random`.
        surveyor: Tells `auto` the latency of what it may propose.
        dimensions: What is searched.
        advice: How `auto` works; its seed is everybody's. It should be another one for each
            session of a study, since a sampler that starts again with the same seed proposes
            the same candidates again.
        n_workers: With several, the sampler keeps away from what is being trained.

    Returns:
        A sampler for two objectives and constraints.
    """
    seed = advice.seed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        builders: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
            "auto": lambda: AutoSampler(surveyor, dimensions=dimensions, advice=advice),
            "tpe": lambda: optuna.samplers.TPESampler(
                seed=seed, multivariate=True, constant_liar=n_workers > 1
            ),
            "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed, population_size=_POPULATION),
            "gp": lambda: optuna.samplers.GPSampler(seed=seed),
            "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        }
        return builders[name]()


def first_samples(space: Space, cost: Callable[[nn.Module], float]) -> list[Sample]:
    """What a specialist would try first.

    Args:
        space: The joint space.
        cost: What a student costs, to know the smallest and the largest.

    Returns:
        The default student without distillation (the baseline) and with the textbook recipe,
        the smallest and the largest student with the textbook recipe.
    """
    small, large = space.extremes(cost)
    return [
        space.prior("plain"),
        space.prior("textbook"),
        space.prior("textbook", architecture=small),
        space.prior("textbook", architecture=large),
    ]
