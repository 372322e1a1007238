"""What is running, the best so far and the time that is left, on standard error."""

import time
from typing import final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from autokd.types import EpochLog, TrialResult

__all__ = ["SearchProgress"]

_SILENCE_S = 30.0  # without a terminal, something is said at least as often while epochs end


@final
class SearchProgress:
    """A bar where there is a terminal, lines now and then elsewhere, one per trial everywhere."""

    def __init__(self, *, is_silent: bool = False) -> None:
        """Opens nothing until something begins."""
        self.console = Console(stderr=True, quiet=is_silent, highlight=False)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._start = self._last_said = time.monotonic()
        self._n_before = self._n_done = self._total = 0

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, soft_wrap=True)
        self._last_said = time.monotonic()

    def begin(self, title: str, *, total: int, done: int = 0) -> None:
        """A new bar of `total` steps, some of them done before."""
        self.end()
        self._start, self._total = time.monotonic(), total
        self._n_before = self._n_done = done
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._bar.start()
        self._task = self._bar.add_task(title, total=total, completed=done, note="")
        if not self.console.is_terminal:
            self.say(f"{title}: {total - done} to do")

    def end(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None

    def note(self, text: str) -> None:
        """What is going on, beside the bar."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, note=text)

    def step(self, *, done: int) -> None:
        """Moves the bar."""
        self._n_done = done
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done)

    def epoch(self, what: str, row: EpochLog, *, epochs: int) -> None:
        """An epoch of whatever is trained."""
        text = f"{what}: epoch {row.epoch}/{epochs}, {row.val_accuracy:.1%}"
        if self._total - self._n_before == 1:  # nothing else tells how long it takes
            text += f", {_shorten(row.seconds * (epochs - row.epoch))} to go"
        self.note(text)
        if not self.console.is_terminal and time.monotonic() - self._last_said > _SILENCE_S:
            has_begun = self._n_done > self._n_before
            self.say(f"{text}, {self._time_left()} left" if has_begun else text)

    def trial(self, result: TrialResult, *, n_done: int, budget: int, is_on_front: bool) -> None:
        """A line for a finished trial, with an estimate of the time that is left.

        A stopped one has had its line when it was stopped.
        """
        self.step(done=n_done)
        if result.state == "stopped":
            return
        line = _describe(result, is_on_front=is_on_front)
        self.say(f"{line}   {n_done}/{budget}, {self._time_left()} left")

    def _time_left(self) -> str:
        """Of what has begun, if the rest goes on like what is done."""
        spent = time.monotonic() - self._start
        seconds = spent / max(1, self._n_done - self._n_before) * (self._total - self._n_done)
        return _shorten(seconds)


def _shorten(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def _describe(result: TrialResult, *, is_on_front: bool) -> str:
    head = f"trial {result.trial:>3}"
    if result.state != "complete" or result.latency is None or result.val_accuracy is None:
        return f"{head}  {result.state}: {result.reason}"
    n_params = result.footprint.n_params if result.footprint else 0
    star = "* " if is_on_front else "  "
    if result.inherited_from is not None:
        share = result.inherited_share or 0.0
        what = f"{share:.0%}" if share else "gone, began afresh"
        kin = f"  from trial {result.inherited_from} ({what})"
    else:
        kin = ""
    same = f"  same as trial {result.same_as}" if result.same_as is not None else ""
    return (
        f"{head} {star}{result.val_accuracy:6.1%}  {result.latency.median_ms:8.4f} ms  "
        f"{n_params / 1000:8.1f} k  {result.training_s:5.1f} s{kin}{same}"
    )
