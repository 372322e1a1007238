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
    rows = [row for row in (done.student, done.twin, done.teacher) if row is not None]
    columns = [_tell(row) for row in rows]
    table.add_column("", no_wrap=True)
    shown = [name for name in columns[0] if any(column[name] for column in columns)]
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    for row, column in zip(rows, columns, strict=True):
        table.add_row(row.name, *(column[name] for name in shown))
    Console(highlight=False).print(table)
    if done.gain is not None:
        between = "" if done.gain.ci95 is None else f" ± {100 * done.gain.ci95:.1f}"
        click.echo(f"gain by the teacher: {100 * done.gain.mean:+.1f}{between} points of recall")


def _tell(row: Any) -> dict[str, str]:  # noqa: ANN401 - imported late
    """What stands in a row, by column; nothing where nothing is known."""
    from autokd.reports import short_count

    ci95 = "" if row.recall.ci95 is None else f" ± {100 * row.recall.ci95:.1f}"
    return {
        "recall %": f"{100 * row.recall.mean:.1f}{ci95}",
        "text %": f"{100 * row.text_at_1:.1f}",
        "image %": f"{100 * row.image_at_1:.1f}",
        "0-shot %": "" if row.zero_shot is None else f"{100 * row.zero_shot:.1f}",
        "params": short_count(row.n_params),
        "image ms": "" if row.image_ms is None else f"{row.image_ms:.4g}",
        "text ms": "" if row.text_ms is None else f"{row.text_ms:.4g}",
    }
