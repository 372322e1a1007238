"""`autokd export` and `autokd ui`."""

import json
from pathlib import Path
from typing import Any

import click

from autokd.cli.root import AS_JSON, RUNS_DIR, STUDY, cli

__all__ = ["export_command", "ui_command"]


@cli.command("export")
@STUDY
@click.option("--pick", help="knee, fastest, most-accurate or a trial [default: knee].")
@click.option(
    "--max-latency-ms",
    type=click.FloatRange(min=0, min_open=True),
    help="The most accurate student under it.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("student"),
    show_default=True,
    help="Folder to write.",
)
@click.option(
    "--register/--no-register",
    "is_registered",
    default=True,
    show_default=True,
    help="Log it to MLflow and register it under the study's name.",
)
@RUNS_DIR
@AS_JSON
def export_command(*, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - click's values
    """Write one student as ONNX, torch.export and safetensors, with a card, and check it."""
    from autokd.study import export
    from autokd.study.progress import SearchProgress

    bundle = export(**options, progress=SearchProgress())
    figures = {
        "files": [str(path) for path in bundle.files],
        "test_accuracy": bundle.test_accuracy,
        "onnx_test_accuracy": bundle.onnx_test_accuracy,
        "top1_agreement": bundle.top1_agreement,
        "latency_ms": bundle.latency_ms,
    }
    int8 = ""
    if bundle.int8_test_accuracy is not None and bundle.fp32_latency_ms is not None:
        figures["int8_test_accuracy"] = bundle.int8_test_accuracy
        figures["fp32_latency_ms"] = bundle.fp32_latency_ms
        int8 = (
            f"; in INT8 {bundle.int8_test_accuracy:.2%}, FP32 takes {bundle.fp32_latency_ms:.4f} ms"
        )
    if as_json:
        click.echo(json.dumps(figures))
        return
    for path in bundle.files:
        click.echo(path)
    click.echo(
        f"test accuracy {bundle.test_accuracy:.2%} in torch, {bundle.onnx_test_accuracy:.2%} in "
        f"onnxruntime, top-1 agreement {bundle.top1_agreement:.2%}, {bundle.latency_ms:.4f} ms"
        f"{int8}"
    )


@cli.command("ui")
@STUDY
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option("--browser/--no-browser", "is_opened", default=True, help="Open a browser.")
@RUNS_DIR
def ui_command(study: str | None, *, port: int, is_opened: bool, runs_dir: Path) -> None:
    """Serve the MLflow UI of a study on this machine only."""
    from autokd.study import find_study
    from autokd.trackers import serve_ui

    config = find_study(study, runs_dir=runs_dir).load_config()
    config = config.model_copy(update={"runs_dir": runs_dir})

    def show(url: str) -> None:
        click.echo(f"{url}\nCtrl-C stops it.")

    serve_ui(config, port=port, is_opened=is_opened, on_ready=show)
