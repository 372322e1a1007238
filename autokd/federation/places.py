"""Who takes part in a meeting: one card for each site, in which it says that it is that site."""

import dataclasses
import random
import re
import time
from pathlib import Path
from typing import NoReturn, final

from pydantic import ValidationError

from autokd.errors import CharterError
from autokd.federation.charter import Charter
from autokd.federation.files import list_names, write_new
from autokd.types import dump_json, load_json

__all__ = ["Places"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_CARD_BYTES = 4096
_TRIES = 5  # at the last place, if others try for it too
_STEP_ASIDE_S = 0.2


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class _Card:
    """What a site says of itself.

    Attributes:
        site: Its name. The file is called so, too: a copy that a synchronised folder makes of it
            in a conflict has another name and is no site.
        token: A random number.
    """

    site: str
    token: str


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Places:
    """The places of a meeting.

    Attributes:
        path: The meeting's folder.
        charter: Says how many there are and perhaps whose.
    """

    path: Path
    charter: Charter

    def list_taken(self) -> set[str]:
        """Names of the sites that have come."""
        names = list_names(self.path / "sites", ending=".json")
        return {name for name in names if self._may_be(name) and self._has_card(name)}

    def find_again(self, site: str) -> None:
        """Makes sure that this is the meeting in which a site has spoken before.

        What it has heard there would be told as new in another one.

        Args:
            site: Its name.

        Raises:
            CharterError: It has no card here, be it that the folder is not mounted.
        """
        if not self._file(site).exists():
            raise CharterError(
                f"`--meeting` must be the one in which site {site} has published before, got "
                f"{self.path}, which has no card of it; mount that one, or pass another --study"
            )

    def take(self, site: str, *, token: str) -> None:
        """Takes a place, or comes back to it.

        Args:
            site: Name of who comes.
            token: What tells it from another site of that name.

        Raises:
            CharterError: The name is another site's, or no place is left.
        """
        if self.charter.sites and site not in self.charter.sites:
            raise CharterError(
                f"`--site` must be one of {', '.join(self.charter.sites)} as in the charter of "
                f"the meeting, got {site}; pass one of them"
            )
        for _ in range(_TRIES):
            if self._try_to_take(site, token=token):
                self.check(site, token=token)
                return
            time.sleep(random.uniform(0, _STEP_ASIDE_S))
        self._refuse(site, taken=self.list_taken())

    def check(self, site: str, *, token: str) -> None:
        """Makes sure that nobody else speaks under a name.

        Args:
            site: The name.
            token: Of who speaks under it.

        Raises:
            CharterError: Somebody else does.
        """
        if self._read(site) != _Card(site=site, token=token):
            raise CharterError(
                f"`--site` must be a name of its own, got {site}, which another site has taken in "
                f"{self.path}; pass another --site, or the --runs-dir that this site began with"
            )

    def _try_to_take(self, site: str, *, token: str) -> bool:
        """Lays down a card if there is room; takes it back where others came at the same time."""
        taken = self.list_taken()
        if site in taken:
            return True
        if len(taken) >= self.charter.n_sites:
            self._refuse(site, taken=taken)
        card = dump_json(_Card(site=site, token=token)).encode()
        is_laid = write_new(self._file(site), card, root=self.path)
        if not is_laid or len(self.list_taken()) <= self.charter.n_sites:
            return True
        self._file(site).unlink(missing_ok=True)
        return False

    def _refuse(self, site: str, *, taken: set[str]) -> NoReturn:
        """Says that there is no room.

        Args:
            site: For whom.
            taken: By whom.

        Raises:
            CharterError: Always.
        """
        raise CharterError(
            f"`--n-sites` must leave a place for site {site}, got {self.charter.n_sites} taken by "
            f"{', '.join(sorted(taken))}; begin another meeting in an empty --meeting folder"
        )

    def _may_be(self, name: str) -> bool:
        names = self.charter.sites
        return _NAME.fullmatch(name) is not None and (name in names if names else True)

    def _has_card(self, name: str) -> bool:
        try:
            return self._read(name).site == name
        except FileNotFoundError:  # taken back meanwhile
            return False

    def _file(self, site: str) -> Path:
        return self.path / "sites" / f"{site}.json"

    def _read(self, site: str) -> _Card:
        """A card; one of nobody where it is no card."""
        with self._file(site).open("rb") as file:
            content = file.read(_CARD_BYTES)
        try:
            return load_json(_Card, content)
        except ValidationError:
            return _Card(site="", token="")
