"""From the times of short blocks to one number and its interval."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["FAST_PERCENTILE", "fast_time", "half_width", "ratio_draws"]

FAST_PERCENTILE = 5
_MOST_SEGMENTS = 20

Times = NDArray[np.float64]


def fast_time(blocks: Times) -> float:
    """What the undisturbed blocks take: a low percentile of all of them."""
    return float(np.percentile(blocks, FAST_PERCENTILE))


def ratio_draws(above: Times, below: Times, *, n_draws: int, seed: int = 0) -> Times:
    """The ratio of two fast times, as it would be found in other stretches of the same run.

    Whole stretches of neighbouring rounds are drawn, since what disturbs one round disturbs the
    next one, too.

    Args:
        above: Nanoseconds of one network's blocks: rounds, blocks of a round.
        below: The same of what it is divided by; as many rounds.
        n_draws: How often to draw.
        seed: Of the draws.

    Returns:
        One ratio a draw.

    References:
        Politis & Romano, "A circular block-resampling procedure for stationary data", 1992.
    """
    n_rounds = len(above)
    length = max(1, n_rounds // _MOST_SEGMENTS)
    n_segments = -(-n_rounds // length)
    starts = np.random.default_rng(seed).integers(n_rounds, size=(n_draws, n_segments, 1))
    rounds = ((starts + np.arange(length)) % n_rounds).reshape(n_draws, -1)
    fast = [
        np.percentile(times[rounds].reshape(n_draws, -1), FAST_PERCENTILE, axis=1)
        for times in (above, below)
    ]
    return fast[0] / fast[1]


def half_width(draws: Times) -> float:
    """Half of the 95 % interval of some ratios, as a share of their median."""
    low, middle, high = np.percentile(draws, [2.5, 50, 97.5])
    return float((high - low) / 2 / middle)
