"""`autokd explain`."""

import contextlib
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import click

from autokd.cli.root import AS_JSON, RUNS_DIR, STUDY, TARGET, cli
from autokd.errors import ConfigError

__all__ = ["explain_command"]


@cli.command("explain")
@click.argument("name", metavar="[STUDY]", required=False)
@STUDY
@click.option("--trial", type=click.IntRange(min=0), help="Any trial that was trained to its end.")
@click.option(
    "--pick",
    type=click.Choice(["knee", "fastest", "most-accurate"]),
    help="Of the front, in place of a trial [default: knee].",
)
@TARGET
@click.option(
    "--pictures",
    type=click.IntRange(2, 60),
    default=12,
    show_default=True,
    help="Pictures on the sheet; similarities are averaged over 256 of the validation split.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the sheet [default: the study's own].",
)
@RUNS_DIR
@AS_JSON
def explain_command(
    name: str | None,
    *,
    study: str | None,
    as_json: bool,
    **options: Any,  # noqa: ANN401 - click's values
) -> None:
    """Draw where a student and its teacher look (Grad-CAM), and say how alike that is."""
    if name is not None and study is not None and name != study:
        raise ConfigError(f"`--study` must be named once, got {name} and {study}; leave one out")
    from autokd.study import explain
    from autokd.study.progress import SearchProgress

    with contextlib.redirect_stdout(sys.stderr):  # the user's own code may print
        found = explain(name or study, **options, progress=SearchProgress())
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found), default=str))
        return
    for title, one in (
        ("all", found.similarity),
        ("both agree", found.agreeing),
        ("they disagree", found.disagreeing),
        ("maps of different pictures", found.shuffled),
    ):
        if one is not None:
            between = "" if one.ci95 is None else "  [{:+.3f}, {:+.3f}]".format(*one.ci95)
            click.echo(f"{title:<28} r = {one.mean:+.3f}{between}  n = {one.n}")
    click.echo(
        f"trial {found.trial} and {found.teacher} choose the same class on {found.agreement:.1%} "
        f"of {found.n_pictures} validation pictures; {found.n_blank} maps are blank"
    )
    if found.is_int8:
        click.echo("what it says is what its INT8 file says; the maps are those of its FP32 self")
    for file in found.files:
        click.echo(file)
