"""The command line: parses, calls, prints, exits. Whatever is heavy is imported when needed."""

import contextlib
import errno
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from autokd.config import Config, build_config
from autokd.errors import AutoKDError, ConfigError

__all__ = ["main"]

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_RUNS_DIR = click.option(
    "--runs-dir",
    type=click.Path(path_type=Path),
    default=Path("mlruns"),
    show_default=True,
    help="Where studies, runs and artefacts lie.",
)
_STUDY = click.option("--study", help="Name of the study [default: the last one worked on].")
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


@click.group(context_settings=_HELP)
@click.version_option(package_name="autokd")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def cli() -> None:
    """Search, distil and measure: the Pareto-best students of a trained network."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")


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
        elif name in ("teacher", "teacher_weights", "assistant"):
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
@_JSON
def search_command(file: Path | None, *, as_json: bool, **flags: object) -> None:
    """Search the Pareto-best students; the same --study goes on where it stopped.

    FILE is a YAML file of the same options; flags win.
    """
    config = build_config(file, flags=_tidy(flags))
    from autokd.study import search
    from autokd.study.progress import SearchProgress

    with contextlib.redirect_stdout(sys.stderr):  # whatever libraries and the user's code print
        front = search(config, progress=SearchProgress())
    _print_front(front, as_json=as_json)


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
@_STUDY
@_RUNS_DIR
@_JSON
def front_command(study: str | None, *, runs_dir: Path, as_json: bool) -> None:
    """Show the Pareto-best students of a study."""
    from autokd.study import load_front

    _print_front(load_front(study, runs_dir=runs_dir), as_json=as_json)


@cli.command("export")
@_STUDY
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
@_RUNS_DIR
@_JSON
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
    if as_json:
        click.echo(json.dumps(figures))
        return
    for path in bundle.files:
        click.echo(path)
    click.echo(
        f"test accuracy {bundle.test_accuracy:.2%} in torch, {bundle.onnx_test_accuracy:.2%} in "
        f"onnxruntime, top-1 agreement {bundle.top1_agreement:.2%}, {bundle.latency_ms:.4f} ms"
    )


@cli.command("ui")
@_STUDY
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option("--browser/--no-browser", "is_opened", default=True, help="Open a browser.")
@_RUNS_DIR
def ui_command(study: str | None, *, port: int, is_opened: bool, runs_dir: Path) -> None:
    """Serve the MLflow UI of a study on this machine only."""
    from autokd.study import find_study
    from autokd.trackers import serve_ui

    config = find_study(study, runs_dir=runs_dir).load_config()
    config = config.model_copy(update={"runs_dir": runs_dir})

    def show(url: str) -> None:
        click.echo(f"{url}\nCtrl-C stops it.")

    serve_ui(config, port=port, is_opened=is_opened, on_ready=show)


@cli.group("spaces")
def spaces_group() -> None:
    """List, show and copy the bundled search spaces and recipes."""


@spaces_group.command("list")
def list_command() -> None:
    """Name and first line of each."""
    from autokd.spaces import list_spaces

    for name, text in list_spaces().items():
        click.echo(f"{name:<10} {text}")


@spaces_group.command("show")
@click.argument("name")
@click.option(
    "--shape",
    default="3,32,32",
    show_default=True,
    metavar="C,H,W",
    help="Pictures that the space adapts to.",
)
@click.option("--classes", "n_classes", type=click.IntRange(min=2), default=10, show_default=True)
def show_command(name: str, *, shape: str, n_classes: int) -> None:
    """Every dimension of a space, joined with its recipe."""
    sides = shape.split(",")
    if len(sides) != 3 or not all(side.strip().isdigit() and int(side) for side in sides):
        raise ConfigError(f"`--shape` must be C,H,W such as 3,32,32, got {shape}")
    from autokd.spaces import describe_space

    channels, height, width = (int(side) for side in sides)
    space = describe_space(name, input_shape=(channels, height, width), n_classes=n_classes)
    for dimension in space.dimensions:
        scale = " log" if dimension.is_log else ""
        step = f" step {dimension.step:g}" if dimension.step else ""
        values = (
            ", ".join(map(str, dimension.choices))
            or f"[{dimension.low:g}, {dimension.high:g}]{scale}{step}"
        )
        click.echo(f"{dimension.room:<12} {dimension.label:<24} {values}")


@spaces_group.command("copy")
@click.argument("name")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def copy_command(name: str, folder: Path) -> None:
    """Copy a bundled file, to be edited and passed with --space or --recipe."""
    from autokd.spaces import copy_space

    click.echo(copy_space(name, folder))


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


def _print_front(front: Any, *, as_json: bool) -> None:  # noqa: ANN401 - imported late
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


def main() -> None:
    """Runs the command line; every expected error is one line and an exit code."""
    is_debug = "--debug" in sys.argv[1:]
    # OpenMP's threads spin while they wait, which makes training on a busy machine up to a
    # hundred times slower; read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        cli.main([word for word in sys.argv[1:] if word != "--debug"], standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = "autokd" if context is None else context.command_path
        text = error.format_message().rstrip(".")
        click.echo(f"{type(error).__name__}: {text}; see `{command} --help`", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; the same command goes on where it stopped", err=True)
        _leave(130)
    except (AutoKDError, OSError) as error:
        if _is_full_disk(error) or _is_full_disk(error.__cause__):
            text = f"the disk must have room for the study, got {error}; free some and run it again"
            _fail(text, error, is_debug=is_debug, code=2)
        elif isinstance(error, AutoKDError):
            _fail(str(error), error, is_debug=is_debug, code=error.exit_code)
        else:
            raise


def _is_full_disk(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _fail(text: str, error: Exception, *, is_debug: bool, code: int) -> None:
    for line in text.splitlines():
        click.echo(f"{type(error).__name__}: {line}", err=True)
    if is_debug:
        raise error
    _leave(code)


def _leave(code: int) -> None:
    """Exits at once: no thread of a library may hold an interrupted run."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
