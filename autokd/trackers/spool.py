"""A wrapper that makes tracking cheap and lossless: events go to a file first, then on."""

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Protocol, final, runtime_checkable

from pydantic import ConfigDict, Field, TypeAdapter

from autokd.errors import TrackingError
from autokd.types import Event, StudyClosed, Tracker

__all__ = ["SpooledTracker"]

# A diverged trial has losses that are no numbers: they are kept, not turned into null.
_EVENTS: TypeAdapter[Event] = TypeAdapter(
    Annotated[Event, Field(discriminator="kind")],
    config=ConfigDict(ser_json_inf_nan="constants"),
)
_MAX_BYTES = 1 << 18  # of what is sent on at once
_OUTAGE_S = 5.0  # that closing and resting wait for a store that does not answer


@runtime_checkable
class BatchTracker(Protocol):
    """A tracker that is quicker when told several events at once."""

    def log_all(self, events: Sequence[Event]) -> None:
        """Take note of several events."""
        ...


@final
class SpooledTracker:
    """Writes events to a file and lets a thread send them on to another tracker.

    `log` costs the writing of one line. While the other tracker cannot be reached the thread
    tries again, ever less often, and the file keeps what is not sent; the next process that
    opens the folder goes on with it. Nothing is dropped, an event may be sent twice. One
    process at a time may have the folder open.

    Args:
        tracker_factory: Builds the wrapped tracker, in the thread and when it is needed.
        folder: For `events.jsonl` and `events.sent`, the number of its bytes that are sent.
        first_wait_s: Before the first new try; doubled each time.
        longest_wait_s: Where the doubling ends.
    """

    def __init__(
        self,
        tracker_factory: Callable[[], Tracker],
        *,
        folder: Path,
        first_wait_s: float = 1.0,
        longest_wait_s: float = 30.0,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._factory = tracker_factory
        self._first_wait_s = first_wait_s
        self._longest_wait_s = longest_wait_s
        self._path = folder / "events.jsonl"
        self._offset_path = folder / "events.sent"
        self._written = _cut_half_line(self._path)
        self._sent = min(_load_offset(self._offset_path), self._written)
        self._n_unsent = self._path.read_bytes()[self._sent :].count(b"\n")
        self._file = self._path.open("ab")
        self._changed = threading.Condition()
        self._is_closing = self._is_abandoned = self._is_sending = False
        self._n_resting = 0
        self._bug: Exception | None = None
        self._last_error: TrackingError | None = None
        self._thread = threading.Thread(target=self._run, name="autokd-spool", daemon=True)
        self._thread.start()

    @property
    def n_unsent(self) -> int:
        """Events that the wrapped tracker has not taken yet."""
        return self._n_unsent

    @property
    def last_error(self) -> TrackingError | None:
        """Why events are held back; none while they are taken."""
        return self._last_error

    def log(self, event: Event) -> None:
        """Take note of one event, without waiting for the wrapped tracker.

        Args:
            event: The next one of the study.

        Raises:
            TrackingError: The file cannot be written.
            ValueError: The tracker is closed.
        """
        self._raise_bug()
        if isinstance(event, StudyClosed):  # may be sent by a process in another folder
            event = replace(event, files=tuple(file.absolute() for file in event.files))
        line = _EVENTS.dump_json(event) + b"\n"
        with self._changed:
            if self._is_closing:
                raise ValueError("a closed tracker takes no events")
            try:
                self._file.write(line)
                self._file.flush()
            except OSError as error:
                raise TrackingError(f"{self._path} must be writable, got {error}") from error
            self._written += len(line)
            self._n_unsent += 1
            self._changed.notify_all()

    @contextmanager
    def resting(self) -> Generator[None]:
        """Nothing is sent on within, so that the machine is quiet.

        Yields:
            Nothing, when what is being sent has arrived; after five seconds if it has not.
        """
        with self._changed:
            self._n_resting += 1
            self._changed.wait_for(lambda: not self._is_sending, _OUTAGE_S)
        try:
            yield
        finally:
            with self._changed:
                self._n_resting -= 1
                self._changed.notify_all()

    def close(self, *, timeout_s: float = 30.0) -> None:
        """Send what is left, for a while; what stays is sent by the next process.

        Args:
            timeout_s: Longest time to wait; in an outage five seconds are enough.
        """
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join(min(timeout_s, _OUTAGE_S))
        if self._last_error is None:
            self._thread.join(max(0.0, timeout_s - _OUTAGE_S))
        with self._changed:
            self._is_abandoned = True
            self._changed.notify_all()
        self._file.close()
        self._raise_bug()

    def _raise_bug(self) -> None:
        if self._bug is not None:
            raise self._bug

    def _run(self) -> None:
        """The thread: anything but an outage is kept for the caller."""
        try:
            self._send_all()
        except Exception as error:  # noqa: BLE001 - raised again by the next log or close
            self._bug = error
        finally:
            self._has_sent()

    def _has_sent(self) -> None:
        with self._changed:
            self._is_sending = False
            self._changed.notify_all()

    def _send_all(self) -> None:
        """Send on until closed; an outage is waited for."""
        tracker: Tracker | None = None
        wait_s = self._first_wait_s
        while (chunk := self._next_chunk()) is not None:
            try:
                tracker = self._factory() if tracker is None else tracker
                _tell(tracker, [_EVENTS.validate_json(line) for line in chunk.splitlines()])
            except TrackingError as error:
                self._last_error = error
                self._pause(wait_s)
                wait_s = min(2 * wait_s, self._longest_wait_s)
            else:
                self._last_error, wait_s = None, self._first_wait_s
                self._advance(chunk)
        if tracker is not None:
            with suppress(TrackingError):
                tracker.close()

    def _next_chunk(self) -> bytes | None:
        """Whole unsent lines, waited for; none when there is nothing more to do."""
        self._has_sent()
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_closing or (self._sent < self._written and self._n_resting == 0)
            )
            end = self._written
            if self._sent == end or self._is_abandoned:
                return None
            self._is_sending = True
        with self._path.open("rb") as file:
            file.seek(self._sent)
            chunk = file.read(min(end - self._sent, _MAX_BYTES))
            if not chunk.endswith(b"\n"):
                chunk += file.readline()
        return chunk

    def _pause(self, wait_s: float) -> None:
        """Wait before a new try; closing ends the wait, since it may be the last chance."""
        self._has_sent()
        with self._changed:
            if self._is_closing:
                self._changed.wait_for(lambda: self._is_abandoned, min(wait_s, self._first_wait_s))
            else:
                self._changed.wait_for(lambda: self._is_closing, wait_s)

    def _advance(self, chunk: bytes) -> None:
        """Note that these lines are sent; once given up on, leave that to the next process."""
        with self._changed:
            if self._is_abandoned:
                return
            self._sent += len(chunk)
            self._n_unsent -= chunk.count(b"\n")
            draft = self._offset_path.with_suffix(".draft")
            draft.write_text(str(self._sent), encoding="ascii")
            draft.replace(self._offset_path)


def _tell(tracker: Tracker, events: Sequence[Any]) -> None:
    if isinstance(tracker, BatchTracker):
        tracker.log_all(events)
    else:
        for event in events:
            tracker.log(event)


def _cut_half_line(path: Path) -> int:
    """Cut off what a killed process left of its last line; the size that remains, in bytes."""
    path.touch()
    with path.open("rb+") as file:
        whole = file.read().rfind(b"\n") + 1
        return file.truncate(whole)


def _load_offset(path: Path) -> int:
    """Bytes that are sent; none after a power cut has emptied the file: all is sent again."""
    text = path.read_text(encoding="ascii", errors="replace") if path.exists() else ""
    return int(text) if text.isdecimal() else 0
