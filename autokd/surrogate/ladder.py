"""Accuracies along a training, rung by rung, up to the last one."""

from collections.abc import Sequence
from typing import final

import numpy as np
from jaxtyping import Float64

from autokd.surrogate.accuracy_model import AccuracyModel, Evidence, winsorise

__all__ = ["Ladder"]

Curve = tuple[float, ...]
"""The accuracies of one candidate at the rungs that it has reached, the lowest first."""


@final
class Ladder:
    """A chain of models: each rung's accuracy from the candidate and the rung below.

    What is not known of a candidate is predicted rung by rung, the uncertainty carried along,
    so that a candidate that was stopped and one that was never trained are compared fairly.
    What is expected of a rung is a line through what the rung below gave: where few were trained
    to the end, a candidate that is bad early is not believed to become a good one.

    References:
        Kennedy & O'Hagan, "Predicting the output from a complex computer code when fast
        approximations are available", 2000 (the chain of fidelities).
    """

    def __init__(
        self, n_rungs: int, *, n_first: Sequence[int] = (), noise_std: float = 0.0
    ) -> None:
        """Knows nothing yet.

        Args:
            n_rungs: The last one is the end of the training; at least 1.
            n_first: Of each rung, candidates that were not chosen for being very good.
            noise_std: Of an observed accuracy, as far as it is known.

        Raises:
            ValueError: There are no rungs.
        """
        if n_rungs < 1:
            raise ValueError(f"`n_rungs` must be at least 1, got {n_rungs}")
        self.n_rungs = n_rungs
        self._n_first = tuple(n_first) or (10,) * n_rungs
        self._models = [AccuracyModel(noise_std=noise_std) for _ in range(n_rungs)]
        self._floors = np.zeros(n_rungs)
        self._slopes, self._heights = np.zeros(n_rungs), np.zeros(n_rungs)

    def fit(
        self, evidence: Evidence, curves: Sequence[Curve], *, n_told: Sequence[int] = ()
    ) -> bool:
        """Learns from candidates that have reached a rung at least.

        Args:
            evidence: Of each candidate.
            curves: Of each candidate.
            n_told: How many have reached each rung, where these are only some of them.

        Returns:
            Whether every rung was reached often enough, twice, to say anything.
        """
        for rung, model in enumerate(self._models):
            rows = np.array([len(curve) > rung for curve in curves], dtype=bool)
            if rows.sum() < 2:
                return False
            known = evidence.take(rows)
            reached = [curve for curve in curves if len(curve) > rung]
            accuracies = np.array([curve[rung] for curve in reached], dtype=np.float64)
            accuracies = winsorise(accuracies, n_first=self._n_first[rung])
            self._floors[rung] = accuracies.min()
            if rung:
                below = np.array([curve[rung - 1] for curve in reached], dtype=np.float64)
                below = np.maximum(below, self._floors[rung - 1])
                known = known.with_trait(below)
                self._draw_line(rung, below, accuracies)
                accuracies = accuracies - self._line(rung, below)
            model.fit(known, accuracies, n_told=n_told[rung] if n_told else None)
        return True

    def _draw_line(
        self,
        rung: int,
        below: Float64[np.ndarray, " count"],
        accuracies: Float64[np.ndarray, " count"],
    ) -> None:
        """The least squares line from the rung below, which never falls."""
        spread = float(below.var())
        slope = float(((below - below.mean()) * accuracies).mean()) / max(spread, 1e-9)
        self._slopes[rung] = max(slope, 0.0)
        self._heights[rung] = accuracies.mean() - self._slopes[rung] * below.mean()

    def _line(
        self, rung: int, below: Float64[np.ndarray, " count"]
    ) -> Float64[np.ndarray, " count"]:
        return self._heights[rung] + self._slopes[rung] * below

    def predict(
        self, evidence: Evidence, curves: Sequence[Curve]
    ) -> tuple[Float64[np.ndarray, " count"], Float64[np.ndarray, " count"]]:
        """The accuracy at the end of the training.

        Args:
            evidence: Of each candidate.
            curves: What is known of each, empty where nothing is.

        Returns:
            Mean and standard deviation of each.
        """
        mean, std = self._models[0].predict(evidence)
        for rung, model in enumerate(self._models[1:], 1):
            below, unsure = mean.copy(), std.copy()
            for row, curve in enumerate(curves):
                if len(curve) >= rung:
                    below[row], unsure[row] = max(curve[rung - 1], self._floors[rung - 1]), 0.0
            mean, std = model.predict(evidence.with_trait(below))
            moved, _ = model.predict(evidence.with_trait(below + unsure))
            mean, moved = mean + self._line(rung, below), moved + self._line(rung, below + unsure)
            std = np.hypot(std, moved - mean)
        return mean, std
