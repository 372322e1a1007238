"""What 8 bits cost: static quantization beside quantization-aware training and distillation.

Three students are trained in FP32 by a teacher, three times each, and made INT8 in three ways:
statically (onnxruntime's own, per channel, calibrated on training pictures), by training on with
rounded numbers and the labels alone (`qat`), and by quantization-aware distillation (`qat_kd`:
teacher, labels and the float student itself). Both trainings take the same further steps, and so
does `fp32_longer`, the float student trained on by the same recipe. Every accuracy is that of the
file in onnxruntime on the test split.
"""

import argparse
import copy
import dataclasses
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime
from matched import Bench, describe_machine, open_bench
from output import print_figures, reserve_stdout
from rich.console import Console
from rich.table import Table
from torch import nn

from autokd.candidate import (
    QuantizationSettings,
    build_student,
    choose_calibration,
    train_quantized_student,
    train_student,
)
from autokd.distillation import OnEpoch, Plan
from autokd.exporters import OnnxNetwork, export_onnx, quantize_onnx, safe_weight_bits
from autokd.latency import StopwatchTarget
from autokd.spaces import build_space
from autokd.study.crew import Job
from autokd.study.finalists import estimate
from autokd.types import Recipe, Scalar

BASE = Recipe(alpha=0.9, alpha_end=0.9, temperature=4.0, augmentation="crop")
STUDENTS: Mapping[str, tuple[str, Mapping[str, Scalar]]] = {
    "resnet": ("resnet", {}),
    "mobilenet_v2": ("mobile", {}),
    "mobilenet_v3": ("mobile", {"squeeze_excite": True, "activation": "hardswish"}),
}
KINDS = ("fp32", "fp32_longer", "static", "qat", "qat_kd")
ROUNDED = ("static", "qat", "qat_kd")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """Test accuracies and latencies of one student with one seed."""

    student: str
    seed: int
    accuracy: Mapping[str, float]
    latency_ms: Mapping[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trainer:
    """What all trainings share."""

    bench: Bench
    epochs: int
    extra_epochs: int
    settings: QuantizationSettings
    has_latency: bool

    def run(self, name: str, seed: int, on_epoch: OnEpoch) -> Outcome:
        """Trains a student, makes it INT8 in three ways and asks the runtime about each file."""
        bench, (space_name, choices) = self.bench, STUDENTS[name]
        card, data = bench.data.card, bench.data
        space = build_space(
            space_name, recipe="default", input_shape=card.shape, n_classes=card.n_classes
        )
        sample = space.complete(dict(choices))
        student, _ = build_student(space, sample, data=card, seed=seed)
        teacher = bench.faculty.teachers["teacher"]
        plan = Plan(epochs=self.epochs, batch_size=bench.batch_size, seed=seed, device=bench.device)
        train_student(student, BASE, data=data, teacher=teacher, plan=plan, on_epoch=on_epoch)
        extra = dataclasses.replace(plan, epochs=self.extra_epochs, seed=seed + 100)
        plain = dataclasses.replace(BASE, alpha=0.0, alpha_end=0.0)
        alone = dataclasses.replace(self.settings, self_weight=0.0)
        with tempfile.TemporaryDirectory() as scratch:
            files = {kind: Path(scratch) / f"{kind}.onnx" for kind in KINDS}
            export_onnx(student, files["fp32"], shape=card.shape)
            pictures = choose_calibration(data, seed=seed)
            quantize_onnx(files["fp32"], files["static"], pictures=pictures)
            for kind, recipe, settings in (
                ("qat", plain, alone),
                ("qat_kd", BASE, self.settings),
            ):
                train_quantized_student(
                    student,
                    recipe,
                    data=data,
                    teacher=teacher,
                    plan=extra,
                    model=files[kind],
                    settings=settings,
                    on_epoch=on_epoch,
                )
            self._train_longer(student, files["fp32_longer"], plan=extra, on_epoch=on_epoch)
            return Outcome(
                student=name,
                seed=seed,
                accuracy={kind: self._score(file) for kind, file in files.items()},
                latency_ms=self._measure(files) if self.has_latency and seed == 0 else {},
            )

    def _train_longer(
        self, student: nn.Module, file: Path, *, plan: Plan, on_epoch: OnEpoch
    ) -> None:
        """The float student, trained on as the rounded one is."""
        longer = copy.deepcopy(student)
        rate = BASE.learning_rate * self.settings.learning_rate_ratio
        train_student(
            longer,
            dataclasses.replace(BASE, learning_rate=rate),
            data=self.bench.data,
            teacher=self.bench.faculty.teachers["teacher"],
            plan=plan,
            on_epoch=on_epoch,
        )
        export_onnx(longer, file, shape=self.bench.data.card.shape)

    def _score(self, file: Path) -> float:
        test = self.bench.test
        right = OnnxNetwork(file, threads=1).predict(test.images).argmax(1) == test.labels
        return float(right.float().mean())

    def _measure(self, files: Mapping[str, Path]) -> dict[str, float]:
        """Milliseconds of one picture on one thread, by turns."""
        kinds = ("fp32", "static", "qat_kd")
        latencies = StopwatchTarget().measure_together([files[kind] for kind in kinds])
        return {kind: one.median_ms for kind, one in zip(kinds, latencies, strict=True)}


def run_all(trainer: Trainer, *, students: Sequence[str], seeds: int) -> list[Outcome]:
    """Every student with every seed, as many at once as there are cores."""
    crew, start = trainer.bench.crew, time.monotonic()
    waiting = [(name, seed) for seed in range(seeds) for name in students][::-1]
    n_jobs, outcomes = len(waiting), list[Outcome]()
    console = Console(stderr=True, highlight=False)
    while waiting or crew.running:
        while waiting and len(crew.running) < crew.size:
            name, seed = waiting.pop()
            epochs = trainer.epochs + 3 * trainer.extra_epochs
            work = partial(trainer.run, name, seed)
            crew.start(Job(key=name, title=f"{name}, seed {seed}", epochs=epochs, work=work))
        done = crew.wait(lambda _job, _row: None)
        if done is None or done.fault:
            sys.exit("the crew gave up" if done is None else f"{done.job.title}: {done.fault}")
        outcomes.append(done.result)
        row = "   ".join(f"{kind} {done.result.accuracy[kind]:.2%}" for kind in KINDS)
        left = (time.monotonic() - start) / len(outcomes) * (n_jobs - len(outcomes)) / 60
        console.print(f"{done.job.title}: {row}   {len(outcomes)}/{n_jobs}, {left:.0f} min left")
    return sorted(outcomes, key=lambda one: one.seed)


def summarise(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """By student: mean and interval of each kind, what it loses against FP32, its latency."""
    figures: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(one.student for one in outcomes):
        rows = [one for one in outcomes if one.student == name]
        figure: dict[str, Any] = {}
        for kind in KINDS:
            found = estimate([row.accuracy[kind] for row in rows])
            lost = estimate([row.accuracy["fp32"] - row.accuracy[kind] for row in rows])
            figure[kind] = {
                "mean": found.mean,
                "ci95": found.ci95,
                "loss": lost.mean,
                "loss_ci95": lost.ci95,
                "n": found.n,
            }
        static, best = figure["static"]["loss"], figure["qat_kd"]["loss"]
        figure["is_met"] = best <= 0.003 or best <= static / 3
        figure["latency_ms"] = rows[0].latency_ms
        figures[name] = figure
    return figures


def print_table(figures: Mapping[str, Mapping[str, Any]]) -> None:
    """The table, on standard error."""
    table = Table("", *KINDS, "goal", "ms fp32 / static / qat_kd")
    for name, row in figures.items():
        cells = [
            f"{row[kind]['mean']:.2%} ± {(row[kind]['ci95'] or 0) * 100:.2f}"
            + (f"\n{-row[kind]['loss'] * 100:+.2f}" if kind != "fp32" else "")
            for kind in KINDS
        ]
        times = " / ".join(f"{value:.3f}" for value in row["latency_ms"].values())
        table.add_row(name, *cells, "met" if row["is_met"] else "missed", times)
    Console(stderr=True, highlight=False, width=140).print(table)


def parse_arguments() -> argparse.Namespace:
    """What the user wants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "data", nargs="?", default="digits", help="an .npz file, or as of autokd search"
    )
    parser.add_argument(
        "--quick", action="store_true", help="600 pictures, 4 epochs and 2 more, 2 seeds"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--train-limit", type=int, help="pictures for training and validation")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--extra-epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--students", default=",".join(STUDENTS), help="separated by commas")
    parser.add_argument("--learning-rate-ratio", type=float, default=0.1)
    parser.add_argument("--self-weight", type=float, default=1.0)
    parser.add_argument("--weight-bits", type=int, choices=[7, 8], help="what is safe here if none")
    parser.add_argument("--no-latency", action="store_true")
    arguments = parser.parse_args()
    if Path(arguments.data).suffix == ".npz" and ":" not in arguments.data:
        arguments.data = f"npz:{arguments.data}"
    if arguments.quick:
        arguments.train_limit, arguments.epochs, arguments.extra_epochs = 600, 4, 2
        arguments.seeds, arguments.batch_size = 2, 32
    return arguments


def main() -> None:
    """Reads the arguments, trains, prints."""
    arguments, out = parse_arguments(), reserve_stdout()
    onnxruntime.set_default_logger_severity(3)
    bench = open_bench(
        "mobile",
        device=arguments.device,
        batch_size=arguments.batch_size,
        data=arguments.data,
        train_limit=arguments.train_limit,
        assistant="none",
    )
    settings = QuantizationSettings(
        learning_rate_ratio=arguments.learning_rate_ratio,
        self_weight=arguments.self_weight,
        weight_bits=arguments.weight_bits,
    )
    trainer = Trainer(
        bench=bench,
        epochs=arguments.epochs,
        extra_epochs=arguments.extra_epochs,
        settings=settings,
        has_latency=not arguments.no_latency,
    )
    outcomes = run_all(trainer, students=arguments.students.split(","), seeds=arguments.seeds)
    figures = summarise(outcomes)
    print_table(figures)
    print_figures(
        {
            **describe_machine(arguments.device),
            "data": arguments.data,
            "n_train": len(bench.data.train_images),
            "epochs": arguments.epochs,
            "extra_epochs": arguments.extra_epochs,
            "weight_bits": arguments.weight_bits or safe_weight_bits(),
            "teacher_val_accuracy": bench.faculty.card.val_accuracy,
            "students": figures,
        },
        as_json=arguments.json,
        out=out,
    )


if __name__ == "__main__":
    main()
