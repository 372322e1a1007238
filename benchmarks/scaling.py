"""How far one coordinator reaches: a simulation of many workers, and suggestions a second.

Simulation: networks of a table are trained by 1, 8, 64 or 512 workers side by side. A worker that
is idle asks the coordinator, which proposes one after another with the real sampler, told of what
is being trained; its seconds are measured and count. A training takes `--training-s`, give or take
a third. Told is after how many hours the hypervolume is what random search has after 200 trainings
in a row, and how many trainings that took.

Suggestions: how many a second the coordinator gives in a study of 100, 1,000 and 10,000 finished
trials, by sampler and storage; and the median seconds of one after 50 and 500 trials.
"""

import argparse
import heapq
import json
import math
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
import torch
from optuna.storages import BaseStorage, InMemoryStorage
from trained_table import (
    LABELS,
    OPERATIONS,
    Table,
    TableSurveyor,
    build_dimensions,
    load_table,
    measure_volume,
)

from autokd.study.auto_sampler import AutoSampler
from autokd.study.sampling import build_sampler
from autokd.study.storages import open_storage
from autokd.surrogate import Advice

SAMPLERS = ("random", "tpe", "auto")
WORKERS = (1, 8, 64, 512)
SIZES = (100, 1_000, 10_000)
SUGGEST_AT = (50, 500)
N_LOOKS = 8  # before a suggestion, as in a search
SPREAD = 0.3
RANDOM_TRIALS = 200
KINDS = optuna.distributions.CategoricalDistribution(OPERATIONS)


def make_sampler(name: str, *, seed: int, surveyor: TableSurveyor) -> optuna.samplers.BaseSampler:
    """A sampler as a search has it."""
    auto = AutoSampler(
        surveyor, dimensions=build_dimensions(), advice=Advice(seed=seed, n_surveyed=N_LOOKS)
    )
    return build_sampler(name, auto=auto, seed=seed)


# ---------------------------------------------------------------------- many workers


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A simulated search.

    Attributes:
        points: Seconds, trainings that have ended and hypervolume, after each training.
        coordinator_s: That it was busy.
    """

    points: list[tuple[float, int, float]]
    coordinator_s: float

    def reach(self, level: float) -> tuple[float, int] | None:
        """Seconds and trainings until a hypervolume; none if it is not reached."""
        return next(((at, n) for at, n, volume in self.points if volume >= level), None)


def simulate(
    table: Table, name: str, *, workers: int, n_trials: int, training_s: float, seed: int
) -> Trace:
    """A search with workers that train side by side, in simulated time.

    Args:
        table: What trainings come to.
        name: Of the sampler.
        workers: Side by side.
        n_trials: Trainings, after which it ends.
        training_s: Median of one.
        seed: Of the sampler and of how long each takes.

    Returns:
        What was found when.
    """
    surveyor = TableSurveyor(table)
    study = optuna.create_study(
        directions=["maximize", "minimize"],
        sampler=make_sampler(name, seed=seed, surveyor=surveyor),
    )
    lengths = random.Random(seed)
    idle = [0.0] * workers  # seconds at which each worker is idle next
    running: list[tuple[float, int, optuna.Trial]] = []
    free_at, busy = 0.0, 0.0  # of the coordinator
    points: list[tuple[float, int, float]] = []
    chosen: list[int] = []
    n_begun = 0
    while len(chosen) < n_trials:
        begins = max(idle[0], free_at) if idle and n_begun < n_trials else math.inf
        if running and running[0][0] <= begins:
            at, row, trial = heapq.heappop(running)
            study.tell(trial, [table.accuracies[row], table.latencies[row]])
            chosen.append(row)
            points.append((at, len(chosen), measure_volume(table, chosen)))
            heapq.heappush(idle, at)
            continue
        start = time.perf_counter()
        trial = study.ask(dict.fromkeys(LABELS, KINDS))
        spent = time.perf_counter() - start
        free_at, busy = begins + spent, busy + spent
        row = surveyor.row_of(trial.params)
        if row is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        heapq.heappop(idle)
        n_begun += 1
        length = training_s * math.exp(lengths.gauss(0, SPREAD))
        heapq.heappush(running, (free_at + length, row, trial))
    return Trace(points=points, coordinator_s=busy)


def compare_workers(
    table: Table, arguments: argparse.Namespace, say: Callable[[str], None]
) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """Sampler to workers to what they gain against one worker."""
    figures: dict[str, dict[str, dict[str, float | int | None]]] = {}
    level = statistics.fmean(
        simulate(
            table, "random", workers=1, n_trials=RANDOM_TRIALS,
            training_s=arguments.training_s, seed=1000 + seed,
        ).points[-1][2]
        for seed in range(10)
    )  # fmt: skip
    say(f"random search has a hypervolume of {level:.3f} after {RANDOM_TRIALS} trainings")
    for name in arguments.samplers:
        alone: float | None = None
        for workers in arguments.workers:
            n_trials = max(RANDOM_TRIALS, 2 * workers)
            traces = [
                simulate(
                    table, name, workers=workers, n_trials=n_trials,
                    training_s=arguments.training_s, seed=seed,
                )
                for seed in range(arguments.seeds)
            ]  # fmt: skip
            reached = [one for trace in traces if (one := trace.reach(level)) is not None]
            hours = statistics.median(at / 3600 for at, _ in reached) if reached else None
            alone = hours if workers == arguments.workers[0] else alone
            last = statistics.fmean(trace.points[-1][2] for trace in traces)
            entry = {
                "hours_to_random_200": hours,
                "trainings_to_random_200": statistics.median(n for _, n in reached)
                if reached
                else None,
                "n_reached": len(reached),
                "speed_up": alone / hours if alone and hours else None,
                "n_trials": n_trials,
                "hypervolume": last,
                "hours": statistics.fmean(trace.points[-1][0] for trace in traces) / 3600,
                "coordinator_busy": statistics.fmean(
                    trace.coordinator_s / trace.points[-1][0] for trace in traces
                ),
            }
            figures.setdefault(name, {})[str(workers)] = entry
            say(f"{name}, {workers} workers: {entry}")
    return figures


# ---------------------------------------------------------------------- suggestions


def fill_study(table: Table, storage: BaseStorage, *, n_trials: int) -> None:
    """A study of so many trained networks."""
    study = optuna.create_study(
        storage=storage, study_name="s", directions=["maximize", "minimize"]
    )
    rows = np.random.default_rng(0).choice(len(table.cells), n_trials, replace=False)
    for row in rows:
        cell = table.cells[row].tolist()
        study.add_trial(
            optuna.create_trial(
                params={label: OPERATIONS[op] for label, op in zip(LABELS, cell, strict=True)},
                distributions=dict.fromkeys(LABELS, KINDS),
                values=[float(table.accuracies[row]), float(table.latencies[row])],
            )
        )


def time_suggestions(
    table: Table, name: str, open_: Callable[[], BaseStorage], *, n: int
) -> tuple[float, float]:
    """Median seconds of a suggestion, and the seconds of opening the study."""
    start = time.perf_counter()
    surveyor = TableSurveyor(table)
    sampler = make_sampler(name, seed=0, surveyor=surveyor)
    study = optuna.load_study(study_name="s", storage=open_(), sampler=sampler)
    study.get_trials(deepcopy=False)
    opening = time.perf_counter() - start
    seconds = []
    for _ in range(n):
        start = time.perf_counter()
        trial = study.ask(dict.fromkeys(LABELS, KINDS))
        seconds.append(time.perf_counter() - start)
        row = surveyor.row_of(trial.params)
        if row is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:  # so that the next one learns of it
            study.tell(trial, [table.accuracies[row], table.latencies[row]])
    return statistics.median(seconds), opening


def measure_suggestions(
    table: Table, arguments: argparse.Namespace, say: Callable[[str], None]
) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Storage to sampler to size to suggestions a second and seconds to open."""
    figures: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for kind in arguments.storages:
        for size in sorted({*arguments.sizes, *SUGGEST_AT}):
            if kind == "sqlite" and size > arguments.largest_sqlite:
                continue
            with tempfile.TemporaryDirectory() as folder:
                open_ = _opener(kind, Path(folder))
                fill_study(table, open_(), n_trials=size)
                for name in arguments.samplers:
                    seconds, opening = time_suggestions(table, name, open_, n=arguments.asks)
                    entry = {
                        "suggest_s": seconds,
                        "suggestions_per_s": 1 / seconds,
                        "open_s": opening,
                    }
                    figures.setdefault(kind, {}).setdefault(name, {})[str(size)] = entry
                    say(f"{kind}, {size} trials, {name}: {entry}")
    return figures


def _opener(kind: str, folder: Path) -> Callable[[], BaseStorage]:
    if kind == "memory":
        storage = InMemoryStorage()
        return lambda: storage
    url = f"sqlite:///{folder}/study.db" if kind == "sqlite" else None
    return lambda: open_storage(url, runs_dir=folder)


# ---------------------------------------------------------------------- the command line


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, required=True, help="CSV, gzipped")
    parser.add_argument("--accuracy", default="accuracy_200_epochs_test", help="column, percent")
    parser.add_argument("--low-accuracy", default="accuracy_12_epochs_val", help="column, percent")
    parser.add_argument(
        "--latency", default="latency_ms_raspi4:1", metavar="COLUMN[:MIN_MS]", help="column in ms"
    )
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=SAMPLERS)
    parser.add_argument("--workers", nargs="+", type=int, default=list(WORKERS))
    parser.add_argument("--training-s", type=float, default=600.0, help="median of one training")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--storages", nargs="+", default=["memory", "journal", "sqlite"])
    parser.add_argument("--largest-sqlite", type=int, default=1_000)
    parser.add_argument("--asks", type=int, default=7, help="suggestions that are timed")
    parser.add_argument("--quick", action="store_true", help="1 seed, 1 and 8 workers, 500 trials")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.workers, arguments.sizes = 1, [1, 8], [100]
        arguments.storages = ["memory", "journal"]
    return arguments


def main() -> None:
    """Reads the arguments, simulates, measures, prints."""
    arguments = read_arguments()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    column, _, least = arguments.latency.partition(":")
    table = load_table(
        arguments.table,
        accuracy=arguments.accuracy,
        low_accuracy=arguments.low_accuracy,
        latency=column,
        min_latency_ms=float(least or 0),
    )

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    suggestions = measure_suggestions(table, arguments, say)
    figures = {
        "training_s": arguments.training_s,
        "suggestions": suggestions,
        "suggest_s": _suggest_s(suggestions, SUGGEST_AT),
        "workers": compare_workers(table, arguments, say),
    }
    print(json.dumps(figures, indent=None if arguments.json else 1))


def _suggest_s(
    suggestions: dict[str, dict[str, dict[str, dict[str, float]]]], sizes: Sequence[int]
) -> dict[str, dict[str, float]]:
    """Sampler to trials to seconds, in the slowest storage that was tried."""
    samplers = {name for rows in suggestions.values() for name in rows}
    return {
        name: {
            str(size): max(rows[name][str(size)]["suggest_s"] for rows in suggestions.values())
            for size in sizes
        }
        for name in sorted(samplers)
    }


if __name__ == "__main__":
    main()
