"""The folder where sites meet: joined once, written to after each training, listened to between."""

import dataclasses
import re
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import final

from pydantic import ValidationError

from autokd.errors import CharterError, MeetingError
from autokd.federation.answers import Answers
from autokd.federation.charter import Charter
from autokd.federation.files import write_whole
from autokd.types import dump_json, load_json

__all__ = ["QUORUM", "Meeting"]

QUORUM = 2
"""Sites at the least; one alone has nobody to learn from."""

_TRANSIT_S = 30.0  # for which a file may be broken because it is still on its way
_SAID_EVERY_S = 30.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Meeting:
    """One site's place in a meeting that it has joined.

    Attributes:
        path: The folder that all sites read and write.
        site: Its name there.
        token: What tells it from another site of the same name; drawn at random, kept at home.
        charter: As it was agreed on.
        pause_s: Between two looks at the folder.
        transit_s: For how long a file that cannot be read is taken as still on its way.
    """

    path: Path
    site: str
    token: str
    charter: Charter
    pause_s: float = 1.0
    transit_s: float = _TRANSIT_S

    @classmethod
    def join(cls, path: Path, *, site: str, token: str, wanted: Charter) -> "Meeting":
        """Takes a site's place; the first to come writes the charter.

        Args:
            path: The folder; made if missing.
            site: Name of this site.
            token: Its own.
            wanted: The charter that this site would write. Without names of sites, or a number of
                them, it takes those that are there.

        Returns:
            The meeting.

        Raises:
            CharterError: The site differs from the charter, its name is taken, or all places are.
        """
        file = path / "charter.json"
        if not file.exists():
            _check_first(wanted)
            write_whole(file, dump_json(wanted).encode())
        charter = _read_charter(file)  # what another has written at the same moment holds too
        if not wanted.sites and wanted.n_sites in (0, charter.n_sites):
            wanted = dataclasses.replace(wanted, n_sites=charter.n_sites, sites=charter.sites)
        charter.admit(wanted)
        if charter.sites and site not in charter.sites:
            raise CharterError(
                f"`--site` must be one of {', '.join(charter.sites)} as in the charter of the "
                f"meeting, got {site}; pass one of them"
            )
        meeting = cls(path=path, site=site, token=token, charter=charter)
        meeting._take_place()
        return meeting

    def _take_place(self) -> None:
        cards = {card.stem for card in (self.path / "sites").glob("*.json")}
        if self.site not in cards:
            if len(cards) >= self.charter.n_sites:
                raise CharterError(
                    f"`--n-sites` must leave a place for site {self.site}, got "
                    f"{self.charter.n_sites} taken by {', '.join(sorted(cards))}; begin another "
                    "meeting in an empty --meeting folder"
                )
            write_whole(self._card, self.token.encode())
        self._check_place()

    @property
    def _card(self) -> Path:
        return self.path / "sites" / f"{self.site}.json"

    def _check_place(self) -> None:
        """Makes sure that nobody else speaks under this name.

        Raises:
            CharterError: Somebody does.
        """
        try:
            known = self._card.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            known = f"unreadable: {error.strerror}"
        if known != self.token:
            raise CharterError(
                f"`--site` must be a name of its own, got {self.site}, which another site has "
                f"taken in {self.path}; pass another --site, or the --runs-dir that this site "
                "began with"
            )

    def file_of(self, number: int, *, site: str) -> Path:
        """Where the answers of a site in a round lie."""
        return self.path / f"round-{number:02d}" / f"{site}.npz"

    def publish(self, answers: Answers, *, number: int) -> int:
        """Lays this site's answers of a round into the folder, once and for all.

        Args:
            answers: Its own.
            number: Of the round; what lies there already is left as it is.

        Returns:
            Bytes of the file.
        """
        path = self.file_of(number, site=self.site)
        self._check_place()
        if not path.exists():
            write_whole(path, answers.write(charter=self.charter, number=number))
        return path.stat().st_size

    def gather(
        self,
        number: int,
        *,
        expected: Collection[str],
        wait_s: float,
        is_over: Callable[[], bool],
        say: Callable[[str], object],
    ) -> list[Answers]:
        """The answers of all sites in a round, waited for.

        Args:
            number: Of the round.
            expected: Names of those whose answers are waited for; if none, as many as the charter
                expects. Others are heard if they are there.
            wait_s: Patience. Afterwards whoever is missing is left out.
            is_over: Ends the waiting.
            say: Shows a line.

        Returns:
            Two or more, by name.

        Raises:
            KeyboardInterrupt: The waiting was ended.
            MeetingError: Fewer than two are there, or a file cannot be used.
        """
        start, said = time.monotonic(), -_SAID_EVERY_S
        broken: dict[str, float] = {}
        heard: dict[str, Answers] = {}
        while True:
            self._listen(number, heard=heard, broken=broken)
            missing = self._missing(heard, expected=expected)
            spent = time.monotonic() - start
            if not missing:
                return [heard[site] for site in sorted(heard)]
            if spent >= wait_s:
                break
            if is_over():
                raise KeyboardInterrupt
            if spent - said >= _SAID_EVERY_S:
                left = f"{(wait_s - spent) / 60:.0f} min" if wait_s > 120 else f"{wait_s:.0f} s"
                say(f"round {number}: waiting for {missing}, {left} at the longest")
                said = spent
            time.sleep(min(self.pause_s, wait_s - spent))
        if len(heard) < QUORUM:
            raise MeetingError(
                f"`--wait` must be long enough for {QUORUM} sites to come, got {len(heard)} in "
                f"round {number} ({missing} missing); start the others, then the same command "
                "goes on"
            )
        say(f"warning: round {number} goes on without {missing}, after {wait_s:g} s")
        return [heard[site] for site in sorted(heard)]

    def _listen(self, number: int, *, heard: dict[str, Answers], broken: dict[str, float]) -> None:
        """Reads what has come since; a file that stays broken is refused."""
        for path in sorted(self.file_of(number, site=self.site).parent.glob("*.npz")):
            if path.stem in heard or not self._knows(path.stem):
                continue
            try:
                answers = Answers.read(path, charter=self.charter, number=number)
            except MeetingError:  # synchronised folders may show half a file at first
                since = broken.setdefault(path.stem, time.monotonic())
                if time.monotonic() - since >= self.transit_s:
                    raise
            else:
                heard[path.stem] = answers

    def _knows(self, site: str) -> bool:
        """Whether a file is that of a site, rather than a copy that a folder's service has made."""
        return _NAME.fullmatch(site) is not None and (
            site in self.charter.sites if self.charter.sites else True
        )

    def _missing(self, heard: Collection[str], *, expected: Collection[str]) -> str:
        """Who has not come yet, for people; empty where all are there."""
        known = set(expected or self.charter.sites)
        if known:
            return ", ".join(sorted(known - set(heard)))
        n_missing = self.charter.n_sites - len(heard)
        cards = {card.stem for card in (self.path / "sites").glob("*.json")}
        named = ", ".join(sorted(cards - set(heard)))
        count = f"{n_missing} of {self.charter.n_sites} sites"
        return "" if n_missing <= 0 else f"{count} ({named})" if named else count


def _check_first(charter: Charter) -> None:
    """Makes sure that the first site says how many are to come.

    Raises:
        CharterError: It does not.
    """
    if charter.n_sites < QUORUM:
        raise CharterError(
            f"`--n-sites` must be at least {QUORUM} at the site that begins a meeting, got "
            f"{charter.n_sites or 'nothing'}; pass --n-sites N, or --sites with all names"
        )


def _read_charter(file: Path) -> Charter:
    """The charter of a meeting.

    Args:
        file: There it lies.

    Returns:
        It.

    Raises:
        CharterError: It cannot be read.
    """
    try:
        return load_json(Charter, file.read_bytes())
    except (OSError, ValidationError) as error:
        line = str(error).split("\n", maxsplit=1)[0]
        raise CharterError(
            f"`--meeting` must hold a readable charter.json, got {line}; remove it if no site has "
            "begun, or name another folder at all sites"
        ) from error
