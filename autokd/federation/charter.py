"""What the sites of a federation agree on before anything is trained."""

import dataclasses
import hashlib
from typing import Literal, final

from autokd.errors import CharterError
from autokd.types import dump_json

__all__ = ["Charter", "Vote"]

Vote = Literal["mean", "confidence", "pictures", "sharpened"]
"""How the answers of several sites become one."""


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Charter:
    """All that must be alike at every site, or the answers could not be put together.

    It depends on the options of the site that writes it and on nothing else: two sites that come
    at once write the same bytes.

    Attributes:
        classes: Their names in the order of the labels.
        public_shape: Number, channels, height and width of the public pictures.
        public_digest: SHA-256 of their pixels.
        policy: How views of them are made; the same number gives the same view at every site.
        views: Of each picture.
        rounds: How often answers are exchanged.
        vote: How answers become one.
        n_sites: How many are expected.
        sites: Their names, where they were told.
    """

    classes: tuple[str, ...]
    public_shape: tuple[int, int, int, int]
    public_digest: str
    policy: str
    views: int
    rounds: int
    vote: Vote
    n_sites: int
    sites: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Tells the answers of this federation from those of another in the same folder."""
        return hashlib.sha256(dump_json(self).encode()).hexdigest()

    @property
    def answers_shape(self) -> tuple[int, int, int]:
        """Views, pictures and classes of a file of answers."""
        return self.views, self.public_shape[0], len(self.classes)

    def admit(self, other: "Charter") -> None:
        """Lets in a site that would have written the same charter.

        Args:
            other: What the site would have written.

        Raises:
            CharterError: It differs; the first difference is told.
        """
        for field, (name, remedy) in _TERMS.items():
            agreed, got = getattr(self, field), getattr(other, field)
            if agreed != got:
                raise CharterError(
                    f"{name} must be {_show(agreed)} as in the charter of the meeting, got "
                    f"{_show(got)}; {remedy}"
                )


_PICTURES = (
    "give all sites the same pictures, in files of the same names (an npz file is decoded alike by "
    "every version of Pillow)"
)
_TERMS = {
    "classes": (
        "classes of `--data`",
        "name them alike and in the same order at all sites; a site that lacks one needs an empty "
        "folder of its name, or `classes` in its npz file",
    ),
    "public_shape": (
        "number, channels, height and width of the `--public` pictures",
        "pass the same --public-limit and --image-size at all sites, and see that all have "
        "pictures in colour or all in grey: the public ones take the channels of a site's own",
    ),
    "public_digest": ("digest of the `--public` pictures", _PICTURES),
    "policy": (
        "augmentation of the recipe",
        "pass the same --recipe and --fix at all sites, and for randaugment install the same "
        "torchvision",
    ),
    "views": ("`--views`", "pass the same at all sites"),
    "rounds": ("`--rounds`", "pass the same at all sites"),
    "vote": ("`--vote`", "pass the same at all sites"),
    "n_sites": ("`--n-sites`", "pass the same at all sites, or leave it out"),
    "sites": ("`--sites`", "pass the same at all sites, or leave it out"),
}


def _show(value: object) -> str:
    """A value on one line that is not too long."""
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return (text if len(text) <= 80 else f"{text[:77]}...") or "nothing"
