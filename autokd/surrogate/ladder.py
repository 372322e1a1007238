"""Accuracies along a training, rung by rung, up to the last one."""

from collections.abc import Sequence
from typing import final

import numpy as np
from jaxtyping import Float64

from autokd.surrogate.accuracy_model import AccuracyModel, Evidence, winsorise
from autokd.surrogate.noise import Noise
from autokd.surrogate.trend import Trend

__all__ = ["Ladder"]

Curve = tuple[float, ...]
"""The accuracies of one candidate at the rungs that it has reached, the lowest first."""

_FIRST = 10


@final
class Ladder:
    """A chain of models: each rung's accuracy from the candidate and the rung below.

    What is not known of a candidate is predicted rung by rung, the uncertainty carried along,
    so that a candidate that was stopped and one that was never trained are compared fairly.
    What is expected of a rung is a line through what the rung below gave: where few were trained
    to the end, a candidate that is bad early is not believed to become a good one. The lowest rung
    alone tells what is broken: who gets further was chosen, for being good or for being fast, and a
    level drawn from those would lift the fast ones above what they are. Earlier studies are like
    rungs below the lowest, but doubted: what they expect is believed as far as the candidates of
    this one bear it out.

    Where nobody has got to the end yet, or one alone, the highest rung that two have reached stands
    for it: with rungs far apart that is most of a study.

    References:
        Kennedy & O'Hagan, "Predicting the output from a complex computer code when fast
        approximations are available", 2000 (the chain of fidelities).
    """

    def __init__(self, n_rungs: int, *, n_first: int = _FIRST, noise: Noise | None = None) -> None:
        """Knows nothing yet.

        Args:
            n_rungs: The last one is the end of the training; at least 1.
            n_first: At the lowest rung, candidates that were not chosen for being good.
            noise: Of an observed accuracy, as far as it is known. What seeds tell of it is for the
                lowest rung alone, since the higher ones go on with the same seed.

        Raises:
            ValueError: There are no rungs.
        """
        if n_rungs < 1:
            raise ValueError(f"`n_rungs` must be at least 1, got {n_rungs}")
        self.n_rungs = n_rungs
        self.n_known = 0
        self._n_first = n_first
        self._noise = noise or Noise()
        self._models = [AccuracyModel(noise=None if n else self._noise) for n in range(n_rungs)]
        self._trends = [Trend() for _ in range(n_rungs)]
        self._floors = np.zeros(n_rungs)

    def fit(
        self, evidence: Evidence, curves: Sequence[Curve], *, n_told: Sequence[int] = ()
    ) -> bool:
        """Learns from candidates that have reached a rung at least.

        Args:
            evidence: Of each candidate.
            curves: Of each candidate.
            n_told: How many have reached each rung, where these are only some of them.

        Returns:
            Whether the lowest rung was reached often enough, twice, to say anything; `n_known` are
            the rungs of which that is so.
        """
        self.n_known = 0
        for rung, model in enumerate(self._models):
            rows = np.array([len(curve) > rung for curve in curves], dtype=bool)
            if rows.sum() < 2:
                break
            known = evidence.take(rows)
            reached = [curve for curve in curves if len(curve) > rung]
            accuracies = np.array([curve[rung] for curve in reached], dtype=np.float64)
            if rung:  # who is here was chosen for being good: nothing tells what is broken
                accuracies = np.maximum(accuracies, self._floors[rung - 1])
            else:
                accuracies = winsorise(accuracies, n_first=self._n_first)
            self._floors[rung] = accuracies.min()
            below: list[Float64[np.ndarray, " count"]] = []
            if rung:
                lower = np.array([curve[rung - 1] for curve in reached], dtype=np.float64)
                below = [np.maximum(lower, self._floors[rung - 1])]
            columns = [*below, *known.expected]
            self._trends[rung].fit(columns, accuracies, n_trusted=len(below))
            model.fit(
                _with_traits(known, columns),
                accuracies - self._trends[rung].at(columns),
                floor_std=self._noise.floor_std(accuracies),
                n_told=n_told[rung] if n_told else None,
            )
            self.n_known = rung + 1
        return self.n_known > 0

    def _predict_rung(
        self,
        rung: int,
        evidence: Evidence,
        below: Sequence[Float64[np.ndarray, " count"]],
    ) -> tuple[Float64[np.ndarray, " count"], Float64[np.ndarray, " count"]]:
        """Mean and standard deviation at one rung, from the one below if there is one."""
        columns = [*below, *evidence.expected]
        mean, std = self._models[rung].predict(_with_traits(evidence, columns))
        return mean + self._trends[rung].at(columns), std

    def predict(
        self, evidence: Evidence, curves: Sequence[Curve]
    ) -> tuple[Float64[np.ndarray, " count"], Float64[np.ndarray, " count"]]:
        """The accuracy at the highest rung of which something is known.

        Args:
            evidence: Of each candidate.
            curves: What is known of each, empty where nothing is.

        Returns:
            Mean and standard deviation of each; what was measured there is what it was, and 0.
        """
        mean, std = self._predict_rung(0, evidence, [])
        for rung in range(1, self.n_known):
            below, unsure = mean.copy(), std.copy()
            for row, curve in enumerate(curves):
                if len(curve) >= rung:
                    below[row], unsure[row] = max(curve[rung - 1], self._floors[rung - 1]), 0.0
            mean, std = self._predict_rung(rung, evidence, [below])
            moved, _ = self._predict_rung(rung, evidence, [below + unsure])
            std = np.hypot(std, moved - mean)
        for row, curve in enumerate(curves):
            if len(curve) >= self.n_known:
                last = self.n_known - 1
                mean[row], std[row] = max(curve[last], self._floors[last]), 0.0
        return mean, std


def _with_traits(evidence: Evidence, columns: Sequence[Float64[np.ndarray, " count"]]) -> Evidence:
    for column in columns:
        evidence = evidence.with_trait(column)
    return evidence
