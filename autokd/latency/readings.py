"""What stopwatches have seen of networks, and the latencies that follow from it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from autokd.latency.stopwatch.estimate import fast_time, ratio_draws

__all__ = ["Reading", "Spread", "pool"]

_DRAWS = 1000


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one process has seen of some networks.

    Attributes:
        runtime: Name and version.
        blocks: Of each network, nanoseconds of the fastest run of each block: rounds, 1.
        reference: The same of the reference: rounds, blocks of a round.
        percentiles: Of each network, the tenth, the median and the ninetieth of its runs.
        n_runs: Of each network.
    """

    runtime: str
    blocks: Sequence[NDArray[np.float64]]
    reference: NDArray[np.float64]
    percentiles: Sequence[Sequence[float]]
    n_runs: Sequence[int]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Reading":
        """What a stopwatch has printed."""
        models = values["models"]
        return cls(
            runtime=values["runtime"],
            blocks=[np.array(model["blocks"], dtype=np.float64) for model in models],
            reference=np.array(values["reference"], dtype=np.float64),
            percentiles=[model["percentiles"] for model in models],
            n_runs=[model["n_runs"] for model in models],
        )

    @property
    def fast_reference_ms(self) -> float:
        """What the reference took."""
        return fast_time(self.reference) / 1e6

    def reversed(self) -> "Reading":
        """The same, the networks in the opposite order."""
        return dataclasses.replace(
            self,
            blocks=self.blocks[::-1],
            percentiles=self.percentiles[::-1],
            n_runs=self.n_runs[::-1],
        )


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A ratio of two times with its 95 % interval.

    Attributes:
        value: Geometric mean over the processes.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the interval, as a share."""
        return (self.high - self.low) / 2 / self.value


def pool(
    pairs: Sequence[Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]],
) -> list[Spread]:
    """Ratios of times, from what several processes have seen.

    A process can be unlucky from its beginning to its end, with where its memory lies; so the
    interval is the wider one of two: what the rounds of the processes tell, and what their
    differences tell, which are taken to be as large for each ratio.

    Args:
        pairs: By ratio and process, blocks above and below.

    Returns:
        One for each ratio.
    """
    n_processes = len(pairs[0])
    logs = np.array(
        [[math.log(fast_time(a) / fast_time(b)) for a, b in one] for one in pairs]
    )  # ratios, processes
    between = 0.0
    if n_processes > 1:
        freedom = len(pairs) * (n_processes - 1)
        spread = math.sqrt(float(logs.var(axis=1, ddof=1).mean()))
        between = float(stats.t.ppf(0.975, freedom)) * spread / math.sqrt(n_processes)
    spreads: list[Spread] = []
    for one, log in zip(pairs, logs.mean(axis=1), strict=True):
        draws = [
            np.log(ratio_draws(a, b, n_draws=_DRAWS, seed=seed)) for seed, (a, b) in enumerate(one)
        ]
        low, high = np.percentile(np.mean(draws, axis=0), [2.5, 97.5])
        value = math.exp(log)
        spreads.append(
            Spread(
                value=value,
                low=min(math.exp(low), value * math.exp(-between)),
                high=max(math.exp(high), value * math.exp(between)),
            )
        )
    return spreads
