"""How an advisor works, and what it says of a stopped candidate."""

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from autokd.surrogate.noise import Noise
from autokd.types import Sample

__all__ = ["Advice", "Identify", "Standing"]

Identify = Callable[[Sample], Hashable]


@dataclass(frozen=True, kw_only=True)
class Advice:
    """How the advisor works.

    Attributes:
        n_initial: Candidates that are spread over the latencies before a model is asked.
        n_surveyed: Networks looked at for each suggestion, at the most.
        n_rungs: Of a training; the last is its end.
        reduction: Of so many candidates that have reached a rung, one goes on beyond it.
        noise: Of an observed accuracy, as far as it is known.
        max_latency_ms: Slower candidates are not proposed.
        min_accuracy: Worse ones are worth nothing.
        seed: Of all draws.
        chance: Accuracy of guessing, above which a candidate may be on the front. Where it is not
            told, only what is better than the first quartile is thought to be.
        n_unstopped: The first candidates, that are not stopped at a rung whatever comes of them.
    """

    n_initial: int = 10
    n_surveyed: int = 100
    n_rungs: int = 1
    reduction: int = 4
    noise: Noise = field(default_factory=Noise)
    max_latency_ms: float = math.inf
    min_accuracy: float = 0.0
    seed: int = 0
    chance: float | None = None
    n_unstopped: int = 0


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A stopped candidate among the others.

    Attributes:
        key: Of its observation.
        gain: Expected hypervolume improvement, accuracy times log latency.
        probability: That it will be on the front. As long as too few candidates were trained to
            the end, whether it is better at the first rung than those that went on.
        is_foreseen: Whether the probability is that of its accuracy at the end.
        is_turn: Whether one more candidate may go beyond the rung that it has reached.
    """

    key: int
    gain: float
    probability: float
    is_foreseen: bool
    is_turn: bool
