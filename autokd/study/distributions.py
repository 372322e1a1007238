"""Dimensions as Optuna's distributions, and back."""

from collections.abc import Collection, Mapping

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from autokd.types import Dimension, Room, Scalar

__all__ = ["build_distribution", "read_dimensions"]


def build_distribution(dimension: Dimension) -> BaseDistribution:
    """Optuna's distribution of one dimension."""
    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    low, high, step = dimension.low, dimension.high, dimension.step
    if step is not None and step == int(step) and low == int(low):
        return IntDistribution(int(low), int(high), step=int(step), log=dimension.is_log)
    return FloatDistribution(low, high, log=dimension.is_log, step=step)


def read_dimensions(
    space: Mapping[str, BaseDistribution], *, recipe: Collection[str] = ()
) -> tuple[Dimension, ...]:
    """The dimensions of somebody else's search space.

    Args:
        space: Label to distribution.
        recipe: Labels of those that a latency does not depend on; all others are taken to be of
            the architecture.

    Returns:
        One for each, by label; a `TypeError` says that a choice cannot be understood.
    """
    return tuple(
        _read_dimension(label, kind, room="recipe" if label in recipe else "architecture")
        for label, kind in sorted(space.items())
    )


def _read_dimension(label: str, distribution: BaseDistribution, *, room: Room) -> Dimension:
    if isinstance(distribution, CategoricalDistribution):
        choices = _read_choices(label, distribution)
        return Dimension(label=label, room=room, choices=choices, default=choices[0])
    if isinstance(distribution, IntDistribution | FloatDistribution):
        return Dimension(
            label=label,
            room=room,
            low=float(distribution.low),
            high=float(distribution.high),
            step=None if distribution.step is None else float(distribution.step),
            is_log=distribution.log,
            default=distribution.low,
        )
    raise ValueError(f"`{label}` must have a distribution of Optuna, got {distribution}")


def _read_choices(label: str, distribution: CategoricalDistribution) -> tuple[Scalar, ...]:
    choices: list[Scalar] = []
    for value in distribution.choices:
        if not isinstance(value, str | int | float | bool):
            raise TypeError(
                f"`{label}` must have choices of text, numbers or truth values for AutoSampler, "
                f"got {value}; write it as text"
            )
        choices.append(value)
    return tuple(choices)
