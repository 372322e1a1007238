"""What is expected of accuracies, as a sum of lines through what was known before."""

from collections.abc import Sequence
from typing import final

import numpy as np
from jaxtyping import Float64

__all__ = ["Trend"]

Column = Float64[np.ndarray, " count"]
_LEAST = 1e-9  # of a variance


@final
class Trend:
    """Lines that never fall, each through what the ones before it left over.

    A line that is doubted is made flatter, the less it explains: as an estimate by Stein shrinks
    where the variance that it explains is hardly more than chance would, and flat where it is not.

    References:
        James & Stein, "Estimation with Quadratic Loss", 1961 (the positive part of their
        estimator, with the F statistic of the line).
    """

    def __init__(self) -> None:
        """Expects 0 of everything."""
        self._slopes: tuple[float, ...] = ()
        self._height = 0.0

    def fit(
        self,
        columns: Sequence[Column],
        accuracies: Column,
        *,
        n_trusted: int = 0,
    ) -> None:
        """Draws the lines by least squares.

        Args:
            columns: What was known before, most important first; none at all is a mean of 0.
            accuracies: What came of it.
            n_trusted: So many of the first columns are not doubted.
        """
        left, slopes = accuracies - accuracies.mean(), list[float]()
        for index, column in enumerate(columns):
            centred = column - column.mean()
            slope = max(float((centred * left).mean()) / max(float(centred.var()), _LEAST), 0.0)
            if index >= n_trusted:
                slope *= _doubt(slope * centred, left, n=len(left))
            left = left - slope * centred
            slopes.append(slope)
        self._slopes, self._height = tuple(slopes), 0.0
        if columns:
            self._height = float((accuracies - self.at(columns)).mean())

    def at(self, columns: Sequence[Column]) -> Column:
        """What is expected of others, of whom the same columns are known.

        Args:
            columns: As many as were fitted.

        Returns:
            The sum of the lines; 0 without columns.
        """
        if not self._slopes:
            return np.zeros(1)
        return self._height + np.asarray(self._slopes) @ np.stack(columns)


def _doubt(explained: Column, left: Column, *, n: int) -> float:
    """The share of a line that is believed, in [0, 1]."""
    rest = float(((left - explained) ** 2).sum())
    f_statistic = (n - 2) * float((explained**2).sum()) / max(rest, _LEAST)
    return max(0.0, 1 - 1 / f_statistic) if f_statistic > 0 else 0.0
