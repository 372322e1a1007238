"""What an earlier study is worth to a new one, and what a misleading one costs.

On a table in which every network was trained (see `search_efficiency.py`). The earlier study is
one of Optuna's multivariate TPE. Its accuracies are those after a short training and its latencies
those of another device (`earlier`); the same dealt anew among the networks (`shuffled`); or the
same upside down (`reversed`), so that what it takes for its front is the worst there is. The new
study wants the accuracy after the full training. Figure: the fraction of the table's hypervolume
after some trials, mean and standard error over seeds.

With `--noise` the observed accuracies of the new study have noise of that standard deviation, and
the sampler is told of it, or has to guess it. What counts is then the true hypervolume.
"""

import argparse
import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Sequence
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
)

from autokd.surrogate import Advice, Advisor, Lesson, Noise, Observation
from autokd.types import Sample

TRIALS = (5, 10, 15, 25, 50)
KINDS = ("nothing", "earlier", "shuffled", "reversed")


def run_study(
    table: Table,
    *,
    seed: int,
    n_trials: int,
    lessons: Sequence[Lesson] = (),
    noise_std: float = 0.0,
    noise: Noise | None = None,
) -> tuple[list[Observation], list[float]]:
    """A study of `auto`: what it observed, and the hypervolume after each trial."""
    surveyor = TableSurveyor(table)
    advice = Advice(seed=seed, n_surveyed=600, noise=noise or Noise())
    advisor = Advisor(build_dimensions(), surveyor, advice=advice, lessons=lessons)
    rng = np.random.default_rng([seed, 77])
    seen: list[Observation] = []
    chosen: list[int] = []
    volumes: list[float] = []
    while len(chosen) < n_trials:
        sample = advisor.suggest(seen)
        row = surveyor.row_of(sample)
        if row is None:  # left out of this device's table; costs nothing
            seen.append(Observation(key=len(seen), sample=sample, state="lost"))
            continue
        accuracy = float(table.accuracies[row]) + noise_std * float(rng.normal())
        seen.append(Observation(key=len(seen), sample=sample, state="complete", curve=(accuracy,)))
        chosen.append(row)
        volumes.append(measure_volume(table, chosen))
    return seen, volumes


def make_lesson(table: Table, kind: str, *, seed: int, n_trials: int) -> list[Lesson]:
    """The earlier study; none for `nothing`."""
    if kind == "nothing":
        return []
    accuracies = table.accuracies
    if kind == "shuffled":
        accuracies = np.random.default_rng(seed).permutation(accuracies)
    if kind == "reversed":
        accuracies = accuracies.max() + accuracies.min() - accuracies
    surveyor = TableSurveyor(table)
    study = optuna.create_study(
        directions=["maximize", "minimize"],
        sampler=optuna.samplers.TPESampler(seed=1000 + seed, multivariate=True),
    )
    kinds = dict.fromkeys(LABELS, optuna.distributions.CategoricalDistribution(OPERATIONS))
    samples: list[Sample] = []
    rows: list[int] = []
    while len(rows) < n_trials:
        trial = study.ask(kinds)
        row = surveyor.row_of(trial.params)
        if row is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        study.tell(trial, [accuracies[row], table.latencies[row]])
        samples.append(dict(trial.params))
        rows.append(row)
    return [
        Lesson(
            dimensions=tuple(build_dimensions()),
            samples=tuple(samples),
            prospects=tuple(one for one in surveyor.survey(samples) if one is not None),
            curves=tuple((float(accuracies[row]),) for row in rows),
        )
    ]


def summarise(runs: Sequence[Sequence[float]]) -> dict[str, object]:
    """Mean and standard error of the fraction after some numbers of trials."""
    figures: dict[str, object] = {"n": len(runs)}
    for trials in TRIALS:
        values = [run[trials - 1] for run in runs if len(run) >= trials]
        if values:
            error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
            figures[str(trials)] = [round(statistics.fmean(values), 3), round(error, 3)]
    return figures


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, required=True, help="CSV, gzipped or plain")
    parser.add_argument("--accuracy", default="accuracy_200_epochs_test", help="column, percent")
    parser.add_argument(
        "--latency",
        default="latency_ms_raspi4",
        help="column, ms; here, as in --earlier-latency, cells under 1 ms are always left out",
    )
    parser.add_argument("--earlier-accuracy", default="accuracy_12_epochs_val")
    parser.add_argument("--earlier-latency", default="latency_ms_gtx1080ti")
    parser.add_argument("--earlier-trials", type=int, default=50)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation, in [0, 1]")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--trials", type=int, default=25)
    parser.add_argument("--quick", action="store_true", help="2 seeds, 15 trials")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.trials = 2, 15
    return arguments


def load(arguments: argparse.Namespace, *, accuracy: str, latency: str) -> Table:
    """One view of the table; cells under 1 ms are no networks."""
    return load_table(
        arguments.table,
        accuracy=accuracy,
        low_accuracy=arguments.earlier_accuracy,
        latency=latency,
        min_latency_ms=1.0,
    )


def main() -> None:
    """Reads the arguments, runs, prints."""
    arguments, out = read_arguments(), reserve_stdout()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    table = load(arguments, accuracy=arguments.accuracy, latency=arguments.latency)
    before = load(arguments, accuracy=arguments.earlier_accuracy, latency=arguments.earlier_latency)
    std = arguments.noise
    told = {"guessed": Noise(), "told": Noise(seed_std=std, degrees=12)} if std else {"": Noise()}
    cases = [(kind, how) for kind in arguments.kinds for how in told]
    runs: dict[str, list[list[float]]] = {}
    start, done = time.monotonic(), 0
    for seed in range(arguments.seeds):
        lessons = {
            kind: make_lesson(before, kind, seed=seed, n_trials=arguments.earlier_trials)
            for kind in arguments.kinds
        }
        for kind, how in cases:
            name = f"{kind} {how}".strip()
            _, volumes = run_study(
                table,
                seed=seed,
                n_trials=arguments.trials,
                lessons=lessons[kind],
                noise_std=std,
                noise=told[how],
            )
            runs.setdefault(name, []).append(volumes)
            done += 1
            left = (time.monotonic() - start) / done * (arguments.seeds * len(cases) - done)
            print(
                f"seed {seed}, {name}: {volumes[-1]:.3f}; about {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
    figures = {name: summarise(volumes) for name, volumes in runs.items()}
    print_figures(figures, as_json=arguments.json, out=out)


if __name__ == "__main__":
    main()
