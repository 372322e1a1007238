"""What a benchmark says: its figures alone on standard output, all else on standard error."""

import json
import os
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TextIO, final

from rich.console import Console
from rich.progress import Progress

__all__ = ["Steps", "print_figures", "reserve_stdout"]

_SILENCE_S = 10.0  # without a terminal, something is said at least as often while steps end


def reserve_stdout() -> TextIO:
    """Standard output for the figures alone: whatever else is printed goes to standard error.

    As `--json` of autokd's command line does it, but for the descriptor itself, not only for
    `sys.stdout`: forked trainers, programs that are started and libraries in C write to that one.

    Returns:
        What was standard output until now.
    """
    sys.stdout.flush()
    figures = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return figures


def print_figures(figures: Mapping[str, object], *, as_json: bool, out: TextIO) -> None:
    """The one object: on one line, or for people."""
    print(json.dumps(figures, indent=None if as_json else 2), file=out, flush=True)


@final
class Steps:
    """Steps of something long: a bar where there is a terminal, a line now and then elsewhere."""

    def __init__(self, title: str, *, total: int) -> None:
        """Shows nothing until it is entered."""
        self._title, self._total, self._n_done = title, total, 0
        self._start = self._last_said = time.monotonic()
        self._console = Console(stderr=True, highlight=False)
        # No thread that draws: it would stand beside what is timed.
        is_bar = self._console.is_terminal
        self._bar = Progress(console=self._console, disable=not is_bar, auto_refresh=False)

    def __enter__(self) -> "Steps":
        """Begins to count."""
        self._bar.start()
        self._task = self._bar.add_task(self._title, total=self._total)
        if not self._console.is_terminal:
            self._console.print(f"{self._title}: {self._total} steps")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Takes the bar away."""
        self._bar.stop()

    def tick(self) -> None:
        """One step has ended."""
        self._n_done += 1
        self._bar.update(self._task, completed=self._n_done, refresh=True)
        now = time.monotonic()
        is_due = now - self._last_said > _SILENCE_S or self._n_done == self._total
        if is_due and not self._console.is_terminal:
            left = (now - self._start) / self._n_done * (self._total - self._n_done)
            self._console.print(f"{self._title}: {self._n_done}/{self._total}, {left:.0f} s left")
            self._last_said = now
