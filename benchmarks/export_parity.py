"""Whether what is exported does what the table said: every bundled space, both precisions.

Random students of each space, trained for some epochs so that their predictions are no coin tosses,
are exported as `autokd export` does it. FP32: share of the test pictures on which onnxruntime says
what torch says. INT8: the accuracy that the quantization has told, and that of the exported file,
scored anew in the runtime, on validation and on test.

Students of hub:AutoFormer look at 224 pixels whatever the data has, more than a billion
multiply-accumulates a picture: they are trained for one epoch on 192 pictures, and scored on 64 of
validation and 100 of test.
"""

import argparse
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from matched import describe_machine
from output import print_figures, reserve_stdout
from rich.console import Console
from rich.table import Table

from autokd.candidate import build_student, quantize_student, score_file, train_student
from autokd.config import build_config
from autokd.data import SearchData, TestData, load_data, load_test
from autokd.distillation import Plan
from autokd.errors import BuildError, DivergedError, ExportError, MeasureError, SpaceError
from autokd.exporters import QuantizedFile, export_bundle
from autokd.latency import StopwatchTarget
from autokd.spaces import Space, build_space
from autokd.types import Recipe

SPACES = (
    "mobile",
    "resnet",
    "vit",
    "hub:MobileNetV3Space",
    "hub:ProxylessNAS",
    "hub:ShuffleNetSpace",
    "hub:NasBench201",
    "hub:DARTS",
    "hub:AutoFormer",
)
BATCH = 64
SLOW = ("hub:AutoFormer",)
FEW = {"train": 192, "val": 64, "test": 100}  # pictures for those
PLAIN = Recipe(alpha=0.0, alpha_end=0.0)


@dataclass(frozen=True, kw_only=True)
class Parity:
    """What was found of one student.

    Attributes:
        seed: Of its sample.
        top1_agreement: Of `model.onnx` with torch, on test.
        int8_told: Accuracy on validation that the quantization has told.
        int8_found: Of the exported file, scored anew.
        int8_test_told: Accuracy on test of the file before it was exported.
        int8_test_found: Of the exported one.
        drop: Accuracy on validation that INT8 costs against FP32.
        n_float: Layers left in FP32.
        speed_up: FP32's latency over INT8's.
    """

    seed: int
    top1_agreement: float
    int8_told: float
    int8_found: float
    int8_test_told: float
    int8_test_found: float
    drop: float
    n_float: int
    speed_up: float

    @property
    def is_equal(self) -> bool:
        """Whether the INT8 file is as accurate as it was told."""
        return self.int8_told == self.int8_found and self.int8_test_told == self.int8_test_found


def shrink(data: SearchData, test: TestData) -> tuple[SearchData, TestData]:
    """A few pictures of each split, drawn."""

    def draw(split: str, n: int) -> torch.Tensor:
        return torch.randperm(n, generator=torch.Generator().manual_seed(0))[: FEW[split]]

    train, val = draw("train", len(data.train_labels)), draw("val", len(data.val_labels))
    tested = draw("test", len(test.labels))
    few = replace(
        data,
        train_images=data.train_images[train],
        train_labels=data.train_labels[train],
        val_images=data.val_images[val],
        val_labels=data.val_labels[val],
    )
    return few, replace(test, images=test.images[tested], labels=test.labels[tested])


def check(
    space: Space, *, seed: int, data: SearchData, test: TestData, epochs: int, out: Path
) -> Parity:
    """Trains, quantizes, exports and scores one random student."""
    student, _ = build_student(space, space.random(seed), data=data.card, seed=seed)
    plan = Plan(epochs=epochs, batch_size=BATCH, seed=seed, device=torch.device("cpu"))
    if space.name in SLOW:
        plan = replace(plan, epochs=1, batch_size=BATCH // 4)
    train_student(student, PLAIN, data=data, teacher=None, plan=plan)
    quantized = quantize_student(student, out / "own.int8.onnx", data=data, seed=seed)
    told = score_file(quantized.path, test.images, test.labels)
    bundle = export_bundle(
        student,
        out / "exported",
        data=data.card,
        test=test,
        target=StopwatchTarget(),
        card={"study": "parity", "trial": seed},
        int8=QuantizedFile(path=quantized.path, test_accuracy=told),
    )
    file = out / "exported" / "model.int8.onnx"
    return Parity(
        seed=seed,
        top1_agreement=bundle.top1_agreement,
        int8_told=quantized.val_accuracy,
        int8_found=score_file(file, data.val_images, data.val_labels),
        int8_test_told=told,
        int8_test_found=bundle.int8_test_accuracy or 0.0,
        drop=quantized.fp32_val_accuracy - quantized.val_accuracy,
        n_float=len(quantized.float_layers),
        speed_up=(bundle.fp32_latency_ms or 0.0) / bundle.latency_ms,
    )


def check_space(
    name: str, *, arguments: argparse.Namespace, whole: tuple[SearchData, TestData]
) -> tuple[dict[str, Any], list[Parity]]:
    """The figures of one space, and its students."""
    console = Console(stderr=True, highlight=False)
    data, test = shrink(*whole) if name in SLOW else whole
    rows: list[Parity] = []
    failures: list[str] = []
    try:
        space = build_space(
            name, recipe="default", input_shape=data.card.shape, n_classes=data.card.n_classes
        )
    except SpaceError as error:
        console.print(f"{name}: {error}")
        return summarise([], [str(error)], n_test=len(test.labels)), []
    for seed in range(1, arguments.students + 1):
        try:
            with tempfile.TemporaryDirectory() as out:
                row = check(space, seed=seed, data=data, test=test, epochs=arguments.epochs,
                            out=Path(out))  # fmt: skip
        except (BuildError, DivergedError, ExportError, MeasureError) as error:
            failures.append(str(error))
            console.print(f"{name} {seed}: {error}")
            continue
        rows.append(row)
        console.print(
            f"{name} {seed}: agreement {row.top1_agreement:.2%}, INT8 {row.int8_found:.2%} "
            f"({'as told' if row.is_equal else 'NOT as told'}), {row.speed_up:.2f}x"
        )
    return summarise(rows, failures, n_test=len(test.labels)), rows


def summarise(rows: list[Parity], failures: list[str], *, n_test: int) -> dict[str, Any]:
    """The figures of one space."""
    if not rows:
        return {"n": 0, "failures": failures}
    return {
        "n": len(rows),
        "n_test": n_test,
        "least_agreement": min(row.top1_agreement for row in rows),
        "n_int8_equal": sum(row.is_equal for row in rows),
        "mean_drop": sum(row.drop for row in rows) / len(rows),
        "largest_drop": max(row.drop for row in rows),
        "mean_float_layers": sum(row.n_float for row in rows) / len(rows),
        "n_faster_in_int8": sum(row.speed_up > 1 for row in rows),
        "failures": failures,
    }


def print_table(figures: dict[str, dict[str, Any]]) -> None:
    """One row a space, on standard error."""
    table = Table("space", "students", "least agreement", "INT8 equal", "drop, points", "faster")
    for name, row in figures.items():
        if row["n"]:
            table.add_row(
                name,
                str(row["n"]),
                f"{row['least_agreement']:.2%}",
                f"{row['n_int8_equal']}/{row['n']}",
                f"{100 * row['mean_drop']:.2f}, at most {100 * row['largest_drop']:.2f}",
                f"{row['n_faster_in_int8']}/{row['n']}",
            )
    Console(stderr=True, highlight=False).print(table)


def main() -> None:
    """Reads the arguments, exports, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="600 pictures, 2 students, 3 spaces")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--data", default="digits", help="as of autokd search")
    parser.add_argument("--train-limit", type=int, help="pictures for training and validation")
    parser.add_argument("--spaces", nargs="+", default=list(SPACES))
    parser.add_argument("--students", type=int, default=10, help="of each space")
    parser.add_argument("--epochs", type=int, default=5, help="1 for hub:AutoFormer [default: 5]")
    arguments, out = parser.parse_args(), reserve_stdout()
    if arguments.quick:
        arguments.train_limit, arguments.students = 600, 2
        arguments.spaces = arguments.spaces[:3]
    config = build_config(flags={"data": arguments.data, "train_limit": arguments.train_limit})
    whole = load_data(config), load_test(config)
    figures: dict[str, dict[str, Any]] = {}
    students: dict[str, list[dict[str, Any]]] = {}
    for name in arguments.spaces:
        figures[name], rows = check_space(name, arguments=arguments, whole=whole)
        students[name] = [asdict(row) for row in rows]
    print_table(figures)
    print_figures(
        {
            "spaces": figures,
            "students": students,
            "data": arguments.data,
            **describe_machine(),
        },
        as_json=arguments.json,
        out=out,
    )


if __name__ == "__main__":
    main()
