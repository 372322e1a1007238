"""From what the user calls a target to one."""

import dataclasses
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from autokd.errors import ConfigError
from autokd.latency.command_target import CommandTarget
from autokd.latency.runtimes import check_runtime, check_runtime_name
from autokd.latency.stopwatch.rounds import Form
from autokd.latency.stopwatch_target import SCREENING, StopwatchTarget
from autokd.latency.strict_target import StrictTarget
from autokd.types import Target

__all__ = ["COMMAND", "TargetOptions", "open_target"]

COMMAND = "command:"
"""What the names of targets begin with that are a program of the user's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """How networks are timed, wherever that is.

    Attributes:
        threads: Of the runtime.
        batch: Pictures per run.
        shape: Of one picture, for networks that leave it open.
        form: How long and how sure.
        timeout_s: For a command.
        quiet: Entered while the clock runs.
        home: As `StopwatchTarget.home`.
        is_elsewhere: Whether another machine has the runtime, and whoever asks has looked there.
    """

    threads: int = 1
    batch: int = 1
    shape: tuple[int, ...] = ()
    form: Form = SCREENING
    timeout_s: float = 120.0
    quiet: Callable[[], AbstractContextManager[None]] = nullcontext
    home: Path | None = None
    is_elsewhere: bool = False


def open_target(name: str, options: TargetOptions) -> Target:
    """The target of a name.

    Args:
        name: A runtime, or `command:PROGRAM ... {model} ...`.
        options: How networks are timed on it.

    Returns:
        The target; what is wrong with a runtime's name, or what to install, is told likewise.

    Raises:
        ConfigError: A command is told a shape, or a runtime more threads than there are cores.
    """
    if name.startswith(COMMAND):
        if options.shape:
            sides = ",".join(map(str, options.shape))
            raise ConfigError(
                f"`--shape` must be left out where a command measures, got {sides}: its program "
                "fills open sides itself"
            )
        return StrictTarget(
            CommandTarget(
                command=name.removeprefix(COMMAND).strip(),
                threads=options.threads,
                batch=options.batch,
                timeout_s=options.timeout_s,
                n_turns=options.form.n_processes,
                quiet=options.quiet,
            )
        )
    if options.is_elsewhere:
        check_runtime_name(name)
    else:
        check_runtime(name)
        has_affinity = hasattr(os, "sched_getaffinity")  # Linux
        n_cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
        if options.threads > n_cores:
            raise ConfigError(
                f"`--latency-threads` (of `autokd measure` --threads) must be at most {n_cores}, "
                f"the cores that autokd may use here, got {options.threads}"
            )
    return StopwatchTarget(
        runtime=name,
        threads=options.threads,
        batch=options.batch,
        shape=options.shape,
        form=options.form,
        quiet=options.quiet,
        home=options.home,
    )
