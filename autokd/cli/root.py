"""What all commands share: the root, options of several, how a front is printed."""

import json
import logging
from pathlib import Path
from typing import Any

import click

__all__ = [
    "AS_JSON",
    "OUT",
    "REGISTER",
    "RUNS_DIR",
    "STUDY",
    "TARGET",
    "bundle_as_dict",
    "cli",
    "print_bundle",
    "print_front",
]

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
RUNS_DIR = click.option(
    "--runs-dir",
    type=click.Path(path_type=Path),
    default=Path("mlruns"),
    show_default=True,
    help="Where studies, runs and artefacts lie.",
)
STUDY = click.option("--study", help="Name of the study [default: the last one worked on].")
TARGET = click.option("--target", default="", help="One of the study's [default: its first].")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")

OUT = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("student"),
    show_default=True,
    help="Folder to write.",
)
REGISTER = click.option(
    "--register/--no-register",
    "is_registered",
    default=True,
    show_default=True,
    help="Log it to MLflow and register it under the study's name.",
)


@click.group(context_settings=_HELP)
@click.version_option(package_name="autokd")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def cli() -> None:
    """Search, distil and measure: the Pareto-best students of a trained network."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")


def print_front(front: Any, *, as_json: bool) -> None:  # noqa: ANN401 - imported late
    """The table of a study's students and what they cost, or its JSON."""
    from rich.console import Console

    from autokd.types import front_as_dict

    if as_json:
        click.echo(json.dumps(front_as_dict(front)))
        return
    from autokd.reports import front_table

    console = Console(highlight=False)
    console.print(front_table(front))
    wall, share = front.wall_s, 1 - front.training_s / max(front.wall_s, 1e-9)
    console.print(
        f"{front.n_trials} trials ({front.n_failed} failed, {front.n_pruned} pruned, "
        f"{front.n_stopped} stopped early) in {wall:.0f} s, {share:.0%} of it not training; "
        f"hypervolume {front.hypervolume:.3f}"
    )


def bundle_as_dict(bundle: Any) -> dict[str, Any]:  # noqa: ANN401 - imported late
    """What was exported and found, as `--json` prints it."""
    figures: dict[str, Any] = {
        "files": [str(path) for path in bundle.files],
        "test_accuracy": bundle.test_accuracy,
        "onnx_test_accuracy": bundle.onnx_test_accuracy,
        "top1_agreement": bundle.top1_agreement,
        "latency_ms": bundle.latency_ms,
    }
    if bundle.int8_test_accuracy is not None:
        figures["int8_test_accuracy"] = bundle.int8_test_accuracy
        figures["fp32_latency_ms"] = bundle.fp32_latency_ms
    return figures


def print_bundle(bundle: Any) -> None:  # noqa: ANN401 - imported late
    """The files of an exported student, and what was found when they were checked."""
    for path in bundle.files:
        click.echo(path)
    int8 = ""
    if bundle.int8_test_accuracy is not None:
        int8 = (
            f"; in INT8 {bundle.int8_test_accuracy:.2%}, FP32 takes {bundle.fp32_latency_ms:.4f} ms"
        )
    click.echo(
        f"test accuracy {bundle.test_accuracy:.2%} in torch, {bundle.onnx_test_accuracy:.2%} in "
        f"onnxruntime, top-1 agreement {bundle.top1_agreement:.2%}, {bundle.latency_ms:.4f} ms"
        f"{int8}"
    )
