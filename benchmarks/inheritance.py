"""Students that begin with weights of a relative, against the same students that begin afresh.

Random students of a space come one after another, as in a study, all with one recipe. Each is
trained afresh and, for as many epochs, from what it inherits of the nearest relative among those
before it, which have inherited themselves. Tells, by data: the gain in test accuracy over pairs,
and how well the validation accuracy at the highest rung ranks the students (Kendall's tau against
the test accuracy of full trainings afresh, with the other seeds).
"""

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any

from matched import Bench, describe_machine, open_bench
from output import print_figures, reserve_stdout
from rich.console import Console
from scipy.stats import kendalltau
from torch import Tensor

from autokd.candidate import (
    Relative,
    build_student,
    find_relative,
    inherit_weights,
    train_student,
)
from autokd.distillation import Engine, Plan, Student, evaluate
from autokd.study.crew import Job
from autokd.study.finalists import estimate
from autokd.study.rungs import choose_rungs
from autokd.types import EpochLog, Recipe, Sample

RECIPE = Recipe(alpha=0.9, alpha_end=0.9, temperature=4.0, augmentation="crop")
_MANY = 1000  # trials: a study that has rungs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One training.

    Attributes:
        student: Its place in the order.
        seed: Of weights, order and views.
        val_accuracy: Of its best epoch.
        test_accuracy: Of the same.
        rung_accuracy: On validation, at the highest rung.
        seconds: Of training; with what finding and slicing cost.
        relative: Place of the student that was inherited from; none afresh.
        share: Of the parameters that was inherited.
    """

    student: int
    seed: int
    val_accuracy: float
    test_accuracy: float
    rung_accuracy: float
    seconds: float
    relative: int | None = None
    share: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Course:
    """What the trainings with one data set share."""

    bench: Bench
    samples: Sequence[Sample]
    epochs: int

    @property
    def rung(self) -> int:
        """The highest one of a study, as an epoch."""
        return max((1, *choose_rungs(self.epochs, budget=_MANY)))

    def run(self, seed: int, on_epoch: Callable[[EpochLog], object]) -> list[tuple[Run, Run]]:
        """All students with one seed: afresh, and from a relative where there is one."""
        space, pairs = self.bench.space, []
        trained: list[Relative] = []
        states: list[Mapping[str, Tensor]] = []
        for index, sample in enumerate(self.samples):
            architecture = space.architecture_of(sample)
            heir = fresh = self.build(index, seed)
            run = first = self.train(fresh, index, seed=seed, on_epoch=on_epoch)
            start = time.perf_counter()
            relative = find_relative(architecture, trained)
            if relative is not None:
                heir = self.build(index, seed)
                share = inherit_weights(heir, states[relative.trial])
                spent = time.perf_counter() - start
                second = self.train(heir, index, seed=seed, on_epoch=on_epoch)
                run = dataclasses.replace(
                    second, seconds=second.seconds + spent, relative=relative.trial, share=share
                )
            accuracy = run.val_accuracy
            trained.append(Relative(trial=index, architecture=architecture, accuracy=accuracy))
            states.append(heir.state_dict())
            pairs.append((first, run))
        return pairs

    def build(self, index: int, seed: int) -> Student:
        """A student with fresh weights."""
        bench = self.bench
        return build_student(bench.space, self.samples[index], data=bench.data.card, seed=seed)[0]

    def train(
        self, student: Student, index: int, *, seed: int, on_epoch: Callable[[EpochLog], object]
    ) -> Run:
        """Trains a student in place."""
        bench = self.bench
        training = train_student(
            student,
            RECIPE,
            data=bench.data,
            teacher=bench.faculty.teachers["teacher"],
            plan=Plan(
                epochs=self.epochs,
                batch_size=bench.batch_size,
                seed=seed,
                device=bench.device,
                engine=Engine(device=bench.device),  # the same for both, without a look at a clock
            ),
            on_epoch=on_epoch,
        )
        _, accuracy = evaluate(
            student.to(bench.device),
            bench.test.images,
            bench.test.labels,
            engine=Engine(device=bench.device),
        )
        return Run(
            student=index,
            seed=seed,
            val_accuracy=training.val_accuracy,
            test_accuracy=accuracy,
            rung_accuracy=training.curve[self.rung - 1].val_accuracy,
            seconds=sum(row.seconds for row in training.curve),
        )

    def run_all(self, n_seeds: int, *, say: Callable[[str], object]) -> list[tuple[Run, Run]]:
        """Each seed as a job of its own, as many at once as there are cores."""
        crew, waiting, pairs = self.bench.crew, list(range(n_seeds)), []
        n_epochs, n_total = 0, n_seeds * (2 * len(self.samples) - 1) * self.epochs
        start = time.monotonic()

        def hear(job: Job, row: EpochLog) -> None:
            nonlocal n_epochs
            n_epochs += 1
            if row.epoch == self.epochs:
                left = (time.monotonic() - start) / n_epochs * (n_total - n_epochs)
                done = f"{n_epochs}/{n_total} epochs, {left / 60:.0f} min left"
                say(f"{job.title}: {row.val_accuracy:.1%} on validation   {done}")

        while waiting or crew.running:
            while waiting and len(crew.running) < crew.size:
                seed = waiting.pop(0)
                title = f"{self.bench.config.data}, seed {seed}"
                crew.start(Job(key=seed, title=title, epochs=n_total, work=partial(self.run, seed)))
            done = crew.wait(hear)
            if done is not None and done.fault:
                sys.exit(f"{done.job.title}: {done.fault}")
            if done is not None:
                pairs += done.result
        return sorted(pairs, key=lambda pair: (pair[0].seed, pair[0].student))


def summarise(pairs: Sequence[tuple[Run, Run]]) -> dict[str, Any]:
    """The figures of one data set, of the students that had a relative."""
    heirs = [(fresh, heir) for fresh, heir in pairs if heir.relative is not None]
    gain = estimate([heir.test_accuracy - fresh.test_accuracy for fresh, heir in heirs])
    taus = measure_taus(heirs)
    seconds = [sum(one.seconds for one in runs) for runs in zip(*heirs, strict=True)]
    donors = [heir.relative for _, heir in heirs]
    return {
        "gain": gain.mean,
        "gain_ci95": gain.ci95,
        "tau_fresh": fmean(tau[0] for tau in taus) if taus else None,
        "tau_relatives": fmean(tau[1] for tau in taus) if taus else None,
        "tau_difference_ci95": estimate([b - a for a, b in taus]).ci95 if taus else None,
        "n_pairs": len(heirs),
        "n_seeds": len({fresh.seed for fresh, _ in heirs}),
        "test_accuracy_fresh": fmean(fresh.test_accuracy for fresh, _ in heirs),
        "rung_gain": fmean(heir.rung_accuracy - fresh.rung_accuracy for fresh, heir in heirs),
        "seconds_ratio": seconds[1] / seconds[0],
        "share": fmean(heir.share for _, heir in heirs),
        "most_children_of_one": max(map(donors.count, donors)) / len(donors),
    }


def measure_taus(pairs: Sequence[tuple[Run, Run]]) -> list[tuple[float, float]]:
    """For each seed how its rung ranks the students afresh, and those that have inherited.

    Against the test accuracies of the other seeds' full trainings afresh, so that a ranking does
    not gain from being of the same training.

    Args:
        pairs: Of several seeds; with one there is nothing to compare with.

    Returns:
        Kendall's tau afresh and from relatives, by seed; of students that every seed has.
    """
    seeds = sorted({fresh.seed for fresh, _ in pairs})
    by_seed = {seed: {a.student: (a, b) for a, b in pairs if a.seed == seed} for seed in seeds}
    common = sorted(set.intersection(*(set(runs) for runs in by_seed.values())))
    taus = []
    for seed in seeds if len(seeds) > 1 else []:
        others = [runs for other, runs in by_seed.items() if other != seed]
        truth = [fmean(runs[one][0].test_accuracy for runs in others) for one in common]
        rungs = [[run.rung_accuracy for run in by_seed[seed][one]] for one in common]
        fresh, heirs = zip(*rungs, strict=True)
        taus.append((rank_correlation(fresh, truth), rank_correlation(heirs, truth)))
    return taus


def rank_correlation(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Kendall's tau; 0 where all of one are equal, so that nothing is ranked."""
    result: Any = kendalltau(ours, theirs)
    return 0.0 if math.isnan(result.statistic) else float(result.statistic)


def choose_default(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """`relatives` where it gains for sure on all data, and no ranking gets worse."""
    is_better = all(
        row["gain_ci95"] is not None
        and row["gain"] - row["gain_ci95"] > 0
        and row["tau_relatives"] is not None
        and row["tau_relatives"] >= row["tau_fresh"]
        for row in figures.values()
    )
    return "relatives" if is_better and len(figures) > 1 else "none"


def main() -> None:
    """Reads the arguments, trains, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="digits, 5 students, 3 epochs, 2 seeds"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--data", action="append", help="as of autokd search; may be repeated")
    parser.add_argument("--train-limit", type=int, help="pictures for training and validation")
    parser.add_argument("--space", default="mobile")
    parser.add_argument("--students", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    arguments, out = parser.parse_args(), reserve_stdout()
    if arguments.quick:
        arguments.students, arguments.epochs, arguments.seeds = 5, 3, 2
        arguments.train_limit = 600
    console = Console(stderr=True, highlight=False)
    figures, sizes = {}, {}
    for data in arguments.data or ["digits"]:
        bench = open_bench(
            arguments.space,
            device=arguments.device,
            batch_size=arguments.batch_size,
            data=data,
            train_limit=arguments.train_limit,
            assistant="none",
        )
        samples = [bench.space.random(seed) for seed in range(arguments.students)]
        course = Course(bench=bench, samples=samples, epochs=arguments.epochs)
        figures[data] = summarise(course.run_all(arguments.seeds, say=console.print))
        sizes[data] = len(bench.data.train_images)
        console.print(data, figures[data])
    print_figures(
        {
            **describe_machine(arguments.device),
            "space": arguments.space,
            "students": arguments.students,
            "epochs": arguments.epochs,
            "batch_size": arguments.batch_size,
            "n_train": sizes,
            **figures,
            "default": choose_default(figures),
        },
        as_json=arguments.json,
        out=out,
    )


if __name__ == "__main__":
    main()
