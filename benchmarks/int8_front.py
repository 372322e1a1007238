"""What searching the precision adds to a front: INT8 and FP32 against FP32 alone, same budget.

Two searches with the same data, space, teacher, seed and number of trials. Their finalists are
trained again with several seeds, scored on the test split in the runtime they are deployed in,
and timed by turns in one process, so that both fronts stand on one axis. Hypervolume is that of
`autokd front`: accuracy on test against log latency, between chance at the teacher's latency and
perfection at a thousandth of it.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matched import describe_machine
from output import print_figures, reserve_stdout
from rich.console import Console
from rich.table import Table

from autokd.candidate import load_student
from autokd.config import Config
from autokd.data import load_data
from autokd.exporters import export_onnx
from autokd.latency import FINAL, Form, StopwatchTarget
from autokd.study import search
from autokd.study.folder import StudyFolder
from autokd.study.front import hypervolume
from autokd.study.joint_space import build_joint_space
from autokd.study.progress import SearchProgress
from autokd.study.refits import find_int8, find_weights
from autokd.trackers import MemoryTracker
from autokd.types import Front, FrontStudent


def find_file(student: FrontStudent, config: Config, folder: Path) -> Path:
    """The file of a student that is deployed."""
    weights = find_weights(
        StudyFolder(config.study_dir), trial=student.trial, is_twin=student.is_twin
    )
    if student.recipe.precision == "int8":
        return find_int8(weights)
    data = load_data(config).card
    space = build_joint_space(config, data, has_assistant=bool(config.assistant))
    network = load_student(space, student.architecture, data=data, weights=weights)
    path = folder / f"{config.study_name}-{student.trial}.onnx"
    return export_onnx(network, path, shape=data.shape)


def time_together(
    fronts: Sequence[tuple[Config, Front]], *, form: Form
) -> tuple[float, list[list[FrontStudent]]]:
    """The students of several fronts with latencies that can be compared, and the teacher's."""
    with tempfile.TemporaryDirectory() as folder:
        files = [
            find_file(one, config, Path(folder))
            for config, front in fronts
            for one in front.students
        ]
        teacher = sorted(StudyFolder(fronts[0][0].study_dir).teacher.rglob("*.onnx"))
        target = StopwatchTarget(form=form)
        times = [one.median_ms for one in target.measure_together([*teacher, *files])]
    rest = iter(times[len(teacher) :])
    students = [
        [replace(one, latency_ms=next(rest)) for one in front.students] for _, front in fronts
    ]
    teacher_ms = sum(times[: len(teacher)]) or fronts[0][1].teacher.latency_ms
    return teacher_ms, students


def accuracy_of(student: FrontStudent) -> float:
    """On test."""
    return student.val_accuracy if student.test_accuracy is None else student.test_accuracy


def dominates(one: FrontStudent, other: FrontStudent) -> bool:
    """Whether it is faster and at least as accurate."""
    return one.latency_ms < other.latency_ms and accuracy_of(one) >= accuracy_of(other)


def print_table(fronts: dict[str, list[FrontStudent]]) -> None:
    """Both fronts, on standard error."""
    table = Table("search", "trial", "precision", "test accuracy, %", "ms", "parameters")
    for name, students in fronts.items():
        for one in sorted(students, key=lambda student: student.latency_ms):
            table.add_row(
                name,
                f"#{one.trial}",
                one.recipe.precision,
                f"{accuracy_of(one):.2%} ± {100 * (one.test_accuracy_ci95 or 0):.2f}",
                f"{one.latency_ms:.4f}",
                f"{one.n_params:,}",
            )
    Console(stderr=True, highlight=False).print(table)


def compare(options: dict[str, Any], *, runs: Path, form: Form) -> dict[str, Any]:
    """Both searches and their figures."""
    fronts: list[tuple[Config, Front]] = []
    for precision in ("fp32", "both"):
        config = Config(precision=precision, study=precision, runs_dir=runs, **options)
        front = search(config, progress=SearchProgress(), tracker=MemoryTracker())
        fronts.append((config, front))
    teacher_ms, (fp32, both) = time_together(fronts, form=form)
    print_table({"fp32": fp32, "both": both})
    chance = 1 / load_data(fronts[0][0]).card.n_classes
    volumes = [
        hypervolume(
            [(accuracy_of(one), one.latency_ms) for one in students],
            chance=chance,
            teacher_ms=teacher_ms,
        )
        for students in (fp32, both)
    ]
    int8 = [one for one in both if one.recipe.precision == "int8"]
    return {
        "hypervolume_fp32": volumes[0],
        "hypervolume_both": volumes[1],
        "n_dominating": sum(any(dominates(one, other) for other in fp32) for one in int8),
        "n_int8": len(int8),
        "n_front_both": len(both),
        "n_front_fp32": len(fp32),
        "n_not_offered": fronts[1][1].n_pruned,
        "wall_s": [front.wall_s for _, front in fronts],
        "teacher_ms": teacher_ms,
    }


def main() -> None:
    """Reads the arguments, searches twice, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="400 pictures, 4 trials of 2 epochs, 2 seeds"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--data", default="digits", help="as of autokd search; npz:FILE")
    parser.add_argument("--train-limit", type=int, help="pictures for training and validation")
    parser.add_argument("--space", default="resnet")
    parser.add_argument("--budget", type=int, default=40, help="trials of each search")
    parser.add_argument("--epochs", type=int, help="of a trial [default: from the data]")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sampler", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runs", type=Path, help="keeps the studies there [default: nowhere]")
    arguments, out = parser.parse_args(), reserve_stdout()
    if arguments.quick:
        arguments.train_limit, arguments.budget, arguments.epochs = 400, 4, 2
        arguments.seeds = 2
    options = {
        name: getattr(arguments, name)
        for name in (
            "data",
            "train_limit",
            "space",
            "budget",
            "epochs",
            "seeds",
            "seed",
            "sampler",
            "device",
        )
    }
    with tempfile.TemporaryDirectory() as scratch:
        runs = arguments.runs or Path(scratch)
        figures = compare(options, runs=runs, form=FINAL)
    told = {**figures, **options, **describe_machine()}
    print_figures(told, as_json=arguments.json, out=out)


if __name__ == "__main__":
    main()
