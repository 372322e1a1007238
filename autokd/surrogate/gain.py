"""What a candidate of known cost and uncertain accuracy adds to a front."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.stats import norm

__all__ = ["Frontier", "build_frontier", "entry_probability", "expected_gain"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Frontier:
    """The best accuracy at each cost, as a staircase.

    Attributes:
        costs: Where the stairs begin, ascending.
        accuracies: How high each is, ascending.
        floor: Accuracy below which nothing counts.
        limit: Cost above which nothing counts.
    """

    costs: Float64[np.ndarray, " stairs"]
    accuracies: Float64[np.ndarray, " stairs"]
    floor: float
    limit: float


def build_frontier(
    costs: Float64[np.ndarray, " count"],
    accuracies: Sequence[float],
    *,
    floor: float,
    limit: float,
) -> Frontier:
    """The frontier of what was trained.

    Args:
        costs: One a candidate; the log latency, for one.
        accuracies: Likewise, in [0, 1].
        floor: Worse accuracies do not count.
        limit: Higher costs do not count.

    Returns:
        Its stairs; none where nothing counts.
    """
    stairs: list[tuple[float, float]] = []
    best = floor
    for cost, accuracy in sorted(
        zip(costs.tolist(), accuracies, strict=True), key=lambda p: (p[0], -p[1])
    ):
        if accuracy > best and cost < limit:
            best = accuracy
            stairs.append((cost, accuracy))
    points = np.array(stairs, dtype=np.float64).reshape(-1, 2)
    return Frontier(costs=points[:, 0], accuracies=points[:, 1], floor=floor, limit=limit)


def expected_gain(
    mean: Float64[np.ndarray, " count"],
    std: Float64[np.ndarray, " count"],
    *,
    costs: Float64[np.ndarray, " count"],
    frontier: Frontier,
) -> Float64[np.ndarray, " count"]:
    """Expected hypervolume improvement where the cost is known and the accuracy is Gaussian.

    Exact: the frontier is constant between two stairs, and above each the gain is that
    stretch's length times the classical expected improvement over it.

    Args:
        mean: Of the accuracy.
        std: Of the accuracy; positive.
        costs: Known.
        frontier: What there is already.

    Returns:
        The gain of each candidate, in accuracy times cost; 0 at least.

    References:
        Emmerich, Giannakoglou & Naujoks, "Single- and Multiobjective Evolutionary Optimization
        Assisted by Gaussian Random Field Metamodels", 2006 (the improvement of hypervolume).
    """
    begins = np.concatenate([[-np.inf], frontier.costs])
    ends = np.concatenate([frontier.costs, [frontier.limit]])
    levels = np.concatenate([[frontier.floor], frontier.accuracies])
    lengths = np.clip(ends[None] - np.maximum(begins[None], costs[:, None]), 0, None)
    margin = (mean[:, None] - levels[None]) / std[:, None]
    gains = std[:, None] * (margin * norm.cdf(margin) + norm.pdf(margin))
    return np.clip((lengths * gains).sum(axis=1), 0, None)


def entry_probability(
    mean: Float64[np.ndarray, " count"],
    std: Float64[np.ndarray, " count"],
    *,
    costs: Float64[np.ndarray, " count"],
    frontier: Frontier,
) -> Float64[np.ndarray, " count"]:
    """How likely a candidate beats everything that is as fast.

    Args:
        mean: Of the accuracy.
        std: Of the accuracy; positive.
        costs: Known.
        frontier: What there is already.

    Returns:
        A probability for each candidate; 0 over the frontier's limit.
    """
    levels = np.concatenate([[frontier.floor], frontier.accuracies])
    stair = np.searchsorted(frontier.costs, costs, side="right")
    chance = norm.sf((levels[stair] - mean) / std)
    return np.where(costs < frontier.limit, chance, 0.0)
