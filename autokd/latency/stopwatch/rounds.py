"""The protocol: networks and a reference take turns, a short block each, until it is enough."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .estimate import half_width, ratio_draws

__all__ = ["Form", "Record", "record", "warm_up"]

Run = Callable[[], None]

_RUNS_OF_A_BLOCK = 3
_MIN_RUNS, _MIN_ROUNDS = 100, 8
_MIN_WARM_UP_RUNS = 10
_MIN_WARM_UP_S = 0.05
_MAX_WARM_UP_S = 5.0
_STABLE = 0.01
_REFERENCE_SHARE = 0.2  # of the time of all networks
_MOST_REFERENCES = 40  # blocks a round
_LOOK_AFTER = 1.3  # times as many rounds as at the last look at the intervals
_DRAWS = 100


@dataclass(frozen=True)
class Form:
    """How long and how sure.

    Attributes:
        least_s: That each network is timed at the least, warm-up not counted.
        most_s: That it is timed at the most.
        precision: Half of the 95 % interval, as a share, that is narrow enough.
        n_processes: That time one after another; the mean of what they find counts.
    """

    least_s: float
    most_s: float
    precision: float
    n_processes: int = 1


@dataclass(frozen=True)
class Record:
    """What was seen.

    Attributes:
        blocks: Of each network, nanoseconds of the fastest run of each block: rounds, 1.
        reference: The same of the reference: rounds, blocks of a round.
        runs: Of each network, nanoseconds of each run.
    """

    blocks: list[list[list[int]]]
    reference: list[list[int]] = field(default_factory=list[list[int]])
    runs: list[list[int]] = field(default_factory=list[list[int]])


def warm_up(run: Run) -> float:
    """Runs until the median of the last runs no longer moves; gives seconds per run."""
    start, times, before = time.perf_counter(), list[float](), 0.0
    while True:
        tick = time.perf_counter()
        run()
        times.append(time.perf_counter() - tick)
        spent = time.perf_counter() - start
        if len(times) >= _MIN_WARM_UP_RUNS and len(times) % 10 == 0:
            median = statistics.median(times[-20:])
            is_stable = abs(median - before) <= _STABLE * median
            if (is_stable and spent > _MIN_WARM_UP_S) or spent > _MAX_WARM_UP_S:
                return median
            before = median
        elif spent > _MAX_WARM_UP_S:
            return statistics.median(times)


def time_block(run: Run) -> list[int]:
    """Nanoseconds of each run of a block; what the others left in the caches is not counted."""
    clock = time.perf_counter_ns
    run()
    times: list[int] = []
    for _ in range(_RUNS_OF_A_BLOCK):
        start = clock()
        run()
        times.append(clock() - start)
    return times


def record(runs: Sequence[Run], reference: Run, *, form: Form) -> Record:
    """Times networks and the reference by turns.

    Args:
        runs: Each runs one network once.
        reference: Runs the reference network once.
        form: When it is enough.

    Returns:
        What was seen.
    """
    reference_s = warm_up(reference)
    total_s = sum(warm_up(run) for run in runs)
    share = _REFERENCE_SHARE * total_s / reference_s
    n_references = min(_MOST_REFERENCES, max(1, round(share)))
    seen = Record(blocks=[[] for _ in runs], runs=[[] for _ in runs])
    start, look_at = time.perf_counter(), _MIN_ROUNDS
    while True:
        seen.reference.append([min(time_block(reference)) for _ in range(n_references)])
        for run, blocks, times in zip(runs, seen.blocks, seen.runs, strict=True):
            block = time_block(run)
            blocks.append([min(block)])
            times += block
        spent, n_rounds = time.perf_counter() - start, len(seen.reference)
        if n_rounds >= look_at:
            look_at = round(_LOOK_AFTER * n_rounds) + 1
            if _is_enough(seen, spent / len(runs), form=form):
                return seen


def _is_enough(seen: Record, spent_s: float, *, form: Form) -> bool:
    """Whether all intervals are narrow enough, or the time is over."""
    if spent_s >= form.most_s:
        return True
    if spent_s < form.least_s or len(seen.runs[0]) < _MIN_RUNS:
        return False
    reference = _as_times(seen.reference)
    return all(
        half_width(ratio_draws(_as_times(blocks), reference, n_draws=_DRAWS)) <= form.precision
        for blocks in seen.blocks
    )


def _as_times(blocks: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    return np.array(blocks, dtype=np.float64)
