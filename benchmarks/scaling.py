"""What many workers gain, and how many of them one coordinator can feed.

Simulation: networks of a table are trained by 1, 8, 64 or 512 workers side by side, in simulated
time. The study, its sampler and its rungs are the real ones, in memory; every decision takes the
processor seconds that it really takes (or --decide-s), every network that is looked at --measure-s,
all of it one after another. Told is the hypervolume over time, when it is that of random search
after 200 trials in a row, when it is --high, and what that is against one worker.

Coordinator: seconds of a suggestion, of writing its result and of opening the study, in studies of
up to 10,000 trials (mobile space, default recipe, a surveyor that knows all at once), by sampler
and storage; in studies with rungs also of looking who goes on.

Seeds come one after another; Ctrl-C prints what there is.
"""

import argparse
import contextlib
import math
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import optuna
import torch
from coordinator_speed import measure_all
from output import print_figures, reserve_stdout
from simulated_workers import Setting, SimulatedSearch, Trace
from trained_table import Table, load_table, split_latency

SAMPLERS = ("random", "tpe", "auto")
WORKERS = (1, 8, 64, 512)
SIZES = (50, 100, 500, 1_000, 10_000)
SUGGEST_AT = (50, 500)
RANDOM_TRIALS = 200
TIMES = (0.5, 1, 2, 4, 8, 16, 32, 64, 128)  # of a mean training
Figures = dict[str, Any]

_TABLES: list[Table] = []


def run_setting(setting: Setting) -> tuple[Setting, Trace]:
    """One simulated search, in a process of its own."""
    torch.set_num_threads(1)
    return setting, SimulatedSearch(_TABLES[0], setting).run()


def plan_settings(arguments: argparse.Namespace) -> list[Setting]:
    """All searches, the seeds outermost; random's 200 trials in a row first of each."""
    settings: list[Setting] = []
    for seed in range(arguments.seeds):
        first = Setting(
            sampler="random",
            has_rungs=False,
            n_workers=1,
            seed=seed,
            n_trials=RANDOM_TRIALS,
            enough=math.inf,
            training_s=arguments.training_s,
            measure_s=arguments.measure_s,
            decide_s=arguments.decide_s,
        )
        settings.append(first)
        settings += [
            replace(
                first,
                sampler=sampler,
                has_rungs=has_rungs,
                n_workers=n_workers,
                n_trials=max(arguments.trials, 4 * n_workers if has_rungs else 2 * n_workers),
                enough=arguments.high,
            )
            for n_workers in arguments.workers
            for sampler in arguments.samplers
            for has_rungs in (False, True)
        ]
    return settings


def volume_at(trace: Trace, seconds: float) -> float:
    """The hypervolume after some time; the last one where the search had ended."""
    return max((volume for at, volume in trace.points if at <= seconds), default=0.0)


def reach(traces: Sequence[Trace], level: float) -> float | None:
    """When the mean over the seeds is at a level; none if it never is."""
    for seconds in sorted({at for trace in traces for at, _ in trace.points}):
        if statistics.fmean(volume_at(trace, seconds) for trace in traces) >= level:
            return seconds
    return None


def describe_simulation(
    done: Sequence[tuple[Setting, Trace]], *, high: float, training_s: float
) -> Figures:
    """Sampler, with or without rungs, to workers to figures."""
    randoms = [trace.points[-1][1] for setting, trace in done if math.isinf(setting.enough)]
    if not randoms:
        return {}
    levels = {"random_200": statistics.fmean(randoms), "high": high}
    groups: dict[tuple[str, int], list[Trace]] = {}
    for setting, trace in done:
        if not math.isinf(setting.enough):
            name = f"{setting.sampler}_rungs" if setting.has_rungs else setting.sampler
            groups.setdefault((name, setting.n_workers), []).append(trace)
    figures: Figures = {"random_200": round(levels["random_200"], 4), "high": high}
    for (name, n_workers), traces in sorted(groups.items()):
        entry = _describe(traces, n_workers=n_workers, training_s=training_s)
        alone = groups.get((name, 1), [])
        for key, level in levels.items():
            seconds, before = reach(traces, level), reach(alone, level)
            entry[f"hours_to_{key}"] = None if seconds is None else round(seconds / 3600, 3)
            if seconds and before:
                entry[f"speed_up_to_{key}"] = round(before / seconds, 2)
                entry[f"efficiency_to_{key}"] = round(before / seconds / n_workers, 3)
        figures.setdefault(name, {})[str(n_workers)] = entry
    return figures


def _describe(traces: Sequence[Trace], *, n_workers: int, training_s: float) -> Figures:
    """What a group of searches came to, whatever is compared with it."""
    volumes = {
        str(times): [volume_at(trace, times * training_s) for trace in traces] for times in TIMES
    }
    longest = max(trace.end_s for trace in traces) / training_s
    return {
        "n_seeds": len(traces),
        "hypervolume_at_trainings": {
            key: [round(statistics.fmean(row), 4), round(_spread(row), 4)]
            for key, row in volumes.items()
            if float(key) < 2 * longest
        },
        "n_trials": round(statistics.fmean(trace.n_trials for trace in traces), 1),
        "n_trained": round(statistics.fmean(trace.n_trained for trace in traces), 1),
        "decide_s": _rounded(
            statistics.fmean(trace.deciding_s / trace.n_trials for trace in traces)
        ),
        "measure_s": _rounded(
            statistics.fmean(trace.measuring_s / trace.n_trials for trace in traces)
        ),
        "coordinator_busy": _rounded(
            statistics.fmean((t.deciding_s + t.measuring_s) / t.end_s for t in traces)
        ),
        "workers_busy": _rounded(
            statistics.fmean(min(1.0, t.training_s / t.end_s / n_workers) for t in traces)
        ),
    }


def _spread(values: Sequence[float]) -> float:
    """The standard error."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def simulate(arguments: argparse.Namespace) -> Figures:
    """All simulated searches, as many side by side as there are processors."""
    column, min_latency_ms = split_latency(arguments.latency)
    _TABLES[:] = [
        load_table(
            arguments.table,
            accuracy=arguments.accuracy,
            low_accuracy=arguments.low_accuracy,
            latency=column,
            min_latency_ms=min_latency_ms,
        )
    ]
    settings, done = plan_settings(arguments), list[tuple[Setting, Trace]]()
    with (
        contextlib.suppress(KeyboardInterrupt),
        multiprocessing.get_context("fork").Pool(
            arguments.processes, initializer=_ignore_interrupts
        ) as pool,
    ):
        for setting, trace in pool.imap_unordered(run_setting, settings):
            done.append((setting, trace))
            _say(
                f"{len(done)}/{len(settings)} {setting.sampler}, rungs {setting.has_rungs}, "
                f"{setting.n_workers} workers, seed {setting.seed}: {trace.points[-1][1]:.3f} "
                f"after {trace.end_s / 3600:.1f} h, {trace.n_trials} trials, "
                f"{trace.n_trained} trained, {trace.deciding_s / trace.n_trials:.3f} s a decision"
            )
    return describe_simulation(done, high=arguments.high, training_s=arguments.training_s)


def measure_coordinator(arguments: argparse.Namespace) -> Figures:
    """Figure to storage to sampler to trials."""
    rows: list[tuple[str, int, str, dict[str, float]]] = []
    with contextlib.suppress(KeyboardInterrupt), tempfile.TemporaryDirectory() as folder:
        for row in measure_all(
            storages=arguments.storages,
            sizes=arguments.sizes,
            samplers=arguments.coordinator_samplers,
            n_suggestions=arguments.suggestions,
            folder=Path(folder),
            most_sqlite=arguments.most_sqlite,
        ):
            rows.append(row)
            _say("{}, {} trials, {}: {}".format(*row))
    figures: Figures = {}
    for kind, size, name, measured in rows:
        for key, value in measured.items():
            place = figures.setdefault(key, {}).setdefault(kind, {}).setdefault(name, {})
            place[str(size)] = value
    kind = arguments.storages[0]
    suggest_s = {
        name: {size: by_size[size] for size in map(str, SUGGEST_AT) if size in by_size}
        for name, by_size in figures.get("suggest_s", {}).get(kind, {}).items()
    }
    return {"coordinator": figures, "suggest_s": suggest_s,
            "suggestions_per_s": figures.get("suggestions_per_s", {})}  # fmt: skip


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, required=True, help="CSV, gzipped or plain")
    parser.add_argument("--accuracy", default="accuracy_200_epochs_test", help="column, percent")
    parser.add_argument("--low-accuracy", default="accuracy_12_epochs_val", help="column, percent")
    parser.add_argument(
        "--latency",
        default="latency_ms_raspi4:1",
        metavar="COLUMN[:MIN_MS]",
        help="column, ms; networks faster than MIN_MS are left out, none without it: cells of the "
        "phones under 1 ms are no networks [default: latency_ms_raspi4:1]",
    )
    parser.add_argument("--parts", nargs="+", default=["simulation", "coordinator"])
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS))
    parser.add_argument("--workers", nargs="+", type=int, default=list(WORKERS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=400, help="at most, or 2 to 4 a worker")
    parser.add_argument("--high", type=float, default=0.95, help="hypervolume that is enough")
    parser.add_argument("--training-s", type=float, default=600.0, help="mean of a full training")
    parser.add_argument("--measure-s", type=float, default=1.0, help="of a network's latency")
    parser.add_argument("--decide-s", type=float, help="of a decision; measured if not given")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--storages", nargs="+", default=["journal", "memory", "sqlite"])
    parser.add_argument(
        "--coordinator-samplers", nargs="+", default=["random", "tpe", "nsga2", "auto"]
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="trials")
    parser.add_argument("--most-sqlite", type=int, default=10_000, help="trials")
    parser.add_argument("--suggestions", type=int, default=10, help="that are timed")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="1 seed, 1 and 8 workers, 40 trials; suggestions in studies of 50 and 500",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.workers, arguments.trials = 1, [1, 8], 40
        arguments.high, arguments.sizes = 0.8, [50, 500]
        arguments.suggestions, arguments.storages = 3, ["journal", "memory"]
    return arguments


def main() -> None:
    """Reads the arguments, simulates, measures, prints."""
    arguments, out = read_arguments(), reserve_stdout()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    figures: Figures = {}
    if "coordinator" in arguments.parts:
        figures |= measure_coordinator(arguments)
    if "simulation" in arguments.parts:
        figures["simulation"] = simulate(arguments)
    print_figures(figures, as_json=arguments.json, out=out)


if __name__ == "__main__":
    main()
