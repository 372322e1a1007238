"""The folder where sites meet: joined once, written to after each training, listened to between."""

import dataclasses
import hashlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar, final

from pydantic import ValidationError

from autokd.errors import CharterError, MeetingError
from autokd.federation.answers import Answers
from autokd.federation.charter import Charter
from autokd.federation.files import list_names, remove_leavings, write_new
from autokd.federation.hearing import Hearing
from autokd.federation.patience import Patience
from autokd.federation.places import Places
from autokd.types import dump_json, load_json

__all__ = ["QUORUM", "Meeting"]

T = TypeVar("T")

QUORUM = 2
"""Sites at the least; one alone has nobody to learn from."""

_TRANSIT_S = 30.0  # for which a file may be broken because it is still on its way
_CHARTER = "charter.json"
_RECORD = ".sha256"


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Meeting:
    """One site's place in a meeting that it has joined.

    Attributes:
        path: The folder that all sites read and write.
        site: Its name there.
        token: What tells it from another site of the same name; drawn at random, kept at home.
        home: A folder of its own, where it keeps the digests of what it has published.
        charter: As it was agreed on.
        transit_s: For how long a file that cannot be read, and does not change, is taken as
            still on its way.
    """

    path: Path
    site: str
    token: str
    home: Path
    charter: Charter
    transit_s: float = _TRANSIT_S

    @classmethod
    def join(cls, path: Path, *, site: str, token: str, home: Path, wanted: Charter) -> "Meeting":
        """Takes a site's place; the first to come writes the charter.

        Args:
            path: The folder; made if missing.
            site: Name of this site.
            token: Its own.
            home: Where it keeps what it must remember; made if missing.
            wanted: The charter that this site would write. Without names of sites, or a number of
                them, it takes those that are there.

        Returns:
            The meeting.

        Raises:
            CharterError: The site differs from the charter, its name is taken, all places are, the
                folder cannot be used, or the site has published in another meeting.
        """
        try:
            if _has_published(home):
                Places(path=path, charter=wanted).find_again(site)
            charter = _agree(path, wanted)
            Places(path=path, charter=charter).take(site, token=token)
        except OSError as error:
            raise CharterError(_describe(path, error)) from error
        return cls(path=path, site=site, token=token, home=home, charter=charter)

    def file_of(self, number: int, *, site: str) -> Path:
        """Where the answers of a site in a round lie."""
        return self.path / f"round-{number:02d}" / f"{site}.npz"

    def find_published(self, number: int, *, patience: Patience) -> int:
        """Whether this site's answers of a round lie in the folder.

        Args:
            number: Of the round.
            patience: With a folder that is away.

        Returns:
            Bytes of the file; 0 where there is none.
        """
        path = self.file_of(number, site=self.site)

        def look() -> int:
            self._check_standing()
            if not path.exists():
                return 0
            self._check_own(path, number=number)
            remove_leavings(path)
            return path.stat().st_size

        return self._insist(look, number=number, patience=patience) or 0

    def publish(self, answers: Answers, *, number: int, patience: Patience) -> int:
        """Lays this site's answers of a round into the folder, once and for all.

        Args:
            answers: Its own.
            number: Of the round.
            patience: With a folder that is away.

        Returns:
            Bytes of the file.
        """
        path = self.file_of(number, site=self.site)
        content = answers.write(charter=self.charter, number=number)

        def lay() -> int:
            self._check_standing()
            if not path.exists():
                self._remember(content, number=number)
                write_new(path, content, root=self.path)
            self._check_own(path, number=number)  # also if another has just laid it there
            return path.stat().st_size

        return self._insist(lay, number=number, patience=patience) or 0

    def gather(
        self, number: int, *, expected: Collection[str], patience: Patience
    ) -> list[Answers]:
        """The answers of all sites in a round, waited for.

        Args:
            number: Of the round.
            expected: Names of those whose answers are waited for; if none, as many as the charter
                expects. Others are heard if they are there.
            patience: With those who are late, and with a folder that is away. Afterwards whoever
                is missing is left out, as is from the beginning whoever gives what cannot be used.

        Returns:
            Two or more, by name.

        Raises:
            MeetingError: Fewer than two are there.
        """
        hearing = Hearing(
            self.file_of(number, site=self.site).parent,
            charter=self.charter,
            number=number,
            check=lambda path: self._check_own(path, number=number),
            transit_s=self.transit_s,
        )
        heard, seated = hearing.heard, set[str]()

        def find_missing(known: Collection[str]) -> str:
            names = set(expected or self.charter.sites)
            return _list_missing(known, expected=names, seated=seated, n_sites=self.charter.n_sites)

        def listen() -> bool | None:
            self._check_standing()
            seated.update(self._places.list_taken())
            for error in hearing.listen(seated):
                patience.say(f"warning: {error}")
            is_complete = not find_missing(heard.keys() | hearing.refused)
            return True if is_complete and len(heard) >= QUORUM else None

        self._insist(
            listen, number=number, patience=patience, waiting_for=lambda: find_missing(heard)
        )
        missing = find_missing(heard)
        if len(heard) < QUORUM:
            if faults := hearing.faults:
                raise faults[0]
            raise MeetingError(
                f"`--wait` must be long enough for {QUORUM} sites to come, got {len(heard)} in "
                f"round {number} ({missing} missing); start the others, then the same command "
                "goes on"
            )
        if missing:
            patience.say(f"warning: round {number} goes on without {missing}")
        return [heard[site] for site in sorted(heard)]

    @property
    def _places(self) -> Places:
        return Places(path=self.path, charter=self.charter)

    def _check_standing(self) -> None:
        """Makes sure that the charter holds still, and that nobody else speaks under this name."""
        agreed = _read_charter(self.path / _CHARTER)
        agreed.admit(self.charter)
        self._places.check(self.site, token=self.token)

    def _check_own(self, path: Path, *, number: int) -> None:
        """Makes sure that a file, if it is this site's, is what this site has published.

        Args:
            path: Of a file of answers.
            number: Of the round.

        Raises:
            MeetingError: It is not.
        """
        if path.stem != self.site:
            return
        record = self._record(number)
        known = record.read_text(encoding="ascii") if record.exists() else "nothing"
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != known:
            raise MeetingError(
                f"answers of site `{self.site}` in round {number} must be those that it has "
                f"published itself, got others in {path}; find out who writes under its name, "
                "remove the file and run the same command again"
            )

    def _record(self, number: int) -> Path:
        return self.home / f"{number:02d}{_RECORD}"

    def _remember(self, content: bytes, *, number: int) -> None:
        """Keeps at home what is about to be published."""
        record = self._record(number)
        record.parent.mkdir(parents=True, exist_ok=True)
        temporary = record.with_suffix(".tmp")
        temporary.write_text(hashlib.sha256(content).hexdigest(), encoding="ascii")
        temporary.replace(record)

    def _insist(
        self,
        act: Callable[[], T | None],
        *,
        number: int,
        patience: Patience,
        waiting_for: Callable[[], str] = lambda: "",
    ) -> T | None:
        """Does something with the folder, as often as it takes and patience bears.

        Args:
            act: Gives something in the end.
            number: Of the round.
            patience: That it must not try.
            waiting_for: What is missing, for people.

        Returns:
            What it gives; none where it gives nothing in the end.

        Raises:
            MeetingError: The folder cannot be used.
        """
        try:
            return patience.keep_trying(act, title=f"round {number}", waiting_for=waiting_for)
        except OSError as error:
            raise MeetingError(_describe(self.path, error)) from error


def _has_published(home: Path) -> bool:
    """Whether a site has spoken, so that it is known in a meeting."""
    return bool(list_names(home, ending=_RECORD))


def _agree(path: Path, wanted: Charter) -> Charter:
    """The charter of a meeting, which whoever comes first writes.

    Args:
        path: The meeting's folder.
        wanted: What the site would write.

    Returns:
        What holds, also if another site has written it at the same moment.

    Raises:
        CharterError: The first site does not say how many are to come.
    """
    file = path / _CHARTER
    if not file.exists():
        if wanted.n_sites < QUORUM:
            raise CharterError(
                f"`--n-sites` must be at least {QUORUM} at the site that begins a meeting, got "
                f"{wanted.n_sites or 'nothing'}; pass --n-sites N, or --sites with all names"
            )
        write_new(file, dump_json(wanted).encode(), root=path)
    charter = _read_charter(file)
    if not wanted.sites and wanted.n_sites in (0, charter.n_sites):
        wanted = dataclasses.replace(wanted, n_sites=charter.n_sites, sites=charter.sites)
    charter.admit(wanted)
    return charter


def _read_charter(file: Path) -> Charter:
    """The charter of a meeting.

    Args:
        file: There it lies.

    Returns:
        It.

    Raises:
        CharterError: It is none.
    """
    content = file.read_bytes()
    try:
        return load_json(Charter, content)
    except ValidationError as error:
        line = str(error).split("\n", maxsplit=1)[0]
        raise CharterError(
            f"`--meeting` must hold a readable charter.json, got {line}; remove it if no site has "
            "begun, or name another folder at all sites"
        ) from error


def _list_missing(
    known: Collection[str], *, expected: set[str], seated: set[str], n_sites: int
) -> str:
    """Who has not come yet, for people; empty where all are there."""
    if expected:
        return ", ".join(sorted(expected - set(known)))
    n_missing = n_sites - len(known)
    named = ", ".join(sorted(seated - set(known)))
    count = f"{n_missing} of {n_sites} sites"
    return "" if n_missing <= 0 else f"{count} ({named})" if named else count


def _describe(path: Path, error: OSError) -> str:
    """What is wrong with the folder, and what helps."""
    remedy = "mount it for writing, or name another one at all sites"
    if isinstance(error, PermissionError):
        remedy = "let the group of all sites read and write it and what is in it (chmod -R g+rwX)"
    where = error.filename or path
    return (
        f"`--meeting` must be a folder to read and to write to, got {where}: "
        f"{error.strerror or error}; {remedy}"
    )
