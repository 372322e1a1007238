"""`autokd export` and `autokd ui`."""

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import click

from autokd.cli.root import (
    AS_JSON,
    REGISTER,
    RUNS_DIR,
    STUDY,
    TARGET,
    bundle_as_dict,
    cli,
    print_bundle,
)
from autokd.errors import ConfigError

__all__ = ["export_command", "ui_command"]


@cli.command("export")
@STUDY
@click.option("--pick", help="knee, fastest, most-accurate or a trial [default: knee].")
@click.option(
    "--max-latency-ms",
    type=click.FloatRange(min=0, min_open=True),
    help="The most accurate student under it.",
)
@TARGET
@click.option("--all", "is_whole", is_flag=True, help="Every student, a folder for each.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write [default: student; students with --all].",
)
@REGISTER
@RUNS_DIR
@AS_JSON
def export_command(
    *,
    as_json: bool,
    is_whole: bool,
    out: Path | None,
    pick: str | None,
    **options: Any,  # noqa: ANN401 - click's values
) -> None:
    """Write students as ONNX, torch.export, safetensors and a program, and check them."""
    from autokd.study import export, export_all
    from autokd.study.progress import SearchProgress

    progress = SearchProgress()
    quiet = contextlib.redirect_stdout(sys.stderr)  # the user's own code may print
    if is_whole and pick is not None:
        raise ConfigError(f"`--pick` must not stand beside `--all`, got {pick}; leave one out")
    if out is not None:
        options["out"] = out
    if is_whole:
        with quiet:
            bundles = export_all(**options, progress=progress)
        if as_json:
            click.echo(json.dumps({"students": [bundle_as_dict(one) for one in bundles]}))
            return
    else:
        with quiet:
            bundles = [export(**options, pick=pick, progress=progress)]
        if as_json:
            click.echo(json.dumps(bundle_as_dict(bundles[0])))
            return
    for bundle in bundles:
        print_bundle(bundle)


@cli.command("ui")
@STUDY
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option("--browser/--no-browser", "is_opened", default=True, help="Open a browser.")
@RUNS_DIR
def ui_command(study: str | None, *, port: int, is_opened: bool, runs_dir: Path) -> None:
    """Serve the MLflow UI of a study on this machine only."""
    from autokd.study import find_tracked
    from autokd.trackers import serve_ui

    config = find_tracked(study, runs_dir=runs_dir)

    def show(url: str) -> None:
        click.echo(f"{url}\nCtrl-C stops it.")

    serve_ui(config, port=port, is_opened=is_opened, on_ready=show)
