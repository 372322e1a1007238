"""`autokd distill-clip`."""

import contextlib
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import click

from autokd.cli.options import config_options, tidy
from autokd.cli.root import AS_JSON, cli
from autokd.config import TowerConfig, build_tower_config

__all__ = ["distill_clip_command"]

_COLUMNS = ("recall %", "text %", "image %", "0-shot %", "params", "image ms", "text ms")


@cli.command("distill-clip")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@config_options(model=TowerConfig)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("towers"),
    show_default=True,
    help="Folder to write.",
)
@AS_JSON
def distill_clip_command(file: Path | None, *, out: Path, as_json: bool, **flags: object) -> None:
    """Train a light dual tower under CLIP, beside its twin without it; measure and export both.

    FILE is a YAML file of the same options; flags win. The same command goes on.
    """
    config = build_tower_config(file, flags=tidy(flags))
    from autokd.study import distill_clip
    from autokd.study.progress import SearchProgress

    with contextlib.redirect_stdout(sys.stderr):  # whatever libraries and the user's code print
        done = distill_clip(config, out=out, progress=SearchProgress())
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(done), default=str))
        return
    _print_table(done)
    for path in done.files:
        click.echo(path)


def _print_table(done: Any) -> None:  # noqa: ANN401 - imported late
    """Student, twin and teacher."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    n = done.student.recall.n
    table = Table(
        title=f"Towers of {done.study}",
        caption=f"recall at 1 among {done.n_pictures[2]} test pictures, mean over {n} seeds:\n"
        "both directions, ± half of a 95 % interval, the right text, the right image; batch 1",
        box=box.SIMPLE_HEAD,
        title_style="bold",
        caption_style="dim",
    )
    table.add_column("")
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for row in (done.student, done.twin, done.teacher):
        if row is not None:
            table.add_row(row.name, *_cells(row))
    Console(highlight=False).print(table)
    if done.gain is not None:
        between = "" if done.gain.ci95 is None else f" ± {100 * done.gain.ci95:.1f}"
        click.echo(f"gain by the teacher: {100 * done.gain.mean:+.1f}{between} points of recall")


def _cells(row: Any) -> tuple[str, ...]:  # noqa: ANN401 - imported late
    from autokd.reports import short_count

    ci95 = "" if row.recall.ci95 is None else f" ± {100 * row.recall.ci95:.1f}"
    return (
        f"{100 * row.recall.mean:.1f}{ci95}",
        f"{100 * row.text_at_1:.1f}",
        f"{100 * row.image_at_1:.1f}",
        "" if row.zero_shot is None else f"{100 * row.zero_shot:.1f}",
        short_count(row.n_params),
        *("" if ms is None else f"{ms:.4g}" for ms in (row.image_ms, row.text_ms)),
    )
