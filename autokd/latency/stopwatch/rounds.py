"""The protocol: networks and a reference take turns, a short block each, until it is enough."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from .estimate import WANTED_QUIET, half_width, quiet_rounds, ratio_draws

__all__ = ["Form", "Record", "record", "warm_up"]

Run = Callable[[], None]

_RUNS_OF_A_BLOCK = 3
_MIN_RUNS, _MIN_ROUNDS = 100, 8
_LEAST_ROUNDS = 4  # of networks of which a round alone takes longer than it may
_MIN_WARM_UP_RUNS = 10
_MIN_WARM_UP_S = 0.05
_MAX_WARM_UP_S = 5.0
_STABLE = 0.01
_REFERENCE_SHARE = 0.2  # of the time of all networks
_MOST_REFERENCES = 40  # blocks between two networks
_LOOK_AFTER = 1.3  # times as many rounds as at the last look at the intervals
_DRAWS = 100
_PAUSE_S = 0.002  # between two looks whether the machine is quiet
_HOPELESS_S = 3.0  # without any quiet moment


@dataclass(frozen=True)
class Form:
    """How long and how sure.

    Attributes:
        least_s: That each network is timed at the least, warm-up not counted.
        most_s: That it is timed at the most.
        precision: Half of the 95 % interval, as a share, that is narrow enough.
        n_processes: That time one after another; the mean of what they find counts.
        patience_s: That is waited for quiet moments after `most_s`, in each process, as long as
            they come; then only networks are timed that have not seen enough of them.
    """

    least_s: float
    most_s: float
    precision: float
    n_processes: int = 1
    patience_s: float = 0.0


@dataclass(frozen=True)
class Record:
    """What was seen.

    Attributes:
        blocks: Of each network, nanoseconds of the fastest run of each block: rounds, 1. All have
            taken part in the first rounds, some in later ones.
        references: Of each network, the same of the reference before and after it: rounds, blocks.
        runs: Of each network, nanoseconds of each run.
        is_hopeless: Whether no quiet moment came when one was waited for.
    """

    blocks: list[list[list[int]]]
    references: list[list[list[int]]] = field(default_factory=list[list[list[int]]])
    runs: list[list[int]] = field(default_factory=list[list[int]])
    is_hopeless: bool = False


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


def record(
    runs: Sequence[Run], reference: Run, *, form: Form, quiet_ns: float | None = None
) -> Record:
    """Times networks and the reference by turns.

    Args:
        runs: Each runs one network once.
        reference: Runs the reference network once.
        form: When it is enough.
        quiet_ns: What the reference takes where nothing disturbs it; none where that is not known.

    Returns:
        What was seen.
    """
    reference_s = warm_up(reference)
    total_s = sum(warm_up(run) for run in runs)
    share = _REFERENCE_SHARE * total_s / (len(runs) * reference_s)
    rounds = _Rounds(
        runs, reference, n_references=min(_MOST_REFERENCES, max(1, round(share))), quiet=quiet_ns
    )
    start, look_at = time.perf_counter(), _MIN_ROUNDS
    enough_s, most_s = form.least_s * len(runs), form.most_s * len(runs)
    takers: Sequence[int] = range(len(runs))
    while True:
        rounds.take(takers)
        spent_s = time.perf_counter() - start
        if rounds.n >= look_at and spent_s < most_s:
            look_at = round(_LOOK_AFTER * rounds.n) + 1
            if spent_s >= enough_s and rounds.are_enough(form.precision):
                return rounds.seen
        if spent_s >= most_s and rounds.n >= _LEAST_ROUNDS:
            left_s = most_s + form.patience_s - spent_s
            takers = rounds.lacking
            if not takers or left_s <= 0:
                return rounds.seen
            if not rounds.wait(min(left_s, _HOPELESS_S)):
                return replace(rounds.seen, is_hopeless=left_s >= _HOPELESS_S)


@final
class _Rounds:
    """What is timed, and what has been seen of it."""

    def __init__(
        self, runs: Sequence[Run], reference: Run, *, n_references: int, quiet: float | None
    ) -> None:
        self.seen = Record(blocks=[[] for _ in runs], runs=[[] for _ in runs])
        self.seen.references.extend([] for _ in runs)
        self.n = 0
        self._n_quiet = [0 if quiet else WANTED_QUIET] * len(runs)
        self._runs, self._reference = runs, reference
        self._n_references, self._quiet = n_references, quiet

    def take(self, numbers: Sequence[int]) -> None:
        """One block of some networks, the reference before and after it; another one begins."""
        seen, before = self.seen, self._time_reference()
        for place in range(len(numbers)):
            number = numbers[(place + self.n) % len(numbers)]
            block = time_block(self._runs[number])
            after = self._time_reference()
            seen.blocks[number].append([min(block)])
            seen.references[number].append([*before, *after])
            seen.runs[number] += block
            self._n_quiet[number] += self._is_quiet([*before, *after])
            before = after
        self.n += 1

    @property
    def lacking(self) -> list[int]:
        """Networks that have not seen quiet rounds enough; none where that is not known."""
        return [number for number, n in enumerate(self._n_quiet) if n < WANTED_QUIET]

    def are_enough(self, precision: float) -> bool:
        """Whether there are rounds enough, quiet ones where that is known, and all widths small."""
        if self.lacking or len(self.seen.runs[0]) < _MIN_RUNS:
            return False
        for blocks, around in zip(self.seen.blocks, self.seen.references, strict=True):
            above, below = (np.array(times, dtype=np.float64) for times in (blocks, around))
            if self._quiet is not None:
                chosen = quiet_rounds(below, quiet=self._quiet)
                above, below = above[chosen], below[chosen]
            if half_width(ratio_draws(above, below, n_draws=_DRAWS)) > precision:
                return False
        return True

    def wait(self, most_s: float) -> bool:
        """Until the reference is as fast as it can be; whether that came in time."""
        end = time.perf_counter() + most_s
        while time.perf_counter() < end:
            if self._is_quiet(self._time_reference()):
                return True
            time.sleep(_PAUSE_S)
        return False

    def _time_reference(self) -> list[int]:
        return [min(time_block(self._reference)) for _ in range(self._n_references)]

    def _is_quiet(self, times: Sequence[int]) -> bool:
        values: NDArray[np.float64] = np.array([times], dtype=np.float64)
        return self._quiet is not None and bool(quiet_rounds(values, quiet=self._quiet)[0])
