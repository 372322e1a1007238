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
_AT_ONCE = 50
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
        below: The same of what it is divided by; as many rounds where they are the same ones.
        n_draws: How often to draw.
        seed: Of the draws.

    Returns:
        One ratio a draw.

    References:
        Politis & Romano, "A circular block-resampling procedure for stationary data", 1992.
    """
    random = np.random.default_rng(seed)
    chosen = _draw_rounds(len(above), n_draws=n_draws, random=random)
    others = chosen
    if len(below) != len(above):
        others = _draw_rounds(len(below), n_draws=n_draws, random=random)
    return _fast_times(above, chosen) / _fast_times(below, others)


def _fast_times(times: Times, draws: NDArray[np.int64]) -> Times:
    """Of each draw of rounds; a few draws at once, since many rounds take much memory."""
    parts = [draws[first : first + _AT_ONCE] for first in range(0, len(draws), _AT_ONCE)]
    fast = [
        np.percentile(times[rounds].reshape(len(rounds), -1), FAST_PERCENTILE, axis=1)
        for rounds in parts
    ]
    return np.concatenate(fast)


def _draw_rounds(n: int, *, n_draws: int, random: np.random.Generator) -> NDArray[np.int64]:
    length = max(1, n // _MOST_SEGMENTS)
    starts = random.integers(n, size=(n_draws, -(-n // length), 1))
    return ((starts + np.arange(length)) % n).reshape(n_draws, -1)


def half_width(draws: Times) -> float:
    """Half of the 95 % interval of some ratios, as a share of their median."""
    low, middle, high = np.percentile(draws, [2.5, 50, 97.5])
    return float((high - low) / 2 / middle)
