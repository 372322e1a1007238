"""`autokd search`, `autokd worker` and `autokd front`."""

import contextlib
import sys
from pathlib import Path

import click

from autokd.cli.options import config_options, tidy
from autokd.cli.root import AS_JSON, RUNS_DIR, STUDY, TARGET, cli, print_front
from autokd.config import STRANGE, build_config

__all__ = ["search_command"]


@cli.command("search")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@config_options(without=STRANGE["search"])
@AS_JSON
def search_command(file: Path | None, *, as_json: bool, **flags: object) -> None:
    """Search the Pareto-best students; the same --study goes on where it stopped.

    FILE is a YAML file of the same options; flags win.
    """
    config = build_config(file, flags=tidy(flags))
    from autokd.study import search
    from autokd.study.progress import SearchProgress

    with contextlib.redirect_stdout(sys.stderr):  # whatever libraries and the user's code print
        front = search(config, progress=SearchProgress())
    print_front(front, as_json=as_json)


@cli.command("worker")
@click.option("--study", required=True, help="Name of the study.")
@click.option("--storage", required=True, help="URL of the database that the search uses.")
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    help="Students trained side by side [default: the number of cores; 1 on a GPU].",
)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=600,
    show_default=True,
    help="Seconds to wait for the study to be opened.",
)
@click.option("--data", help="Where the pictures of the study lie on this machine.")
@click.option("--data-root", help="Where torchvision sets lie on this machine.")
@click.option("--unlabelled", help="Where its pictures without labels lie on this machine.")
@click.option("--teacher", multiple=True, help="The study's teacher as it is called here.")
@click.option(
    "--teacher-weights",
    "--teacher-weight",
    "teacher_weights",
    multiple=True,
    help="Its weights on this machine.",
)
@click.option("--device", help="auto | cpu | cuda: where students train here.")
def worker_command(
    study: str, *, storage: str, workers: int | None, wait_s: float, **places: object
) -> None:
    """Train for a search that runs elsewhere with --remote, until it is over."""
    from autokd.study import work
    from autokd.study.progress import SearchProgress

    n_done = work(
        study,
        storage=storage,
        workers=workers,
        wait_s=wait_s,
        places=places,
        say=SearchProgress().say,
    )
    click.echo(f"study {study} is over; {n_done} trainings were done here", err=True)


@cli.command("front")
@STUDY
@click.option(
    "--figures",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to draw the front, learning curves, dimensions and their importance in.",
)
@TARGET
@RUNS_DIR
@AS_JSON
def front_command(
    study: str | None, *, figures: Path | None, target: str, runs_dir: Path, as_json: bool
) -> None:
    """Show the Pareto-best students of a study."""
    from autokd.study import draw_study, load_front

    print_front(load_front(study, runs_dir=runs_dir, target=target), as_json=as_json)
    if figures is not None:
        for file in draw_study(study, folder=figures, runs_dir=runs_dir, target=target):
            click.echo(file, err=True)
