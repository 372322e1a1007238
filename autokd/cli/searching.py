"""`autokd search`, `autokd worker` and `autokd front`."""

import contextlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from autokd.cli.root import AS_JSON, RUNS_DIR, STUDY, cli, print_front
from autokd.config import Config, build_config
from autokd.errors import ConfigError

__all__ = ["search_command"]


def _search_options(command: Callable[..., None]) -> Callable[..., None]:
    """One option for each field of the configuration."""
    for name, field in reversed(Config.model_fields.items()):
        flag = f"--{name.replace('_', '-').removesuffix('-s')}"
        default = field.get_default(call_default_factory=True)
        text = field.description or ""
        if isinstance(default, tuple):
            default = ", ".join(default)
        if default not in (None, {}, "") and not isinstance(default, bool):
            text += f" [default: {default}]"
        if isinstance(default, bool):
            flags = f"{flag}/--no-{flag[2:]}"
            option = click.option(flags, name, default=None, help=text)
        elif name == "fix":
            option = click.option(flag, name, multiple=True, metavar="LABEL=VALUE", help=text)
        elif name in ("student_tap", "teacher_tap"):
            option = click.option(flag, name, multiple=True, metavar="MODULE", help=text)
        elif name == "learn_from":
            option = click.option(flag, name, multiple=True, metavar="STUDY", help=text)
        elif name in ("teacher", "teacher_weights", "assistant", "target"):
            option = click.option(flag, name, multiple=True, help=text)
        elif name in ("teacher_mean", "teacher_std"):
            option = click.option(flag, name, metavar="X,Y,Z", help=text)
        else:
            option = click.option(flag, name, help=text)
        command = option(command)
    return command


@cli.command("search")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@_search_options
@AS_JSON
def search_command(file: Path | None, *, as_json: bool, **flags: object) -> None:
    """Search the Pareto-best students; the same --study goes on where it stopped.

    FILE is a YAML file of the same options; flags win.
    """
    config = build_config(file, flags=_tidy(flags))
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
    "--teacher-weight", "teacher_weights", multiple=True, help="Its weights on this machine."
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
@click.option("--target", default="", help="One of the study's [default: its first].")
@RUNS_DIR
@AS_JSON
def front_command(study: str | None, *, target: str, runs_dir: Path, as_json: bool) -> None:
    """Show the Pareto-best students of a study."""
    from autokd.study import load_front

    print_front(load_front(study, runs_dir=runs_dir, target=target), as_json=as_json)


def _tidy(flags: Mapping[str, object]) -> dict[str, object]:
    """The flags that were given, lists and pairs taken apart."""
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    for name in ("teacher_mean", "teacher_std"):
        if isinstance(value := given.get(name), str):
            given[name] = value.split(",")
    if isinstance(pairs := given.get("fix"), tuple):
        bad = [pair for pair in pairs if "=" not in str(pair)]
        if bad:
            raise ConfigError(f"`--fix` must be LABEL=VALUE, got {bad[0]}")
        given["fix"] = dict(str(pair).split("=", 1) for pair in pairs)
    return given
