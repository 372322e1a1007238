"""What accuracies are to be expected, as far as the study has got, and what there is to beat."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64

from autokd.surrogate.accuracy_model import QUARTILE, Evidence
from autokd.surrogate.advice import Advice
from autokd.surrogate.gain import Frontier, build_frontier
from autokd.surrogate.ladder import Curve, Ladder
from autokd.surrogate.observation import Observation
from autokd.surrogate.prospects import Prospects
from autokd.surrogate.thinning import choose_lessons
from autokd.surrogate.turns import is_beyond

__all__ = ["Outlook", "View"]

_LEAST_BEYOND = 4  # candidates beyond the lowest rung that make it worth looking further
_SURE = 1e-3  # standard deviation of an accuracy that was measured
_MOST_LESSONS = 300  # that the models learn from: their time grows with the cube


@dataclass(frozen=True, kw_only=True)
class View:
    """Stopped candidates compared at one rung.

    Attributes:
        mean: Accuracy of each there.
        std: Its standard deviation.
        frontier: What a candidate should improve.
        front: What it must beat to be on the front.
        is_foreseen: Whether the rung is the end of the training.
    """

    mean: Float64[np.ndarray, " count"]
    std: Float64[np.ndarray, " count"]
    frontier: Frontier
    front: Frontier
    is_foreseen: bool


@final
class Outlook:
    """Learns how accuracies go on, and looks as far ahead as that says anything.

    That is the end of the training, once two candidates have been trained to it; until then the
    highest rung that two have reached, at which all are compared.
    """

    def __init__(self, prospects: Prospects, *, advice: Advice, n_first: Sequence[int]) -> None:
        """Has learnt nothing yet.

        Args:
            prospects: Of the candidates.
            advice: How to work.
            n_first: Of each rung, candidates that were not chosen for being very good.
        """
        self._prospects, self._advice, self._n_first = prospects, advice, tuple(n_first)
        self._ladder = Ladder(advice.n_rungs, n_first=self._n_first[0], noise=advice.noise)
        self._learnt: dict[int, Curve] = {}
        self._is_able = False

    @property
    def is_far(self) -> bool:
        """Whether it sees the end of the training."""
        return self._ladder.n_known == self._advice.n_rungs

    def learn(self, observations: Sequence[Observation]) -> bool:
        """Learns from all that was told.

        Args:
            observations: All that was begun so far.

        Returns:
            Whether there is enough to say what an accuracy will be.
        """
        told = [one for one in observations if one.curve and self._prospects.is_good(one.sample)]
        curves = {one.key: one.curve for one in told}
        if curves != self._learnt:
            self._prospects.align()
            chosen = choose_lessons(
                self._prospects.costs([one.sample for one in told]),
                list(curves.values()),
                n_first=self._n_first,
                most=_MOST_LESSONS,
            )
            lessons = [told[int(row)] for row in np.flatnonzero(chosen)]
            rungs = range(self._advice.n_rungs)
            self._is_able = self._ladder.fit(
                self._prospects.evidence([one.sample for one in lessons]),
                [one.curve for one in lessons],
                n_told=[sum(len(c) > rung for c in curves.values()) for rung in rungs],
            )
            self._learnt = curves
        return self._is_able

    def predict(
        self, evidence: Evidence
    ) -> tuple[Float64[np.ndarray, " count"], Float64[np.ndarray, " count"]]:
        """Mean and standard deviation of the accuracy of candidates that were never trained.

        Args:
            evidence: Of each.

        Returns:
            As far ahead as it sees.
        """
        return self._ladder.predict(evidence, [()] * len(evidence))

    def cost(self, one: Observation) -> float:
        """The log latency of what came of a candidate, or else of its network."""
        if one.latency_ms is None or one.latency_ms <= 0:
            return self._prospects.cost(one.sample)
        return math.log(one.latency_ms)

    # ------------------------------------------------------------------ what there is to beat

    def frontiers(self, observations: Sequence[Observation]) -> tuple[Frontier, Frontier]:
        """Of what was trained, and of what is being trained as it will probably end.

        Args:
            observations: All that was begun so far, and learnt from.

        Returns:
            What a candidate should improve, and what it must beat to be on the front.
        """
        good = [one for one in observations if self._prospects.is_good(one.sample)]
        counted = [one for one in good if self._counts(one)]
        first = [one for one in good if one.curve][: self._advice.n_initial]
        return self._build_frontiers(
            np.array([self.cost(one) for one in counted], dtype=np.float64),
            self._foresee(counted).tolist(),
            level=float(np.quantile(self._foresee(first), QUARTILE)),
            least=self._advice.min_accuracy if self.is_far else 0.0,
        )

    def compare(self, waiting: Sequence[Observation], observations: Sequence[Observation]) -> View:
        """Candidates that were stopped, and what they have to beat.

        Args:
            waiting: They have reached a rung.
            observations: All that was begun so far.

        Returns:
            Where all of them are seen; before anything can be foreseen, at the lowest rung.
        """
        n_beyond = sum(is_beyond(one, 1) for one in observations)
        if n_beyond < _LEAST_BEYOND or not self.learn(observations) or self._ladder.n_known < 2:
            frontier, front = self._frontiers_beyond(1, observations)
            mean = np.array([one.curve[0] for one in waiting])
            std = np.full(len(waiting), _SURE)
            return View(mean=mean, std=std, frontier=frontier, front=front, is_foreseen=False)
        evidence = self._prospects.evidence([one.sample for one in waiting])
        mean, std = self._ladder.predict(evidence, [one.curve for one in waiting])
        if self.is_far:
            frontier, front = self.frontiers(observations)
        else:
            frontier, front = self._frontiers_beyond(self._ladder.n_known, observations)
            std = np.maximum(std, _SURE)
        return View(mean=mean, std=std, frontier=frontier, front=front, is_foreseen=self.is_far)

    def _counts(self, one: Observation) -> bool:
        """Whether a candidate is there to be beaten, where it gets as far as is seen."""
        if one.state == "complete":
            return one.is_able
        is_there = not self.is_far and len(one.curve) >= self._ladder.n_known
        return one.state == "running" or (one.state == "stopped" and is_there)

    def _frontiers_beyond(
        self, rung: int, observations: Sequence[Observation]
    ) -> tuple[Frontier, Frontier]:
        """Of the accuracies at a rung, counted from 1, of those that went on from there."""
        reached = [
            one
            for one in observations
            if len(one.curve) >= rung and self._prospects.is_good(one.sample)
        ]
        beyond = [one for one in reached if is_beyond(one, rung)]
        return self._build_frontiers(
            self._prospects.costs([one.sample for one in beyond]),
            [one.curve[rung - 1] for one in beyond],
            level=float(np.quantile([one.curve[rung - 1] for one in reached], QUARTILE)),
        )

    def _build_frontiers(
        self,
        costs: Float64[np.ndarray, " count"],
        accuracies: Sequence[float],
        *,
        level: float,
        least: float = 0.0,
    ) -> tuple[Frontier, Frontier]:
        chance = level if self._advice.chance is None else self._advice.chance
        limit = min(self._prospects.slowest(), math.log(self._advice.max_latency_ms)) + 1e-6
        improved, beaten = (
            build_frontier(costs, accuracies, floor=max(floor, least), limit=limit)
            for floor in (level, chance)
        )
        return improved, beaten

    def _foresee(self, observations: Sequence[Observation]) -> Float64[np.ndarray, " count"]:
        """The accuracy where it sees to, as it was or as it probably will be."""
        last = self._ladder.n_known - 1
        is_open = np.array([one.state != "complete" for one in observations], dtype=bool)
        ends = [one.curve[last] if one.state == "complete" else 0.0 for one in observations]
        accuracies = np.array(ends, dtype=np.float64)
        if is_open.any():
            others = [one for one in observations if one.state != "complete"]
            evidence = self._prospects.evidence([one.sample for one in others])
            accuracies[is_open], _ = self._ladder.predict(evidence, [one.curve for one in others])
        return accuracies
