"""What Optuna is asked: distributions of the joint space, samplers, the first trials."""

import warnings
from collections.abc import Callable

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from torch import nn

from autokd.spaces import Space
from autokd.types import Dimension, Sample

__all__ = ["build_distribution", "build_sampler", "first_samples"]

_POPULATION = 20


def build_distribution(dimension: Dimension) -> BaseDistribution:
    """Optuna's distribution of one dimension."""
    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    low, high, step = dimension.low, dimension.high, dimension.step
    if step is not None and step == int(step) and low == int(low):
        return IntDistribution(int(low), int(high), step=int(step))
    return FloatDistribution(low, high, log=dimension.is_log, step=step)


def build_sampler(name: str, *, seed: int, n_workers: int = 1) -> optuna.samplers.BaseSampler:
    """The sampler behind `--sampler`.

    Args:
        name: `tpe` (multivariate), `nsga2`, `gp` or `random`.
        seed: Of its draws; another one for each session of a study, since a sampler that
            starts again with the same seed proposes the same candidates again.
        n_workers: With several, the sampler keeps away from what is being trained.

    Returns:
        A sampler for two objectives and constraints.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        builders: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
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
