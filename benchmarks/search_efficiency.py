"""How many trainings each sampler needs, on a table in which every network was trained.

The table holds, for each network, its accuracy after a short and after a full training and its
measured latency. A sampler proposes a network, the table answers. Figure: the hypervolume of what
was fully trained as a fraction of the whole table's, accuracy against log latency, both scaled as
the options say; mean and standard error over seeds.

`auto` looks up the latency of what it may propose, which costs no training: of up to 600 networks a
trial, as a table allows, and as `auto_few_looks` of 4, as measuring them allows. With rungs a short
training costs its share of epochs and is paid besides the full one: all costs, that of
`epochs_to_random_200` too, are told in full trainings, and end at 50. `auto_rungs_few_looks` goes
by the rules of `autokd search`, with 4 looks and 10 candidates before it asks a model; `mo_asha`
needs none: random networks, of which the best fourth by non-dominated sorting goes on. Optuna's
GPSampler (`gp`) takes seconds a suggestion and gets fewer seeds and trials than the others; as many
with `--gp-seeds 30 --gp-trials 200`.

Seeds come one after another; Ctrl-C prints what there is. All of it takes many hours: with `--keep
FILE` runs that have ended are written there, and the same command later goes on with the others;
of older code they are taken, of another table not. Those of the docs are in benchmarks/results.
"""

import argparse
import contextlib
import hashlib
import json
import math
import multiprocessing
import os
import random
import signal
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
import torch
from output import print_figures, reserve_stdout
from trained_table import (
    LABELS,
    OPERATIONS,
    Table,
    TableSurveyor,
    build_dimensions,
    load_table,
    measure_volume,
    split_latency,
)

from autokd.study.auto_sampler import AutoSampler
from autokd.study.rungs import REDUCTION, Rungs
from autokd.surrogate import Advice, Advisor, Observation, best_layers

SAMPLERS = ("random", "nsga2", "default", "tpe_multivariate", "gp", "auto_few_looks", "auto")
WITH_RUNGS = ("auto_rungs", "auto_rungs_few_looks", "mo_asha")
_STUBBORN = 10  # networks in a row that are left out of a table
TRIALS = (25, 50, 100, 200)
COSTS = (10, 20, 25, 30, 50)
DEVICES = (
    *("latency_ms_raspi4:1", "latency_ms_pixel3:1"),  # cells under 1 ms are no networks
    *("latency_ms_xeon_gold_6226", "latency_ms_gtx1080ti"),
)


def build_sampler(name: str, *, seed: int, surveyor: TableSurveyor) -> optuna.samplers.BaseSampler:
    """The sampler behind a name."""
    samplers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed),
        "default": lambda: optuna.samplers.TPESampler(seed=seed),
        "tpe_multivariate": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed),
        "auto_few_looks": lambda: AutoSampler(
            surveyor, dimensions=build_dimensions(), advice=Advice(seed=seed, n_surveyed=4)
        ),
        "auto": lambda: AutoSampler(
            surveyor, dimensions=build_dimensions(), advice=Advice(seed=seed, n_surveyed=600)
        ),
    }
    return samplers[name]()


def run_trials(table: Table, name: str, *, seed: int, n_trials: int) -> tuple[list[float], float]:
    """Full trainings only: the hypervolume after each trial, and seconds for a suggestion."""
    surveyor = TableSurveyor(table)
    study = optuna.create_study(
        directions=["maximize", "minimize"],
        sampler=build_sampler(name, seed=seed, surveyor=surveyor),
    )
    kind = optuna.distributions.CategoricalDistribution(OPERATIONS)
    chosen: list[int] = []
    volumes: list[float] = []
    seconds, n_in_vain = 0.0, 0
    rng = random.Random(seed)
    while len(volumes) < n_trials:
        if n_in_vain == _STUBBORN:  # what failed teaches GPSampler nothing: the same again for ever
            study.enqueue_trial({label: rng.choice(OPERATIONS) for label in LABELS})
            n_in_vain = 0
        start = time.perf_counter()
        trial = study.ask(dict.fromkeys(LABELS, kind))
        seconds += time.perf_counter() - start
        row = surveyor.row_of(trial.params)
        if row is None:  # left out of this device's table; costs nothing
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            n_in_vain += 1
            continue
        n_in_vain = 0
        study.tell(trial, [table.accuracies[row], table.latencies[row]])
        chosen.append(row)
        volumes.append(measure_volume(table, chosen))
    return volumes, seconds / n_trials


def run_rungs(
    table: Table, name: str, *, seed: int, budget: float, low_cost: float
) -> list[tuple[float, float]]:
    """Short trainings first: cost so far and hypervolume, after each full training."""
    surveyor, rng = TableSurveyor(table), random.Random(seed)
    advice = Advice(seed=seed, n_rungs=2, n_initial=16, n_surveyed=600)
    has_model, is_searched = name != "mo_asha", name == "auto_rungs_few_looks"
    if is_searched:  # by the rules of a study
        advice = Advice(seed=seed, n_rungs=2, n_surveyed=4, reduction=REDUCTION, chance=0.1)
    advisor = Advisor(build_dimensions(), surveyor, advice=advice)
    observations: list[Observation] = []
    rungs = Rungs([1], standings=lambda: advisor.promotions(observations))
    chosen: list[int] = []
    trace: list[tuple[float, float]] = []
    cost = 0.0
    while cost < budget:
        if not has_model:
            key = choose_by_layers(observations, table, surveyor)
        elif is_searched:
            key = first.key if (first := rungs.next()) else None
        else:
            key = next((one.key for one in advisor.promotions(observations)), None)
        if key is not None:
            stopped = observations[key]
            row = surveyor.row_of(stopped.sample)
            curve = (*stopped.curve, float(table.accuracies[row]))
            observations[stopped.key] = Observation(
                key=stopped.key, sample=stopped.sample, state="complete", curve=curve
            )
            chosen.append(row)
            cost += 1
            trace.append((cost, measure_volume(table, chosen)))
            continue
        sample = (
            advisor.suggest(observations)
            if has_model
            else {label: rng.choice(OPERATIONS) for label in LABELS}
        )
        row = surveyor.row_of(sample)
        key = len(observations)
        if row is None:
            observations.append(Observation(key=key, sample=sample, state="lost"))
            continue
        curve = (float(table.low_accuracies[row]),)
        observations.append(Observation(key=key, sample=sample, state="stopped", curve=curve))
        cost += low_cost
    return [*trace, (cost, measure_volume(table, chosen))]


def choose_by_layers(
    observations: Sequence[Observation], table: Table, surveyor: TableSurveyor
) -> int | None:
    """Who goes on by MO-ASHA (https://arxiv.org/abs/2106.12639); none if it is nobody's turn."""
    told = [one for one in observations if one.curve]
    costs = np.array([table.latencies[surveyor.row_of(one.sample)] for one in told])
    accuracies = np.array([one.curve[0] for one in told])
    is_near = best_layers(costs, accuracies, n=len(told) // REDUCTION) if told else ()
    chosen = (one.key for one, near in zip(told, is_near, strict=True) if near)
    return next((key for key in chosen if observations[key].state == "stopped"), None)


def at_cost(trace: Sequence[tuple[float, float]], cost: float) -> float:
    """The hypervolume that a cost has bought."""
    return max((volume for spent, volume in trace if spent <= cost), default=0.0)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One run: a sampler on a device with a seed, and the table that answers (`source`)."""

    source: str
    device: str
    sampler: str
    seed: int
    n_trials: int


Trace = list[tuple[float, float]]
_TABLES: dict[str, Table] = {}
_LOW_COST = 0.06


def run_task(task: Task) -> tuple[Task, Trace, float]:
    """The trace of one run, in a process of its own."""
    torch.set_num_threads(1)
    table = _TABLES[task.device]
    if task.sampler in WITH_RUNGS:
        trace = run_rungs(
            table, task.sampler, seed=task.seed, budget=task.n_trials, low_cost=_LOW_COST
        )
        return task, trace, 0.0
    volumes, seconds = run_trials(table, task.sampler, seed=task.seed, n_trials=task.n_trials)
    return task, [(index + 1.0, volume) for index, volume in enumerate(volumes)], seconds


def recall(path: Path | None, tasks: Sequence[Task]) -> list[tuple[Task, Trace, float]]:
    """Runs of an earlier session, of those that are wanted now."""
    if path is None or not path.exists():
        return []
    kept: dict[Task, tuple[Trace, float]] = {}
    for line in path.read_text().splitlines():
        with contextlib.suppress(ValueError, TypeError):  # cut off by a kill, or of older code
            row = json.loads(line)
            trace = [(cost, volume) for cost, volume in row["trace"]]
            kept[Task(**row["task"])] = trace, row["suggest_s"]
    return [(task, *kept[task]) for task in tasks if task in kept]


def keep(path: Path | None, task: Task, trace: Trace, seconds: float) -> None:
    """Adds a run to the file: of its trace the steps and the end."""
    if path is not None:
        steps = [two for one, two in pairwise([(0.0, 0.0), *trace[:-1]]) if two[1] > one[1]]
        row = {"task": asdict(task), "trace": [*steps, trace[-1]], "suggest_s": seconds}
        with path.open("a+") as file:
            file.seek(0)
            is_cut = not f"\n{file.read()}".endswith("\n")  # the last line of a killed run
            file.write("\n" * is_cut + json.dumps(row) + "\n")


def describe_source(arguments: argparse.Namespace, *, min_latency_ms: float) -> str:
    """What a run depends on besides its sampler: the table, its columns, the cost of a look."""
    digest = hashlib.sha256(arguments.table.read_bytes()).hexdigest()[:16]
    columns = f"{arguments.accuracy} {arguments.low_accuracy}"
    return f"{digest} {columns} {arguments.low_cost:g} {min_latency_ms:g}"


def summarise(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard error and number of seeds."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return {
        "mean": round(statistics.fmean(values), 4), "se": round(error, 4), "n": len(values)
    }  # fmt: skip


def first_above(traces: Sequence[Sequence[tuple[float, float]]], level: float) -> float | None:
    """The least cost at which the mean over the seeds is at least a level; none if it never is."""
    for cost in sorted({cost for trace in traces for cost, _ in trace}):
        if statistics.fmean(at_cost(trace, cost) for trace in traces) >= level:
            return round(cost, 2)
    return None


def describe(
    traces: dict[tuple[str, str], list[Trace]],
    suggesting: dict[tuple[str, str], list[float]],
) -> dict[str, dict[str, dict[str, object]]]:
    """The figures, device by device and sampler by sampler."""
    figures: dict[str, dict[str, dict[str, object]]] = {}
    for (device, sampler), runs in sorted(traces.items()):
        costs = COSTS if sampler in WITH_RUNGS else TRIALS
        longest = min(run[-1][0] for run in runs)
        entry: dict[str, object] = {
            str(cost): summarise([at_cost(run, cost) for run in runs])
            for cost in costs
            if cost <= longest
        }
        randoms = traces.get((device, "random"), [])
        if randoms and randoms[0][-1][0] >= TRIALS[-1]:
            level = statistics.fmean(at_cost(run, TRIALS[-1]) for run in randoms)
            name = "epochs_to_random_200" if sampler in WITH_RUNGS else "trials_to_random_200"
            entry[name] = first_above(runs, level)
        if sampler not in WITH_RUNGS:
            entry["suggest_s"] = round(statistics.fmean(suggesting[device, sampler]), 4)
        figures.setdefault(device, {})[sampler] = entry
    return figures


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, required=True, help="CSV, gzipped or plain")
    parser.add_argument("--accuracy", default="accuracy_200_epochs_test", help="column, percent")
    parser.add_argument("--low-accuracy", default="accuracy_12_epochs_val", help="column, percent")
    parser.add_argument("--low-cost", type=float, default=12 / 200, help="of a full training")
    parser.add_argument(
        "--latency",
        nargs="+",
        metavar="COLUMN[:MIN_MS]",
        default=list(DEVICES),
        help="columns in ms; networks faster than MIN_MS are left out, none without it: cells of "
        "the phones under 1 ms are no networks, so that their columns want a :1, as they have in "
        f"the default: {' '.join(DEVICES)}",
    )
    parser.add_argument(
        "--samplers",
        nargs="+",
        default=[*SAMPLERS, *WITH_RUNGS],
    )
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument(
        "--gp-seeds", type=int, default=6, help="of the sampler gp, --seeds at most [default: 6]"
    )
    parser.add_argument(
        "--gp-trials", type=int, default=100, help="of the sampler gp [default: 100]"
    )
    parser.add_argument("--keep", type=Path, help="file of runs, read and added to")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="2 seeds, 50 trials, one device")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.trials, arguments.gp_seeds = 2, 50, 1
        arguments.gp_trials, arguments.latency = 15, arguments.latency[:1]
    return arguments


def main() -> None:
    """Reads the arguments, runs, prints."""
    global _LOW_COST
    arguments, out = read_arguments(), reserve_stdout()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    _LOW_COST = arguments.low_cost
    sources: dict[str, str] = {}
    for word in arguments.latency:
        column, min_latency_ms = split_latency(word)
        sources[column] = describe_source(arguments, min_latency_ms=min_latency_ms)
        _TABLES[column] = load_table(
            arguments.table,
            accuracy=arguments.accuracy,
            low_accuracy=arguments.low_accuracy,
            latency=column,
            min_latency_ms=min_latency_ms,
        )
    tasks = [
        Task(source=source, device=device, sampler=sampler, seed=seed, n_trials=n_trials)
        for seed in range(arguments.seeds)  # outermost, so that a run that is cut off is balanced
        for sampler in arguments.samplers
        for device, source in sources.items()
        for n_seeds, n_trials in [plan_of(sampler, arguments)]
        if seed < n_seeds
    ]
    done = recall(arguments.keep, tasks)
    before = {task for task, _, _ in done}
    left = [task for task in tasks if task not in before]
    start = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        contextlib.suppress(KeyboardInterrupt),
        multiprocessing.get_context("fork").Pool(
            arguments.workers, initializer=_ignore_interrupts
        ) as pool,
    ):
        for n_done, (task, trace, seconds) in enumerate(pool.imap_unordered(run_task, left), 1):
            done.append((task, trace, seconds))
            keep(arguments.keep, task, trace, seconds)
            left_s = (time.monotonic() - start) / n_done * (len(left) - n_done)
            print(
                f"{len(done)}/{len(tasks)} {task.sampler} on {task.device}, seed {task.seed}: "
                f"{trace[-1][1]:.3f}; about {left_s / 60:.0f} min left",
                file=sys.stderr,
                flush=True,
            )
    traces: dict[tuple[str, str], list[Trace]] = {}
    suggesting: dict[tuple[str, str], list[float]] = {}
    for task, trace, seconds in done:
        traces.setdefault((task.device, task.sampler), []).append(trace)
        suggesting.setdefault((task.device, task.sampler), []).append(seconds)
    print_figures(describe(traces, suggesting), as_json=arguments.json, out=out)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def plan_of(sampler: str, arguments: argparse.Namespace) -> tuple[int, int]:
    """Seeds and trials (or, with rungs, the cost in full trainings) of a sampler."""
    if sampler == "gp":
        return arguments.gp_seeds, arguments.gp_trials
    if sampler in WITH_RUNGS:
        return arguments.seeds, min(arguments.trials, COSTS[-1])
    return arguments.seeds, arguments.trials


if __name__ == "__main__":
    main()
