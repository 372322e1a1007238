"""Samples as vectors that a Gaussian process can compare, and how to draw and change them."""

import math
from collections.abc import Sequence
from typing import final

import numpy as np
from jaxtyping import Float64
from numpy.random import Generator

from autokd.types import Dimension, Sample, Scalar

__all__ = ["Encoding"]

_TRIES = 10
_NEAR = 0.15  # of a range: the standard deviation of a small change
_ONE_HOT = 1 / math.sqrt(2)  # so that two choices are at distance 1


@final
class Encoding:
    """The joint space as columns in [0, 1].

    A range is one column, evenly in its logarithm where it is searched so; choices that are
    numbers are one column by their rank; other choices are one column each.

    Attributes:
        dimensions: All that is searched, in the order of the columns.
        architecture_columns: What a network is.
        recipe_columns: How it is trained and in which precision it is deployed: what an accuracy
            depends on besides.
        network_columns: Architecture and precision: what is known before training depends on.
    """

    def __init__(self, dimensions: Sequence[Dimension]) -> None:
        """Lays out the columns.

        Args:
            dimensions: All that is searched, in the order of the columns.

        Raises:
            ValueError: There are none.
        """
        if not dimensions:
            raise ValueError("`dimensions` must hold a dimension, got none")
        self.dimensions = tuple(dimensions)
        self._network_labels = [one.label for one in self.dimensions if one.room != "recipe"]
        self._ranks = {one.label: _ranks(one) for one in self.dimensions}
        widths = [_width(one) for one in self.dimensions]
        rooms = [
            one.room
            for one, width in zip(self.dimensions, widths, strict=True)
            for _ in range(width)
        ]
        self.architecture_columns = tuple(i for i, r in enumerate(rooms) if r == "architecture")
        self.recipe_columns = tuple(i for i, room in enumerate(rooms) if room != "architecture")
        self.network_columns = tuple(i for i, room in enumerate(rooms) if room != "recipe")

    def encode(self, samples: Sequence[Sample]) -> Float64[np.ndarray, "count columns"]:
        """One row a sample.

        Args:
            samples: Each with a value for every dimension; others in it are not looked at.

        Returns:
            The rows, in the order of the samples.
        """
        rows = [
            [number for one in self.dimensions for number in self._columns(one, sample[one.label])]
            for sample in samples
        ]
        n_columns = len(self.architecture_columns) + len(self.recipe_columns)
        return np.array(rows, dtype=np.float64).reshape(len(rows), n_columns)

    def narrow(self, sample: Sample) -> Sample:
        """The sample with nothing in it but what is searched."""
        return {one.label: sample[one.label] for one in self.dimensions}

    def network_of(self, sample: Sample) -> tuple[Scalar, ...]:
        """The values of architecture and precision, in the order of the dimensions."""
        return tuple([sample[label] for label in self._network_labels])

    def graft(self, sample: Sample, recipe: Sample) -> Sample:
        """Architecture and precision of one sample with the recipe of another."""
        return {
            one.label: (recipe if one.room == "recipe" else sample)[one.label]
            for one in self.dimensions
        }

    def random(self, rng: Generator) -> Sample:
        """A sample drawn evenly."""
        return {one.label: _draw(one, rng) for one in self.dimensions}

    def mutate(self, sample: Sample, rng: Generator) -> Sample:
        """A neighbour: one value is changed, and each further one with a small chance.

        Args:
            sample: With a value for every dimension.
            rng: What is drawn from.

        Returns:
            Another sample; numbers are moved a little or, seldom, drawn anew.
        """
        before = self.narrow(sample)
        after = before
        for _ in range(_TRIES):  # a small change of a number on a grid may come to nothing
            n_more = int(rng.binomial(len(self.dimensions) - 1, 1 / len(self.dimensions)))
            for index in rng.choice(len(self.dimensions), size=1 + n_more, replace=False):
                one = self.dimensions[int(index)]
                after = {**after, one.label: _change(one, before[one.label], rng)}
            if after != before:
                break
        return after

    def _columns(self, dimension: Dimension, value: Scalar) -> list[float]:
        if not dimension.choices:
            return [_scale(dimension, float(value))]
        ranks = self._ranks[dimension.label]
        if ranks is not None:
            return [ranks[value]]
        return [_ONE_HOT if choice == value else 0.0 for choice in dimension.choices]


def _ranks(dimension: Dimension) -> dict[Scalar, float] | None:
    """Where each choice lies in [0, 1], if the choices have an order."""
    choices = dimension.choices
    has_order = len(choices) == 2 or all(isinstance(choice, int | float) for choice in choices)
    if not choices or not has_order:
        return None
    ordered = sorted(choices) if all(isinstance(c, int | float) for c in choices) else choices
    return {choice: rank / max(1, len(choices) - 1) for rank, choice in enumerate(ordered)}


def _width(dimension: Dimension) -> int:
    return 1 if not dimension.choices or _ranks(dimension) else len(dimension.choices)


def _scale(dimension: Dimension, value: float) -> float:
    low, high = dimension.low, dimension.high
    if low == high:  # somebody else's range may be a single value
        return 0.0
    if dimension.is_log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _unscale(dimension: Dimension, share: float) -> Scalar:
    """The value at a share of the range, on the grid where there is one."""
    low, high, step = dimension.low, dimension.high, dimension.step
    value = low * (high / low) ** share if dimension.is_log else low + (high - low) * share
    if step is not None:
        value = low + round((value - low) / step) * step
        if step == int(step) and low == int(low):
            return int(min(max(value, low), high))
    return float(min(max(value, low), high))


def _draw(dimension: Dimension, rng: Generator) -> Scalar:
    if dimension.choices:
        return dimension.choices[int(rng.integers(len(dimension.choices)))]
    return _unscale(dimension, float(rng.random()))


def _change(dimension: Dimension, value: Scalar, rng: Generator) -> Scalar:
    if dimension.choices:
        others = [choice for choice in dimension.choices if choice != value] or [value]
        return others[int(rng.integers(len(others)))]
    if rng.random() < _NEAR:
        return _draw(dimension, rng)
    moved = _scale(dimension, float(value)) + rng.normal(scale=_NEAR)
    return _unscale(dimension, float(np.clip(moved, 0, 1)))
