"""From the times of short blocks to one number and its interval."""

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FAST_PERCENTILE",
    "LEAST_QUIET",
    "WANTED_QUIET",
    "fast_time",
    "half_width",
    "quiet_rounds",
    "ratio_draws",
]

FAST_PERCENTILE = 5
LEAST_QUIET, WANTED_QUIET = 8, 12
"""Rounds that must have been quiet for the others not to count, and those that are waited for."""

_MOST_SEGMENTS = 20
_TOLERANCE = 1.08

Times = NDArray[np.float64]


def fast_time(blocks: Times) -> float:
    """What the undisturbed blocks take: a low percentile of all of them."""
    return float(np.percentile(blocks, FAST_PERCENTILE))


def quiet_rounds(reference: Times, *, quiet: float) -> NDArray[np.bool_]:
    """In which rounds nothing disturbed the machine.

    A disturbed processor slows each network by another factor, so that dividing by a reference
    does not mend what was timed then.

    Args:
        reference: Nanoseconds of the reference's blocks before and after the network: rounds,
            blocks; the first half of them lies before.
        quiet: What they take when nothing disturbs them.

    Returns:
        For each round, whether the median before and the one after are within 8 % of it.
    """
    half = (reference.shape[1] + 1) // 2
    sides = [np.median(side, axis=1) for side in (reference[:, :half], reference[:, -half:])]
    return np.maximum(*sides) <= _TOLERANCE * quiet


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
