"""Pictures with captions, cut into seeded splits by picture; and folders of named classes."""

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from autokd.data.cache import MEMORY_LIMIT_BYTES, decode_pictures
from autokd.data.folder import find_pictures, open_pictures, read_heads
from autokd.data.pictures import refuse_unreadable
from autokd.errors import DataError

__all__ = ["NamedPictures", "Pairs", "load_named_pictures", "load_pairs"]

_CHANNELS = 3
_MOST_SHOWN = 5
_LEAST = 2  # pictures of a split: one alone is always told apart
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Pictures, each with its captions; no picture is in two splits.

    Attributes:
        paths: Of the pictures.
        captions: Of each picture, one at least.
        train: Indices of those that are learnt from.
        val: Indices of those that choose.
        test: Indices of those that report.
        skipped: What is to be said of pictures that cannot be read; empty where all can.
    """

    paths: tuple[Path, ...]
    captions: tuple[tuple[str, ...], ...]
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    skipped: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of captions, splits, and names, sizes and times of the files."""
        digest = hashlib.sha256(open_pictures(self.paths, (_CHANNELS, 1, 1)).fingerprint.encode())
        digest.update(json.dumps(self.captions).encode())
        for part in (self.train, self.val, self.test):
            digest.update(part.tobytes() + b"|")
        return digest.hexdigest()

    def read(self, indices: NDArray[np.int64], *, side: int) -> UInt8[Tensor, "n 3 side side"]:
        """Pictures in a square of this many pixels, in the order of the indices.

        Args:
            indices: Which.
            side: Of the square; the shorter side is resized to it and the centre cut out.

        Returns:
            In memory, or mapped from the cache where they are too many for it.
        """
        return _read([self.paths[index] for index in indices.tolist()], side=side)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class NamedPictures:
    """Pictures whose class has a name.

    Attributes:
        paths: Of the pictures.
        labels: Which class each is of.
        classes: Their names.
    """

    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of names, sizes and times of the files."""
        return open_pictures(self.paths, (_CHANNELS, 1, 1)).fingerprint

    def read(self, *, side: int) -> UInt8[Tensor, "n 3 side side"]:
        """All of them in a square of this many pixels."""
        return _read(self.paths, side=side)


def load_pairs(
    file: Path, *, val_ratio: float, test_ratio: float, limit: int | None, seed: int
) -> Pairs:
    """Pictures and captions that a file names; the pictures are not decoded yet.

    Args:
        file: .csv or .tsv with a head and a line for each caption, or .jsonl; `image` is a path
            relative to the file, `caption` a text, in .jsonl a list of them too.
        val_ratio: Share of the pictures that choose.
        test_ratio: Share that reports.
        limit: Pictures at the most, drawn at random; what a small limit keeps, a larger one
            keeps too.
        seed: Of the splits.

    Returns:
        The same for the same file and seed.

    Raises:
        DataError: The file cannot be read, lacks a column, names a picture that is not there, or
            names too few.
    """
    name = f"`--pairs {file}`"
    found: dict[Path, list[str]] = {}
    for number, row in _read_rows(file, name=name):
        image, said = row.get("image"), row.get("caption")
        captions = said if isinstance(said, list) else [said]
        is_good = all(isinstance(text, str) and text.strip() for text in (image, *captions))
        if not is_good or not captions:
            missing = "caption" if isinstance(image, str) and image.strip() else "image"
            raise DataError(f"{name} must have image and caption in each line, got no {missing} in "
                            f"line {number}; mend or remove it")  # fmt: skip
        place = (file.parent / str(image).strip()).resolve()  # however it is spelt
        found.setdefault(place, []).extend(str(text).strip() for text in captions)
    paths = [path for path in found if path.is_file()]
    if len(paths) < len(found):
        gone = next(path for path in found if not path.is_file())
        raise DataError(
            f"{name} must name pictures that are there, got {len(found) - len(paths)} that are "
            f"not, the first being {gone}; paths are relative to the file"
        )
    heads = read_heads(paths)
    broken = [str(path) for path, head in zip(paths, heads, strict=True) if head is None]
    skipped = refuse_unreadable(broken, share=len(broken) / max(1, len(paths)), name=name)
    good = [path for path, head in zip(paths, heads, strict=True) if head is not None]
    kept = np.random.default_rng(seed).permutation(len(good))[:limit]
    n_val, n_test = (max(_LEAST, round(ratio * len(kept))) for ratio in (val_ratio, test_ratio))
    if len(kept) - n_val - n_test < _LEAST:
        raise DataError(
            f"{name} must name {3 * _LEAST} pictures or more, got {len(kept)}; add some"
        )
    val, test, train = map(np.sort, np.split(kept, [n_val, n_val + n_test]))
    return Pairs(
        paths=tuple(good),
        captions=tuple(tuple(found[path]) for path in good),
        train=train,
        val=val,
        test=test,
        skipped=skipped,
    )


def load_named_pictures(folder: Path, *, option: str) -> NamedPictures:
    """Pictures below a folder, one sub-folder a class.

    Args:
        folder: The names of its sub-folders are those of the classes, with `_` for a space.
        option: That the user named it with.

    Returns:
        All of them, not decoded yet.

    Raises:
        DataError: There is no such folder, or fewer than two classes with pictures in it.
    """
    name = f"`{option} {folder}`"
    if not folder.is_dir():
        raise DataError(f"{name} must be a folder, got no such folder")
    members = {
        each.name: find_pictures(each, name=name)
        for each in sorted(folder.iterdir())
        if each.is_dir() and each.name[0] != "."
    }
    members = {each: paths for each, paths in members.items() if paths}
    if len(members) < 2:
        raise DataError(
            f"{name} must hold two sub-folders with pictures or more, got {len(members)}"
        )
    labels = [label for label, paths in enumerate(members.values()) for _ in paths]
    return NamedPictures(
        paths=tuple(path for paths in members.values() for path in paths),
        labels=np.array(labels, dtype=np.int64),
        classes=tuple(each.replace("_", " ") for each in members),
    )


def _read(paths: Sequence[Path], *, side: int) -> UInt8[Tensor, "n 3 side side"]:
    pictures = open_pictures(paths, (_CHANNELS, side, side))
    n_bytes = len(paths) * _CHANNELS * side * side
    decoded = decode_pictures(
        pictures, np.arange(len(paths)), is_cached=n_bytes > MEMORY_LIMIT_BYTES
    )
    if not decoded.is_read.all():
        broken = [
            str(path) for path, is_read in zip(paths, decoded.is_read, strict=True) if not is_read
        ]
        shown = ", ".join(broken[:_MOST_SHOWN]) + (", ..." if len(broken) > _MOST_SHOWN else "")
        raise DataError(
            f"pictures must be readable, got {len(broken)} that are not: {shown}; mend them or "
            "leave them out"
        )
    return torch.as_tensor(decoded.images)


def _read_rows(file: Path, *, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Number and fields of each line."""
    kind = file.suffix.lower()
    if kind not in (*_DELIMITERS, *_JSON_LINES):
        known = ", ".join((*_DELIMITERS, *_JSON_LINES))
        raise DataError(f"{name} must be a file that ends with one of {known}, got {file.name}")
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            if kind in _JSON_LINES:
                yield from _parse_json(lines)
            else:
                yield from _parse_table(lines, kind=kind, name=name)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise DataError(f"{name} must be readable, got {error}") from error
    except KeyError as error:
        raise DataError(f"{name} must have the columns image and caption, got none called {error}; "
                        "rename them in its first line") from error  # fmt: skip


def _parse_table(
    lines: Iterable[str], *, kind: str, name: str
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows of a table, each of one line: a quotation mark that is never closed hides none."""
    is_tabs = kind == ".tsv"
    rows = _split_tabs(lines) if is_tabs else _split_commas(lines)
    remedy = "take the tab out of its text" if is_tabs else "quote a text that holds a comma"
    _, head = next(rows, (1, []))
    for wanted in ("image", "caption"):
        if wanted not in head:
            raise KeyError(wanted)
    for number, cells in rows:
        row = dict(zip(head, cells, strict=False))
        if any(_is_broken(row.get(wanted, "")) for wanted in ("image", "caption")):
            raise DataError(f"{name} must have image and caption in one line, got a line break "
                            f"between quotation marks in line {number}; close or double the "
                            "quotation mark, or join the lines")  # fmt: skip
        if any(cell.strip() for cell in cells[len(head) :]):
            raise DataError(f"{name} must have {len(head)} cells in each line as in its first, got "
                            f"{len(cells)} in line {number}; {remedy}")  # fmt: skip
        yield number, row


def _is_broken(cell: str) -> bool:
    """Whether there is a line break within it."""
    return any(end in cell.strip() for end in "\r\n")


def _split_commas(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Cells of each row and where it begins; what is no CSV is a `csv.Error`."""
    reader, number = csv.reader(lines, strict=True), 1
    try:
        for cells in reader:
            if cells:
                yield number, cells
            number = reader.line_num + 1
    except csv.Error as error:
        raise csv.Error(f"{error} in what begins in line {number}") from error


def _split_tabs(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Cells of each line; most such files quote nothing, and some what holds a quotation mark."""
    for number, line in enumerate(lines, start=1):
        if line.strip("\r\n"):
            yield number, [_unquote(cell) for cell in line.strip("\r\n").split("\t")]


def _unquote(cell: str) -> str:
    """A cell without quotation marks, where it is all between two and each inside is doubled."""
    inner = cell[1:-1]
    is_quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if is_quoted else cell


def _parse_json(lines: Iterable[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            row = json.loads(line)
            yield number, row if isinstance(row, dict) else {}
