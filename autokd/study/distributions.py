"""Dimensions as Optuna's distributions, and back."""

from collections.abc import Mapping

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from autokd.types import Dimension

__all__ = ["build_distribution", "read_dimensions"]


def build_distribution(dimension: Dimension) -> BaseDistribution:
    """Optuna's distribution of one dimension."""
    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    low, high, step = dimension.low, dimension.high, dimension.step
    if step is not None and step == int(step) and low == int(low):
        return IntDistribution(int(low), int(high), step=int(step))
    return FloatDistribution(low, high, log=dimension.is_log, step=step)


def read_dimensions(space: Mapping[str, BaseDistribution]) -> tuple[Dimension, ...]:
    """The dimensions of somebody else's search space, as if all were of the architecture.

    Args:
        space: Label to distribution.

    Returns:
        One for each, by label.
    """
    return tuple(_read_dimension(label, kind) for label, kind in sorted(space.items()))


def _read_dimension(label: str, distribution: BaseDistribution) -> Dimension:
    if isinstance(distribution, CategoricalDistribution):
        values = tuple(value for value in distribution.choices if value is not None)
        return Dimension(label=label, room="architecture", choices=values, default=values[0])
    if isinstance(distribution, IntDistribution | FloatDistribution):
        return Dimension(
            label=label,
            room="architecture",
            low=float(distribution.low),
            high=float(distribution.high),
            step=None if distribution.step is None else float(distribution.step),
            is_log=distribution.log,
            default=distribution.low,
        )
    raise ValueError(f"`{label}` must have a distribution of Optuna, got {distribution}")
