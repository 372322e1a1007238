"""Which of two networks is faster, by how much, and how sure that is."""

import math
from dataclasses import dataclass

from scipy import stats

from autokd.latency.readings import Spread
from autokd.types import Latency

__all__ = ["Comparison", "compare_latencies", "compare_ratio"]

_NORMAL_95 = 1.959964


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two networks on one target.

    Attributes:
        one: Latency of the first.
        other: Latency of the second.
        ratio: The first one's time over the other's.
        ratio_ci95: Both ends of its 95 % interval.
        probability: That the one that seems faster is.
    """

    one: Latency
    other: Latency
    ratio: float
    ratio_ci95: tuple[float, float]
    probability: float

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves no doubt which is faster; one without width tells nothing."""
        low, high = self.ratio_ci95
        return low < high and not low <= 1 <= high


def compare_ratio(spread: Spread, *, one: Latency, other: Latency) -> Comparison:
    """A comparison of two networks that took turns.

    Args:
        spread: The ratio of their times.
        one: Latency of the first.
        other: Latency of the second.

    Returns:
        The comparison, with the probability of a normal error of the logarithm; one half where
        nothing spreads, as of a program that prints one rounded median: the next step of its
        clock may be all that they differ by.
    """
    error = math.log(spread.high / spread.low) / 2 / _NORMAL_95
    distance = abs(math.log(spread.value))
    probability = float(stats.norm.cdf(distance / error)) if error else 0.5
    return Comparison(
        one=one,
        other=other,
        ratio=spread.value,
        ratio_ci95=(spread.low, spread.high),
        probability=probability,
    )


def compare_latencies(one: Latency, other: Latency) -> Comparison:
    """A comparison of two latencies that were measured each for itself.

    Args:
        one: Of the first network.
        other: Of the second one.

    Returns:
        The comparison, whose interval follows from both.
    """
    ratio = one.median_ms / other.median_ms
    below = math.hypot(
        math.log(one.median_ms / one.ci95_low_ms), math.log(other.ci95_high_ms / other.median_ms)
    )
    above = math.hypot(
        math.log(one.ci95_high_ms / one.median_ms), math.log(other.median_ms / other.ci95_low_ms)
    )
    spread = Spread(value=ratio, low=ratio * math.exp(-below), high=ratio * math.exp(above))
    return compare_ratio(spread, one=one, other=other)
