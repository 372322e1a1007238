"""`autokd federate`."""

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import click

from autokd.cli.options import config_options, tidy
from autokd.cli.root import AS_JSON, OUT, bundle_as_dict, cli, print_bundle
from autokd.config import DEFAULTS, STRANGE, build_config

__all__ = ["federate_command"]

_REGISTER = click.option(
    "--register/--no-register",
    "is_registered",
    default=None,
    help="Register the student, its weights among the rest, in MLflow under the study's name "
    "[default: only where MLflow's store is files of this machine]",
)


@cli.command("federate")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@config_options(without=STRANGE["federate"], defaults=DEFAULTS["federate"])
@OUT
@_REGISTER
@AS_JSON
def federate_command(
    file: Path | None, *, out: Path, is_registered: bool | None, as_json: bool, **flags: object
) -> None:
    """Train a student with other sites, none of which shows its pictures; each runs this.

    FILE is a YAML file of the same options; flags win. What a site says of the pictures of --public
    goes into --meeting: logarithms of probabilities, names of classes, how many pictures it has
    trained on, digests; neither pictures nor labels nor weights. Options and accuracies go to
    MLflow, weights only with --register or where its store is files of this machine. --epochs are
    of one round. The same command goes on where it stopped.
    """
    config = build_config(file, flags=tidy(flags), command="federate")
    from autokd.study import federate
    from autokd.study.progress import SearchProgress

    with contextlib.redirect_stdout(sys.stderr):  # whatever libraries and the user's code print
        done = federate(config, out=out, is_registered=is_registered, progress=SearchProgress())
    if as_json:
        click.echo(json.dumps(_as_dict(done)))
        return
    _print_rounds(done)
    print_bundle(done.bundle)


def _as_dict(done: Any) -> dict[str, Any]:  # noqa: ANN401 - imported late
    """What came of it, as `--json` prints it."""
    return {
        "study": done.study,
        "site": done.site,
        "rounds": [
            {
                "number": one.number,
                "val_accuracy": one.val_accuracy,
                "heard": list(one.heard),
                "sent_bytes": one.sent_bytes,
                "training_s": one.seconds,
            }
            for one in done.rounds
        ],
        "sent_bytes": done.sent_bytes,
        "val_accuracy": done.student.val_accuracy,
        "test_accuracy": done.student.test_accuracy,
        "alone_val_accuracy": done.alone and done.alone.val_accuracy,
        "alone_test_accuracy": done.alone and done.alone.test_accuracy,
        "gain": done.gain,
        "export": bundle_as_dict(done.bundle),
    }


def _print_rounds(done: Any) -> None:  # noqa: ANN401 - imported late
    """A table of the rounds, and the student beside the one trained alone."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"site {done.site}", title_justify="left")
    for name in ("round", "taught by", "validation", "test", "sent, kB"):
        table.add_column(name, justify="right")
    for one in done.rounds:
        heard = f"{len(one.heard)} sites" if one.heard else "alone"
        is_last = one.number == done.rounds[-1].number
        test = f"{done.student.test_accuracy:.2%}" if is_last else ""
        sent = f"{one.sent_bytes / 1000:.1f}" if one.sent_bytes else ""
        table.add_row(str(one.number), heard, f"{one.val_accuracy:.2%}", test, sent)
    alone = done.alone
    gain = "the student alone diverged, so that there is no gain to tell"
    if alone is not None:
        table.add_row("-", "alone", f"{alone.val_accuracy:.2%}", f"{alone.test_accuracy:.2%}", "")
        gain = (
            f"gain by the other sites {100 * done.gain:+.2f} points on this site's test pictures, "
            f"one seed; the last row has as many steps ({alone.epochs} epochs)"
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(gain)
