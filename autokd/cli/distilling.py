"""`autokd distill`."""

import contextlib
import json
import sys
from pathlib import Path

import click

from autokd.cli.options import config_options, tidy
from autokd.cli.root import AS_JSON, OUT, REGISTER, bundle_as_dict, cli, print_bundle, print_front
from autokd.config import STRANGE, build_config

__all__ = ["distill_command"]


@cli.command("distill")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@config_options(without=STRANGE["distill"])
@OUT
@REGISTER
@AS_JSON
def distill_command(
    file: Path | None, *, out: Path, is_registered: bool, as_json: bool, **flags: object
) -> None:
    """Train one student without a search, measure and export it; the same command goes on.

    FILE is a YAML file of the same options; flags win. --seeds is 1 here, 3 with --baseline,
    unless it is given.
    """
    config = build_config(file, flags=tidy(flags), command="distill")
    from autokd.study import distill
    from autokd.study.progress import SearchProgress
    from autokd.types import front_as_dict

    with contextlib.redirect_stdout(sys.stderr):  # whatever libraries and the user's code print
        done = distill(config, out=out, is_registered=is_registered, progress=SearchProgress())
    if as_json:
        front = front_as_dict(done.front)
        told = {key: front[key] for key in ("study", "wall_s", "training_s", "teacher", "baseline")}
        bundle = bundle_as_dict(done.bundle)
        click.echo(json.dumps({**told, "student": front["front"][0], "export": bundle}))
        return
    print_front(done.front, as_json=False)
    print_bundle(done.bundle)
