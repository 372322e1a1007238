"""What is known of candidates before they are trained, kept by network."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import final

import numpy as np
from jaxtyping import Float64

from autokd.surrogate.accuracy_model import Evidence
from autokd.surrogate.encoding import Encoding
from autokd.surrogate.precedent import Network, Precedent
from autokd.surrogate.traits import TraitGuess
from autokd.types import Prospect, Sample, Surveyor

__all__ = ["Prospects"]

_LEFTOVERS = 300
_GUESSED_FROM = 1500  # networks are plenty for a straight line


@final
class Prospects:
    """Looks at each network once."""

    def __init__(
        self, encoding: Encoding, surveyor: Surveyor, *, precedents: Sequence[Precedent] = ()
    ) -> None:
        """Has looked at nothing yet.

        Args:
            encoding: Of the space.
            surveyor: Looks at candidates.
            precedents: What earlier studies let expect of them.
        """
        self._encoding = encoding
        self._precedents = tuple(precedents)
        self._surveyor = surveyor
        self._known: dict[Network, Prospect | None] = {}
        self._samples: dict[Network, Sample] = {}

    def look(self, samples: Iterable[Sample]) -> None:
        """Looks at the networks among these that were not looked at before.

        Args:
            samples: Any number of them.

        Raises:
            ValueError: The surveyor knows a latency that is none.
        """
        fresh = {self._network(sample): sample for sample in samples}
        wanted = {key: one for key, one in fresh.items() if key not in self._known}
        if not wanted:
            return
        found = self._surveyor.survey(list(wanted.values()))
        for (key, sample), prospect in zip(wanted.items(), found, strict=False):
            if prospect is not None and not prospect.latency_ms > 0:
                raise ValueError(
                    f"`latency_ms` must be positive, got {prospect.latency_ms} for {sample}; a "
                    "surveyor gives None for what cannot be measured"
                )
            if prospect is not None and not prospect.traits:  # its latency is one at any rate
                prospect = dataclasses.replace(prospect, traits=(math.log(prospect.latency_ms),))
            self._known[key] = prospect
            self._samples[key] = sample

    def is_seen(self, sample: Sample) -> bool:
        """Whether its network was looked at, whatever came of it."""
        return self._network(sample) in self._known

    def is_good(self, sample: Sample) -> bool:
        """Whether its network was looked at and can be built."""
        return self._known.get(self._network(sample)) is not None

    def cost(self, sample: Sample) -> float:
        """Its log latency.

        Args:
            sample: Whose network `is_good`.

        Returns:
            The natural logarithm of milliseconds.
        """
        return math.log(self._of(sample).latency_ms)

    def costs(self, samples: Sequence[Sample]) -> Float64[np.ndarray, " count"]:
        """The log latency of each."""
        return np.array([self.cost(sample) for sample in samples], dtype=np.float64)

    def align(self) -> None:
        """Compares what earlier studies have measured with what was seen since."""
        for precedent in self._precedents:
            precedent.align(self._known)

    def slowest(self) -> float:
        """The highest log latency that was seen."""
        return math.log(max(one.latency_ms for one in self._known.values() if one is not None))

    def leftovers(self, begun: Iterable[Sample], *, max_latency_ms: float) -> list[Sample]:
        """Networks that were looked at, are fast enough and were not begun.

        Args:
            begun: Samples of those that were.
            max_latency_ms: What is fast enough.

        Returns:
            A sample of each, the newest and not more than some hundreds.
        """
        networks = {self._network(sample) for sample in begun}
        left = [
            self._samples[key]
            for key, prospect in self._known.items()
            if prospect is not None
            and prospect.latency_ms <= max_latency_ms
            and key not in networks
        ]
        return left[-_LEFTOVERS:]

    def evidence(self, samples: Sequence[Sample]) -> Evidence:
        """What the accuracy model wants to know of samples whose networks are good."""
        traits = [self._of(sample).traits for sample in samples]
        return self._join(samples, np.array(traits, dtype=np.float64).reshape(len(samples), -1))

    def guess(
        self, samples: Sequence[Sample]
    ) -> tuple[Evidence, Float64[np.ndarray, " count"]] | None:
        """What may be true of samples whose networks were not looked at.

        Args:
            samples: At least one.

        Returns:
            Evidence and log latencies; none where too little was looked at to guess.
        """
        seen = [(self._samples[key], one) for key, one in self._known.items() if one is not None]
        if len(seen) < 2:
            return None
        seen = seen[:: math.ceil(len(seen) / _GUESSED_FROM)]
        columns = list(self._encoding.network_columns)
        ridge = TraitGuess(
            self._encoding.encode([sample for sample, _ in seen])[:, columns],
            np.array([(*one.traits, math.log(one.latency_ms)) for _, one in seen]),
        )
        guessed = ridge.predict(self._encoding.encode(samples)[:, columns])
        return self._join(samples, guessed[:, :-1]), guessed[:, -1]

    def _join(
        self, samples: Sequence[Sample], traits: Float64[np.ndarray, "count traits"]
    ) -> Evidence:
        codes = self._encoding.encode(samples)
        return Evidence(
            traits=traits,
            architecture=codes[:, list(self._encoding.architecture_columns)],
            recipe=codes[:, list(self._encoding.recipe_columns)],
            expected=tuple(one.foresee(samples, traits) for one in self._precedents),
        )

    def _network(self, sample: Sample) -> Network:
        return self._encoding.network_of(sample)

    def _of(self, sample: Sample) -> Prospect:
        prospect = self._known[self._network(sample)]
        if prospect is None:
            raise ValueError("`sample` must have a network that can be built")
        return prospect
