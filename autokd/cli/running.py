"""Where a run of the command line begins and ends: errors become lines and exit codes."""

import errno
import os
import sys

import click

from autokd.cli.root import cli
from autokd.errors import AutoKDError

__all__ = ["main"]

_OF_PATHS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)


def main() -> None:
    """Runs the command line; every expected error is one line and an exit code."""
    is_debug = "--debug" in sys.argv[1:]
    # OpenMP's threads spin while they wait, which makes training on a busy machine up to a
    # hundred times slower; read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        cli.main(
            [word for word in sys.argv[1:] if word != "--debug"], "autokd", standalone_mode=False
        )
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
        elif error.errno in _OF_PATHS and error.filename:
            text = f"{error.filename} must be a path that may be used, got {error.strerror}"
            _fail(text, error, is_debug=is_debug, code=2)
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
