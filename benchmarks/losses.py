"""Every loss and every teacher arrangement on one fixed pair: accuracy, gain, milliseconds a step.

All train the default student of a space with the same seeds, views, schedule and length, beside
the same student without distillation. The losses' own weights are those of their papers; nothing
is tuned, so that a row says what one gets by default. Milliseconds a step are those of trainings of
their own, once what the teacher says of the view is kept; as many run beside each other as there
are cores.

Teachers: the one that autokd makes; committees of it and of a second one, made alike with another
seed, by each vote; an assistant between teacher and student, and both together. The assistant has
the geometric mean of their parameters where `--assistant auto` finds the gap too small for one.
"""

import argparse
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from arrangements import ARRANGEMENTS, arrange
from matched import Bench, Lesson, Outcome, describe_machine, gain, open_bench
from output import print_figures, reserve_stdout
from rich.console import Console
from rich.table import Table

from autokd.candidate import KnownTeacher
from autokd.study.finalists import estimate
from autokd.types import Recipe

BASE = Recipe(alpha=0.9, alpha_end=0.9, temperature=4.0, augmentation="crop")
PLAIN = "no distillation"
CUTMIX: Mapping[str, Any] = {"mix": "cutmix", "mix_alpha": 1.0}
RECIPES: Mapping[str, Mapping[str, Any]] = {
    PLAIN: {"alpha": 0.0, "alpha_end": 0.0},
    "soft targets": {},
    "dkd": {"loss": "dkd"},
    "dkd, alpha warm-up": {"loss": "dkd", "alpha_schedule": "warm_up"},
    "dist": {"loss": "dist"},
    "multi-temperature": {"loss": "multi_temperature"},
    "standardised": {"is_standardised": True, "temperature": 2.0},
    "adaptive temperature": {"is_adaptive": True},
    "temperature decay": {"temperature_schedule": "decay"},
    "alpha warm-up": {"alpha_schedule": "warm_up"},
    "hint": {"feature_loss": "hint"},
    "attention": {"feature_loss": "attention"},
    "fsp": {"feature_loss": "fsp"},
    "rkd": {"feature_loss": "rkd"},
    "crd": {"feature_loss": "crd"},
    "mixup, no distillation": {"mix": "mixup", "alpha": 0.0, "alpha_end": 0.0},
    "mixup, exact targets": {"mix": "mixup", "mix_targets": "exact"},
    "mixup, mixed targets": {"mix": "mixup", "mix_targets": "mixed"},
    "cutmix, no distillation": {**CUTMIX, "alpha": 0.0, "alpha_end": 0.0},
    "cutmix, exact targets": {**CUTMIX, "mix_targets": "exact"},
    "cutmix, mixed targets": {**CUTMIX, "mix_targets": "mixed"},
    "exits": {"exits": 2},
    "exits, no teacher": {"exits": 2, "alpha": 0.0, "alpha_end": 0.0},
    "born again": {"generations": 2},
}


def build_lessons(
    bench: Bench, arrangements: Mapping[str, KnownTeacher], *, epochs: int
) -> list[Lesson]:
    """A lesson for each row of the table."""
    sample = bench.space.complete({})
    teachers = bench.faculty.teachers
    lessons = [
        Lesson(
            name=name,
            recipe=dataclasses.replace(BASE, **changes),
            teacher=teachers["teacher"],
            sample=sample,
            # A generation is a whole training: both together take as long as the others.
            epochs=math.ceil(epochs / 2) if "generations" in changes else epochs,
        )
        for name, changes in RECIPES.items()
    ]
    return lessons + [
        Lesson(name=name, recipe=BASE, teacher=teacher, sample=sample, epochs=epochs)
        for name, teacher in arrangements.items()
    ]


def summarise(
    outcomes: Mapping[str, list[Outcome]], steps_ms: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Mean, interval, gain, time and engine of each row."""
    figures = {}
    for name, rows in outcomes.items():
        accuracy = estimate([row.test_accuracy for row in rows])
        figures[name] = {
            "test_accuracy": accuracy.mean,
            "test_accuracy_ci95": accuracy.ci95,
            **gain(rows, outcomes[PLAIN]),
            "step_ms": steps_ms[name],
            "engine": ", ".join(sorted({row.engine for row in rows})),
            "n": accuracy.n,
        }
    return figures


def print_table(figures: Mapping[str, Mapping[str, Any]]) -> None:
    """The table, on standard error."""
    table = Table("", "test accuracy, %", "gain, points", "ms a step")
    for name, row in figures.items():
        half, gain_half = row["test_accuracy_ci95"] or 0.0, row["gain_ci95"] or 0.0
        table.add_row(
            name,
            f"{row['test_accuracy']:.2%} ± {half * 100:.2f}",
            f"{row['gain'] * 100:+.2f} ± {gain_half * 100:.2f}",
            f"{row['step_ms']:.1f}",
        )
    Console(stderr=True, highlight=False).print(table)


def main() -> None:
    """Reads the arguments, trains, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="600 digits, 3 epochs, 2 seeds")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--data", default="digits", help="as of autokd search")
    parser.add_argument("--train-limit", type=int, help="pictures for training and validation")
    parser.add_argument("--space", default="mobile")
    parser.add_argument(
        "--assistant",
        default="auto",
        help="as of autokd search, but that auto always makes one [default: auto]",
    )
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="NAME",
        choices=[*RECIPES, *ARRANGEMENTS],
        help="only these, beside the one without distillation",
    )
    arguments, out = parser.parse_args(), reserve_stdout()
    if arguments.quick:
        arguments.train_limit, arguments.epochs, arguments.seeds = 600, 3, 2
    wanted = {PLAIN, *arguments.rows} if arguments.rows else None
    has_arrangements = wanted is None or not wanted <= RECIPES.keys()
    bench = open_bench(
        arguments.space,
        device=arguments.device,
        batch_size=arguments.batch_size,
        data=arguments.data,
        train_limit=arguments.train_limit,
        assistant=arguments.assistant if has_arrangements else "none",
    )
    arrangements, accuracies = ({}, {})
    if has_arrangements:
        arrangements, accuracies = arrange(bench, has_assistant=arguments.assistant != "none")
    lessons = build_lessons(bench, arrangements, epochs=arguments.epochs)
    lessons = [lesson for lesson in lessons if wanted is None or lesson.name in wanted]
    outcomes = bench.run(lessons, seeds=arguments.seeds)
    figures = summarise(outcomes, bench.time_steps(lessons))
    print_table(figures)
    card = bench.faculty.card
    print_figures(
        {
            **describe_machine(arguments.device),
            "data": arguments.data,
            "n_train": len(bench.data.train_images),
            "epochs": arguments.epochs,
            "teacher_val_accuracy": card.val_accuracy,
            "arrangements_val_accuracy": accuracies,
            "rows": figures,
        },
        as_json=arguments.json,
        out=out,
    )


if __name__ == "__main__":
    main()
