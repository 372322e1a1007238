"""Pictures without labels, and how they are read together with those that have some."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from autokd.config import Config
from autokd.data.arrays import build_array_pictures, check_pixels, read_npz
from autokd.data.folder import find_pictures, open_pictures, read_heads
from autokd.data.pictures import Pictures, StackedPictures, refuse_unreadable
from autokd.errors import DataError
from autokd.types import InputShape

__all__ = ["JoinedPictures", "Unlabelled", "load_unlabelled"]

_KEYS = ("x", "x_train")
_CHUNK = 1024


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Unlabelled:
    """Pictures without labels, before they are decoded.

    Attributes:
        pictures: To be read by their index, in the shape of the data set.
        n: How many there are.
        name: How to call them in a message.
        skipped: Names of pictures that are known to be unreadable and are not in `pictures`.
    """

    pictures: Pictures
    n: int
    name: str
    skipped: tuple[str, ...] = ()


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class JoinedPictures:
    """Pictures of two kinds as one, so that they are decoded into one tensor.

    Attributes:
        first: Those with the lower indices.
        second: Those with the higher ones; of the same shape.
        n_first: How many the first are.
        n_second: How many the second are.
    """

    first: Pictures
    second: Pictures
    n_first: int
    n_second: int

    @property
    def shape(self) -> InputShape:
        """Channels, height and width."""
        return self.first.shape

    @property
    def fingerprint(self) -> str:
        """Changes when either's does; empty where both lie in memory anyway."""
        if not self.first.fingerprint and not self.second.fingerprint:
            return ""
        first = self.first.fingerprint or _digest(self.first, n=self.n_first)
        return f"{first} {self.second.fingerprint or _digest(self.second, n=self.n_second)}"

    def name(self, index: int) -> str:
        """How its own kind calls it."""
        if index < self.n_first:
            return self.first.name(index)
        return self.second.name(index - self.n_first)

    def read(self, indices: NDArray[np.int64]) -> list[UInt8[np.ndarray, "c h w"] | None]:
        """The pictures at `indices` in that order; none for one that cannot be read."""
        is_first = indices < self.n_first
        first = iter(self.first.read(indices[is_first]))
        second = iter(self.second.read(indices[~is_first] - self.n_first))
        return [next(first if each else second) for each in is_first.tolist()]


def load_unlabelled(config: Config, *, shape: InputShape) -> Unlabelled:
    """The pictures that `--unlabelled` names, brought to the shape of the data set.

    Args:
        config: `unlabelled`, `unlabelled_limit`, and the seed that draws them.
        shape: Channels, height and width.

    Returns:
        The pictures, in the order of their source; none where the user names none.
    """
    if config.unlabelled is None:
        return Unlabelled(pictures=_stack_none(shape), n=0, name="")
    kind, _, rest = str(config.unlabelled).partition(":")
    if kind == "npz" and rest:
        return _load_npz(Path(rest).expanduser(), config, shape=shape)
    return _load_folder(config.unlabelled.expanduser(), config, shape=shape)


def _load_folder(root: Path, config: Config, *, shape: InputShape) -> Unlabelled:
    name = f"`--unlabelled {config.unlabelled}`"
    try:
        is_folder = root.is_dir()
    except OSError as error:  # a folder above it is closed, the name is too long
        raise DataError(f"{name} must be readable, got {error.strerror}") from error
    if not is_folder:
        got = "a file" if root.exists() else "no such folder"
        raise DataError(f"{name} must be a folder or npz:FILE, got {got}{_hint(root)}")
    paths = find_pictures(root, name=name)
    if not paths:
        raise DataError(f"{name} must hold pictures, got none in it or below; name another folder")
    paths = [paths[index] for index in _draw(len(paths), config)]
    heads = read_heads(paths)
    good = [path for path, head in zip(paths, heads, strict=True) if head is not None]
    skipped = [str(path) for path, head in zip(paths, heads, strict=True) if head is None]
    refuse_unreadable(skipped, share=len(skipped) / len(paths), name=name)
    return Unlabelled(
        pictures=open_pictures(good, shape), n=len(good), name=name, skipped=tuple(skipped)
    )


def _load_npz(path: Path, config: Config, *, shape: InputShape) -> Unlabelled:
    name = f"`--unlabelled npz:{path}`"
    arrays = read_npz(path, name=name)
    keys = [key for key in _KEYS if key in arrays]
    if not keys:
        got = ", ".join(sorted(arrays)) or "nothing"
        raise DataError(f"{name} must hold `x` or `x_train`, got {got}")
    pixels = check_pixels(arrays[keys[0]], name=f"{name}: `{keys[0]}`")
    drawn = _draw(len(pixels), config)
    if len(drawn) < len(pixels):
        pixels = pixels[drawn]
    return Unlabelled(pictures=build_array_pictures(pixels, shape), n=len(pixels), name=name)


def _draw(n: int, config: Config) -> NDArray[np.int64]:
    """At most `--unlabelled-limit` of `n`; what a small limit keeps, a larger one keeps too."""
    limit = n if config.unlabelled_limit is None else config.unlabelled_limit
    return np.sort(np.random.default_rng(config.seed).permutation(n)[:limit])


def _hint(path: Path) -> str:
    if path.suffix == ".npz":
        return f"; did you mean `npz:{path}`?"
    kind, _, rest = str(path).partition(":")
    return f"; did you mean `{rest}`?" if kind == "folder" and rest else ""


def _stack_none(shape: InputShape) -> StackedPictures:
    channels, height, width = shape
    return StackedPictures(pixels=np.empty((0, height, width, channels), dtype=np.uint8))


def _digest(pictures: Pictures, *, n: int) -> str:
    """SHA-256 of pictures that lie in memory."""
    digest = hashlib.sha256()
    for start in range(0, n, _CHUNK):
        for picture in pictures.read(np.arange(start, min(n, start + _CHUNK))):
            digest.update(b"" if picture is None else picture.tobytes())
    return digest.hexdigest()
