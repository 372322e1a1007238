"""Which candidate to begin next, and which stopped one to train on."""

import math
from collections.abc import Hashable, Sequence
from typing import final

import numpy as np
from numpy.random import Generator

from autokd.surrogate.advice import Advice, Identify, Standing
from autokd.surrogate.encoding import Encoding
from autokd.surrogate.gain import Frontier, entry_probability, expected_gain
from autokd.surrogate.observation import Observation
from autokd.surrogate.outlook import Outlook
from autokd.surrogate.precedent import Lesson, Precedent
from autokd.surrogate.proposals import propose
from autokd.surrogate.prospects import Prospects
from autokd.surrogate.thinning import best_layers
from autokd.surrogate.turns import Turns
from autokd.types import Dimension, Sample, Scalar, Surveyor

__all__ = ["Advisor"]

_POOL = 600  # samples to choose from
_SURVEYED_FIRST = 3  # networks looked at for each candidate of the initial design
_RECIPES = 3  # tried with each network that was looked at and not chosen
_LEAST_FIRST = 4  # candidates of a rung that tell which accuracies count
_SEEDS = 0.5  # of the initial design come from the front of earlier studies
_MOST_WAITING = 300  # stopped candidates that are thought about, the best layers of each rung


@final
class Advisor:
    """Knows the latency of what it proposes and models the accuracy only.

    A suggestion is chosen from many samples, drawn and changed from good ones. Of those whose
    network was never looked at, the traits are guessed; the best of them are looked at, and what
    has the highest expected hypervolume improvement at its measured latency is taken.
    """

    def __init__(
        self,
        dimensions: Sequence[Dimension],
        surveyor: Surveyor,
        *,
        advice: Advice | None = None,
        identify: Identify | None = None,
        lessons: Sequence[Lesson] = (),
    ) -> None:
        """Has looked at nothing yet.

        Args:
            dimensions: What is searched.
            surveyor: Looks at candidates.
            advice: How to work.
            identify: Gives the same for samples that are trained in the same way; equal samples
                only, if none.
            lessons: Of earlier studies, the one that is most like this one first.
        """
        self._identify = identify or _key
        self._identities: dict[int, Hashable] = {}
        self._advice = advice or Advice()
        self._encoding = Encoding(dimensions)
        precedents = [Precedent(self._encoding.dimensions, lesson) for lesson in lessons]
        self._prospects = Prospects(self._encoding, surveyor, precedents=precedents)
        n_seeds = math.ceil(_SEEDS * self._advice.n_initial / max(1, len(precedents)))
        self._seeds = [seed for one in precedents for seed in one.seeds(n_seeds)]
        self._rungs = range(self._advice.n_rungs)
        self._n_first = [
            max(_LEAST_FIRST, self._advice.n_initial // self._advice.reduction**rung)
            for rung in self._rungs
        ]
        self._outlook = Outlook(self._prospects, advice=self._advice, n_first=self._n_first)
        self._stood: tuple[list[Observation], list[Standing]] = [], []

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """What is searched."""
        return self._encoding.dimensions

    # ------------------------------------------------------------------ what to begin

    def suggest(self, observations: Sequence[Observation], *, number: int | None = None) -> Sample:
        """A candidate to begin.

        Args:
            observations: All that was begun so far, those that still run among them.
            number: Of the candidate, unlike that of any other which is asked for at the same time;
                as many as there are observations if none.

        Returns:
            A value for every dimension.
        """
        rng = np.random.default_rng(
            [self._advice.seed, len(observations) if number is None else number]
        )
        self._prospects.look(one.sample for one in observations)
        if not self._leftovers(observations):
            n_first = max(self._advice.n_surveyed, _SURVEYED_FIRST * self._advice.n_initial)
            self._prospects.look(propose(self._encoding, parents=(), n=n_first, rng=rng))
        n_told = sum(one.state != "lost" for one in observations)
        if n_told < self._advice.n_initial or not self._outlook.learn(observations):
            seed = self._plant(observations, rng=rng)
            return seed or self._spread(observations, rng=rng)
        return self._choose(observations, rng=rng)

    def _choose(self, observations: Sequence[Observation], *, rng: Generator) -> Sample:
        """The sample of the highest gain."""
        frontier, _ = self._outlook.frontiers(observations)
        parents = self._parents(observations)
        drawn = propose(self._encoding, parents=parents, n=_POOL, rng=rng)
        self._shortlist(drawn, frontier=frontier)
        known = [sample for sample in drawn if self._prospects.is_good(sample)]
        known += [
            self._encoding.graft(sample, recipe)
            for sample in self._leftovers(observations)
            for recipe in self._recipes(parents, rng=rng)
        ]
        if not known:
            return self._encoding.random(rng)
        mean, std = self._outlook.predict(self._prospects.evidence(known))
        gains = expected_gain(mean, std, costs=self._prospects.costs(known), frontier=frontier)
        begun = self._identities_of(observations)
        for index in np.argsort(-gains, kind="stable"):
            if self._identify(known[int(index)]) not in begun:
                return known[int(index)]
        return self._encoding.random(rng)

    def _identities_of(self, observations: Sequence[Observation]) -> set[Hashable]:
        for one in observations:
            if one.key not in self._identities:
                self._identities[one.key] = self._identify(self._encoding.narrow(one.sample))
        return {self._identities[one.key] for one in observations}

    def _shortlist(self, drawn: Sequence[Sample], *, frontier: Frontier) -> None:
        """Looks at the networks that seem best, as far as their traits can be guessed."""
        unknown = {
            self._encoding.network_of(sample): sample
            for sample in drawn
            if not self._prospects.is_seen(sample)
        }
        samples = list(unknown.values())
        guess = self._prospects.guess(samples) if samples else None
        if guess is None:
            self._prospects.look(samples[: self._advice.n_surveyed])
            return
        evidence, costs = guess
        mean, std = self._outlook.predict(evidence)
        gains = expected_gain(mean, std, costs=costs, frontier=frontier)
        best = np.argsort(-gains, kind="stable")[: self._advice.n_surveyed]
        self._prospects.look([samples[int(index)] for index in best])

    def _recipes(self, parents: Sequence[Sample], *, rng: Generator) -> list[Sample]:
        """Samples whose recipes are tried with a network."""
        n = _RECIPES if self._encoding.recipe_columns else 1
        return propose(self._encoding, parents=parents, n=n, rng=rng)

    def _plant(self, observations: Sequence[Observation], *, rng: Generator) -> Sample | None:
        """What an earlier study had on its front, as long as there is something left of it."""
        for seed in self._seeds:
            if any(seed.items() <= one.sample.items() for one in observations):
                continue
            sample = {**self._encoding.random(rng), **seed}
            self._prospects.look([sample])
            limit = math.log(self._advice.max_latency_ms)
            if self._prospects.is_good(sample) and self._prospects.cost(sample) <= limit:
                return sample
        return None

    def _spread(self, observations: Sequence[Observation], *, rng: Generator) -> Sample:
        """The network whose latency is furthest from those that were begun, and any recipe."""
        drawn = self._encoding.random(rng)
        leftovers = self._leftovers(observations)
        if not leftovers:
            return drawn
        costs = self._prospects.costs(leftovers)
        taken = [one.sample for one in observations if self._prospects.is_good(one.sample)]
        anchors = self._prospects.costs(taken) if taken else np.array([costs.min() - 1.0])
        distances = np.abs(costs[:, None] - anchors[None]).min(axis=1)
        return self._encoding.graft(leftovers[int(np.argmax(distances))], drawn)

    # ------------------------------------------------------------------ what to go on with

    def promotions(self, observations: Sequence[Observation]) -> list[Standing]:
        """Stopped candidates whose turn it is to go on, the one that is worth most first.

        Args:
            observations: All that was begun so far.

        Returns:
            None where it is nobody's turn.
        """
        if not self._count_turns(observations).may_be_any:
            return []
        return [one for one in self.standings(observations) if one.is_turn]

    def standings(self, observations: Sequence[Observation]) -> list[Standing]:
        """How stopped candidates stand, the one that is worth most first.

        Of those that have reached a rung, one in `reduction` may go beyond it, the best first
        and whenever it is their turn; only the first ones wait until there are some to choose
        from.

        Args:
            observations: All that was begun so far.

        Returns:
            One for each stopped candidate; where there are very many, for the best of them.

        References:
            Schmucker et al., "Multi-objective Asynchronous Successive Halving", 2021.
            https://arxiv.org/abs/2106.12639
        """
        if observations == self._stood[0]:  # asked again before anything has happened
            return self._stood[1]
        standings = self._rank(observations)
        if all(self._prospects.is_seen(one.sample) for one in observations):
            self._stood = list(observations), standings
        return standings

    def _rank(self, observations: Sequence[Observation]) -> list[Standing]:
        self._prospects.look(one.sample for one in observations)
        waiting = [
            one
            for one in observations
            if one.state == "stopped" and one.curve and self._prospects.is_good(one.sample)
        ]
        if not waiting:
            return []
        waiting = self._narrow(waiting)
        samples = [one.sample for one in waiting]
        view = self._outlook.compare(waiting, observations)
        costs = self._prospects.costs(samples)
        gains = expected_gain(view.mean, view.std, costs=costs, frontier=view.frontier)
        turns = self._count_turns(observations)
        chances = entry_probability(view.mean, view.std, costs=costs, frontier=view.front)
        ranked = [
            Standing(
                key=one.key,
                gain=float(gain),
                probability=float(chance),
                is_foreseen=view.is_foreseen,
                is_turn=turns.has_turn(one, probability=float(chance)),
            )
            for one, gain, chance in zip(waiting, gains, chances, strict=True)
        ]
        return sorted(ranked, key=lambda one: (-one.gain, one.key))

    def _count_turns(self, observations: Sequence[Observation]) -> Turns:
        return Turns(
            observations,
            n_first=self._n_first[:-1],
            reduction=self._advice.reduction,
            n_unstopped=self._advice.n_unstopped,
        )

    def _narrow(self, waiting: Sequence[Observation]) -> list[Observation]:
        """Of each rung the candidates that are not far behind the others."""
        kept: list[Observation] = []
        for reached in sorted({len(one.curve) for one in waiting}):
            there = [one for one in waiting if len(one.curve) == reached]
            is_near = best_layers(
                self._prospects.costs([one.sample for one in there]),
                np.array([one.curve[-1] for one in there]),
                n=_MOST_WAITING,
            )
            kept += [one for one, near in zip(there, is_near, strict=True) if near]
        return kept

    def _parents(self, observations: Sequence[Observation]) -> list[Sample]:
        """Candidates on the front of some rung."""
        told = [one for one in observations if one.curve and self._prospects.is_good(one.sample)]
        told.sort(key=self._outlook.cost)
        parents: list[Sample] = []
        for rung in self._rungs:
            best = -math.inf
            for one in told:
                if len(one.curve) > rung and one.curve[rung] > best:
                    best = one.curve[rung]
                    parents.append(one.sample)
        return parents

    def _leftovers(self, observations: Sequence[Observation]) -> list[Sample]:
        """Networks that were looked at and not begun."""
        return self._prospects.leftovers(
            [one.sample for one in observations], max_latency_ms=self._advice.max_latency_ms
        )


def _key(sample: Sample) -> tuple[Scalar, ...]:
    return tuple(sample.values())
