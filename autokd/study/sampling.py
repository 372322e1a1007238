"""What Optuna is asked: the sampler and the first trials."""

import math
import warnings
from collections.abc import Callable, Hashable, Sequence
from functools import partial

import optuna
from torch import nn

from autokd.config import Config
from autokd.errors import BuildError
from autokd.spaces import Space
from autokd.study.auto_sampler import AutoSampler
from autokd.study.rungs import REDUCTION
from autokd.surrogate import Advice, Lesson, Noise
from autokd.types import Sample, Surveyor

__all__ = ["build_advice", "build_auto_sampler", "build_sampler", "first_samples"]

_POPULATION = 20
_SURVEYED = 8  # networks that `auto` looks at before each trial, if there is time


def build_advice(
    config: Config, *, max_latency_ms: float | None, n_classes: int, noise: Noise, seed: int
) -> Advice:
    """How the sampler `auto` of a study works.

    Args:
        config: The least accuracy.
        max_latency_ms: Of what is trained.
        n_classes: Of the pictures.
        noise: Of an accuracy on the validation split.
        seed: Of its draws. It should be another one for each session of a study, since a
            sampler that starts again with the same seed proposes the same candidates again.

    Returns:
        Its advice; the first trial is never stopped.
    """
    return Advice(
        n_surveyed=_SURVEYED,
        reduction=REDUCTION,
        noise=noise,
        max_latency_ms=max_latency_ms or math.inf,
        min_accuracy=config.min_accuracy or 0.0,
        seed=seed,
        chance=1 / n_classes,
        n_unstopped=1,
    )


def build_auto_sampler(
    advice: Advice,
    *,
    surveyor: Surveyor,
    space: Space,
    rungs: Sequence[int],
    lessons: Sequence[Lesson] = (),
) -> AutoSampler:
    """The sampler `auto` of a study, which also tells how stopped trials stand.

    Args:
        advice: As `build_advice` gave it.
        surveyor: Tells the latency of what it may propose.
        space: What is searched.
        rungs: Epochs after which a trial may be stopped.
        lessons: Of earlier studies.

    Returns:
        The sampler.
    """
    return AutoSampler(
        surveyor,
        dimensions=space.dimensions,
        advice=advice,
        rungs=rungs,
        identify=partial(_identify, space),
        lessons=lessons,
    )


def _identify(space: Space, sample: Sample) -> Hashable:
    """Architecture and recipe, in which what has no effect is left out."""
    try:
        recipe = space.freeze(sample)[1]
    except BuildError:
        recipe = None
    return (*space.architecture_of(sample).items(), recipe)


def build_sampler(name: str, *, auto: AutoSampler, seed: int) -> optuna.samplers.BaseSampler:
    """The sampler behind `--sampler`.

    Args:
        name: `auto`, or one of Optuna's: `tpe` (multivariate), `nsga2`, `gp` or `random`.
        auto: That of the study.
        seed: Of the others; another one for each session.

    Returns:
        A sampler for two objectives and constraints.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        builders: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
            "auto": lambda: auto,
            "tpe": lambda: optuna.samplers.TPESampler(
                seed=seed,
                multivariate=True,
                constant_liar=True,  # the stopped ones count as bad
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
        the smallest and the largest student with the textbook recipe; where the precision is
        searched, the default student in INT8 too.
    """
    small, large = space.extremes(cost)
    is_open = len(space.values_of("precision")) > 1
    quantized = [space.prior("textbook", architecture={"precision": "int8"})] if is_open else []
    return [
        space.prior("plain"),
        space.prior("textbook"),
        space.prior("textbook", architecture=small),
        space.prior("textbook", architecture=large),
        *quantized,
    ]
