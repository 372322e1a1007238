"""What a site hears in one round: answers that can be used, and files that cannot."""

import dataclasses
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import final

from autokd.errors import MeetingError
from autokd.federation.answers import Answers
from autokd.federation.charter import Charter
from autokd.federation.files import list_names

__all__ = ["Hearing"]


@dataclasses.dataclass(kw_only=True)
class _Fault:
    """A file that cannot be used.

    Attributes:
        error: Why not.
        stamp: Size and time of the file.
        since: When it was first seen with them; a file that changes is on its way.
        is_told: Whether it is given up, until it changes.
    """

    error: MeetingError
    stamp: tuple[int, int]
    since: float
    is_told: bool = False


@final
class Hearing:
    """The answers of one round, as they come.

    Attributes:
        heard: What can be used, by site.
    """

    def __init__(
        self,
        folder: Path,
        *,
        charter: Charter,
        number: int,
        check: Callable[[Path], None],
        transit_s: float,
    ) -> None:
        """Hears nothing yet.

        Args:
            folder: Where the answers lie.
            charter: Under which they must be given.
            number: Of the round.
            check: Raises where a file is not what the listening site knows that it is.
            transit_s: For how long an unchanging file that cannot be read is taken as on its way.
        """
        self.heard: dict[str, Answers] = {}
        self._faults: dict[str, _Fault] = {}
        self._folder, self._charter, self._number = folder, charter, number
        self._check, self._transit_s = check, transit_s

    @property
    def refused(self) -> set[str]:
        """Sites whose files stay as they are and cannot be used."""
        return {site for site, fault in self._faults.items() if fault.is_told}

    @property
    def faults(self) -> list[MeetingError]:
        """Why the files that cannot be used cannot."""
        return [fault.error for _, fault in sorted(self._faults.items())]

    def listen(self, sites: Collection[str]) -> list[MeetingError]:
        """Reads what has come since the last time.

        Args:
            sites: Who takes part; other files are copies that a synchronised folder has made.

        Returns:
            Why files are refused from now on.
        """
        found = [name for name in list_names(self._folder, ending=".npz") if name in sites]
        for gone in self._faults.keys() - set(found):
            del self._faults[gone]
        return [error for site in found if (error := self._read(site)) is not None]

    def _read(self, site: str) -> MeetingError | None:
        """Reads one file, unless it is known; why it is refused, when it comes to that."""
        path = self._folder / f"{site}.npz"
        state = path.stat()
        stamp, fault = (state.st_size, state.st_mtime_ns), self._faults.get(site)
        is_known = fault is not None and fault.is_told and fault.stamp == stamp
        if site in self.heard or is_known:
            return None
        self._check(path)
        try:
            self.heard[site] = Answers.read(path, charter=self._charter, number=self._number)
        except MeetingError as error:
            return self._note(site, error, stamp=stamp)
        self._faults.pop(site, None)
        return None

    def _note(
        self, site: str, error: MeetingError, *, stamp: tuple[int, int]
    ) -> MeetingError | None:
        """Remembers a file that cannot be used, and gives it up when it stays as it is."""
        now, fault = time.monotonic(), self._faults.get(site)
        if fault is None or fault.stamp != stamp:
            fault = self._faults[site] = _Fault(error=error, stamp=stamp, since=now)
        if now - fault.since < self._transit_s:
            return None
        fault.error, fault.is_told = error, True
        return error
