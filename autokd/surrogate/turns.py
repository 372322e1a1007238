"""Whether one more candidate may go beyond a rung: asynchronous successive halving, in time too."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from autokd.surrogate.observation import Observation

__all__ = ["Turns", "is_beyond"]

_LIKELY = 0.25  # to be on the front: worth a training that is short beside the others


def is_beyond(observation: Observation, rung: int) -> bool:
    """Whether a candidate has gone beyond a rung, counted from 1, or is on its way."""
    n_reached = len(observation.curve)
    return n_reached > rung or (n_reached == rung and observation.state == "running")


@dataclass(frozen=True, kw_only=True)
class _Count:
    """What was trained up to a rung and beyond it: candidates, and seconds of an epoch of each."""

    n_reached: int
    n_beyond: int
    reached_s: float
    beyond_s: float


@final
class Turns:
    """Counts who has reached each rung.

    Of `reduction` candidates one goes on. Where epochs of some take far less time than those of
    others, that holds for the time as well: a short training need not wait for its turn among the
    long ones, as long as all that goes beyond a rung takes no more than its share.

    References:
        Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020 (ASHA).
        https://arxiv.org/abs/1810.05934
    """

    def __init__(
        self,
        observations: Sequence[Observation],
        *,
        n_first: Sequence[int],
        reduction: int,
        n_unstopped: int,
    ) -> None:
        """Counts.

        Args:
            observations: All that was begun so far.
            n_first: By rung, how many must have reached it before anybody goes on.
            reduction: Of so many one goes on.
            n_unstopped: The first ones that go on in any case; their time is nobody's share.
        """
        self._n_first, self._reduction = tuple(n_first), reduction
        self._counts = [
            _count(observations, rung, n_unstopped=n_unstopped)
            for rung in range(1, len(self._n_first) + 1)
        ]

    @property
    def may_be_any(self) -> bool:
        """Whether somebody may have a turn; quick to find out, and no more than that."""
        return any(
            count.reached_s > 0 or self._is_anybodys(place)
            for place, count in enumerate(self._counts)
        )

    def has_turn(self, one: Observation, *, probability: float) -> bool:
        """Whether a candidate may go on.

        Args:
            one: It has reached a rung.
            probability: That it will be on the front.

        Returns:
            Whether it is the turn of anybody there, or whether it is likely to be on the front and
            takes so little time that it is its own.
        """
        place = len(one.curve) - 1
        if self._is_anybodys(place):
            return True
        if probability < _LIKELY or one.epoch_s is None:
            return False
        count = self._counts[place]
        shares = self._reduction * (count.beyond_s + one.epoch_s)
        return count.reached_s >= max(shares, self._n_first[place] * one.epoch_s)

    def _is_anybodys(self, place: int) -> bool:
        count = self._counts[place]
        n_wanted = self._reduction * (count.n_beyond + 1)
        return count.n_reached >= max(n_wanted, self._n_first[place])


def _count(observations: Sequence[Observation], rung: int, *, n_unstopped: int) -> _Count:
    reached = [one for one in observations if len(one.curve) >= rung]
    beyond = [one for one in reached if is_beyond(one, rung)]
    return _Count(
        n_reached=len(reached),
        n_beyond=len(beyond),
        reached_s=math.fsum(one.epoch_s or 0.0 for one in reached),
        beyond_s=math.fsum(one.epoch_s or 0.0 for one in beyond if one.key >= n_unstopped),
    )
