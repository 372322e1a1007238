"""What stopwatches have seen of networks, and the latencies that follow from it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from autokd.latency.stopwatch.estimate import LEAST_QUIET, fast_time, quiet_rounds, ratio_draws

__all__ = ["Reading", "Selection", "Spread", "error_between", "pool", "select_quiet"]

Pair = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Blocks of a network, and of what its time is divided by: rounds, blocks."""

_DRAWS = 1000
_MOST_OF_FEW = 0.75  # of the rounds of a network too slow for many of them


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one process has seen of some networks.

    Attributes:
        runtime: Name and version.
        blocks: Of each network, nanoseconds of the fastest run of each block: rounds, 1. The
            first rounds are those of all, the later ones of some.
        references: Of each network, the same of the reference before and after it: rounds,
            blocks.
        percentiles: Of each network, the tenth, the median and the ninetieth of its runs.
        n_runs: Of each network.
        is_hopeless: Whether no quiet moment came when one was waited for.
    """

    runtime: str
    blocks: Sequence[NDArray[np.float64]]
    references: Sequence[NDArray[np.float64]]
    percentiles: Sequence[Sequence[float]]
    n_runs: Sequence[int]
    is_hopeless: bool = False

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Reading":
        """What a stopwatch has printed."""
        models = values["models"]
        return cls(
            runtime=values["runtime"],
            blocks=[np.array(model["blocks"], dtype=np.float64) for model in models],
            references=[np.array(model["reference"], dtype=np.float64) for model in models],
            percentiles=[model["percentiles"] for model in models],
            n_runs=[model["n_runs"] for model in models],
            is_hopeless=values["is_hopeless"],
        )

    @property
    def fast_reference_ms(self) -> float:
        """What the reference took."""
        return fast_time(np.concatenate([one.ravel() for one in self.references])) / 1e6

    def quiet(self, number: int, *, quiet_ms: float) -> NDArray[np.bool_] | None:
        """The rounds in which the machine was quiet around a network; none if too few were."""
        chosen = quiet_rounds(self.references[number], quiet=1e6 * quiet_ms)
        least = min(LEAST_QUIET, math.ceil(_MOST_OF_FEW * len(chosen)))
        return chosen if int(chosen.sum()) >= least else None

    def reversed(self) -> "Reading":
        """The same, the networks in the opposite order."""
        return dataclasses.replace(
            self,
            blocks=self.blocks[::-1],
            references=self.references[::-1],
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

    def widened(self, share: float) -> "Spread":
        """With an error of another source beside, which is independent of what was seen."""
        below = math.hypot(math.log(self.value / self.low), share)
        above = math.hypot(math.log(self.high / self.value), share)
        low, high = self.value * math.exp(-below), self.value * math.exp(above)
        return Spread(value=self.value, low=low, high=high)


@dataclass(frozen=True)
class Selection:
    """What counts of one network's blocks, and of those that its time is divided by.

    Attributes:
        pairs: Of each process that counts, blocks of both.
        every: Of each process, all blocks of both.
        is_quiet: Whether the machine was quiet around all of them.
    """

    pairs: Sequence[Pair]
    every: Sequence[Pair]
    is_quiet: bool


def select_quiet(
    readings: Sequence[Reading], number: int, *, over: int | None = None, quiet_ms: float
) -> Selection:
    """The rounds in which nothing disturbed the machine, or all where there are too few of them.

    Args:
        readings: Of some processes.
        number: Of the network.
        over: Of the network that its time is divided by; the reference if none.
        quiet_ms: What the reference takes then.

    Returns:
        Only of processes that have seen enough of them, if any has.
    """
    pairs: list[Pair] = []
    quiet: list[Pair] = []
    for one in readings:
        above = one.blocks[number]
        below = one.references[number] if over is None else one.blocks[over]
        n_common = min(len(above), len(below))
        pairs.append((above[:n_common], below[:n_common]))
        rows = one.quiet(number, quiet_ms=quiet_ms)
        others = rows if over is None else one.quiet(over, quiet_ms=quiet_ms)
        if rows is not None and others is not None:
            quiet.append((above[rows], below[others]))
    return Selection(quiet or pairs, pairs, is_quiet=bool(quiet))


def pool(selections: Sequence[Selection]) -> list[Spread]:
    """Ratios of times, from what several processes have seen.

    A process can be unlucky from its beginning to its end, with where its memory lies; so the
    interval is the wider one of two: what the rounds of the processes tell, and what their
    differences tell, which are taken to be as large for each ratio. Where no ratio has two
    processes that count, those of all of them are taken, which are larger, if anything.

    Args:
        selections: Of each ratio, blocks above and below.

    Returns:
        One for each ratio.
    """
    logs = [_logs(one.pairs) for one in selections]
    error = error_between(logs) or error_between([_logs(one.every) for one in selections])
    spreads: list[Spread] = []
    for one, log in zip(selections, logs, strict=True):
        between = error / math.sqrt(len(log))
        draws = [
            np.log(ratio_draws(a, b, n_draws=_DRAWS, seed=seed))
            for seed, (a, b) in enumerate(one.pairs)
        ]
        low, high = np.percentile(np.mean(draws, axis=0), [2.5, 97.5])
        value = math.exp(float(log.mean()))
        spreads.append(
            Spread(
                value=value,
                low=min(math.exp(low), value * math.exp(-between)),
                high=max(math.exp(high), value * math.exp(between)),
            )
        )
    return spreads


def _logs(pairs: Sequence[Pair]) -> NDArray[np.float64]:
    """The logarithm of the ratio of each process."""
    return np.array([math.log(fast_time(above) / fast_time(below)) for above, below in pairs])


def error_between(logs: Sequence[NDArray[np.float64]]) -> float:
    """What the times of a network differ by from process to process, the same for all of them.

    Args:
        logs: Of each network, the logarithm of the time of each process.

    Returns:
        Half of the 95 % interval of one process; 0 where no network has two of them.
    """
    freedom = sum(len(one) - 1 for one in logs)
    if not freedom:
        return 0.0
    squares = sum(float(((one - one.mean()) ** 2).sum()) for one in logs)
    return float(stats.t.ppf(0.975, freedom)) * math.sqrt(squares / freedom)
