"""Which of many trained candidates the model learns from, so that it stays small."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64

__all__ = ["best_layers", "choose_lessons"]

_GOLDEN = 0.6180339887498949  # multiples of it, modulo 1, spread evenly however many there are


def best_layers(
    costs: Float64[np.ndarray, " count"], accuracies: Float64[np.ndarray, " count"], *, n: int
) -> Bool[np.ndarray, " count"]:
    """The front, then the front of what is left, and so on until there are enough.

    Args:
        costs: One a candidate.
        accuracies: Likewise; the higher the better.
        n: How many are enough.

    Returns:
        A mask of `n`, or of all if there are fewer; of the last layer, the cheapest.
    """
    chosen = np.zeros(len(costs), dtype=bool)
    order = np.lexsort((-accuracies, costs))
    n_left = min(n, len(costs))
    while n_left > 0:
        best = np.maximum.accumulate(accuracies[order])
        is_front = np.concatenate([[True], accuracies[order][1:] > best[:-1]])
        chosen[order[is_front][:n_left]] = True
        n_left -= int(is_front.sum())
        order = order[~is_front]
    return chosen


def choose_lessons(
    costs: Float64[np.ndarray, " count"],
    curves: Sequence[Sequence[float]],
    *,
    n_first: Sequence[int],
    most: int,
) -> Bool[np.ndarray, " count"]:
    """What a chain of models over rungs learns from.

    The first candidates of each rung, which set what an accuracy must reach to count; of the
    others half the best layers and half spread evenly over the trials. Where there are several
    rungs, the highest has its share first, since what has reached it has reached the others.

    Args:
        costs: One a candidate, in the order of their trials.
        curves: Its accuracies at the rungs that it has reached.
        n_first: Of each rung, candidates that are always kept.
        most: Candidates kept, the first ones not counted.

    Returns:
        A mask: all, if there are no more than `most`.
    """
    if len(curves) <= most:
        return np.ones(len(curves), dtype=bool)
    n_reached = np.array([len(curve) for curve in curves])
    chosen = np.zeros(len(curves), dtype=bool)
    n_rungs = len(n_first)
    for rung in reversed(range(n_rungs)):
        rows = np.flatnonzero(n_reached > rung)
        chosen[rows[: n_first[rung]]] = True
        rows = rows[~chosen[rows]]
        n_wanted = max(0, most * (n_rungs - rung) // n_rungs - int(chosen.sum()))
        accuracies = np.array([curves[row][rung] for row in rows])
        is_best = best_layers(costs[rows], accuracies, n=n_wanted // 2)
        chosen[rows[is_best]] = True
        rest = rows[~is_best]
        evenly = np.argsort(rest * _GOLDEN % 1.0, kind="stable")
        chosen[rest[evenly[: n_wanted - int(is_best.sum())]]] = True
    return chosen
