"""A folder of pictures, one sub-folder a class."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from autokd.data.pictures import (
    TEST,
    TRAIN,
    UNREADABLE,
    VAL,
    LoosePictures,
    Source,
    choose_shape,
    fit_picture,
    is_grey,
    refuse_unreadable,
    run_threaded,
    upright_size,
)
from autokd.errors import DataError
from autokd.types import InputShape

__all__ = ["find_pictures", "load_folder", "open_pictures", "read_heads"]

_N_LOOKED_INTO = 32  # pictures of 16 bits
_LEAST_LIGHT = 4096  # that one of them must reach: of 12 bits in 16, 4 would be left
_ROLES = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST}


@dataclass(frozen=True, kw_only=True)
class _File:
    path: Path
    label: int
    role: int


def load_folder(root: Path, *, image_size: int | None, may_lack: bool = False) -> Source:
    """The pictures below a folder, with or without `train/`, `val/` and `test/` in between.

    Args:
        root: Its sub-folders are the classes, or splits whose sub-folders are the classes.
        image_size: Side of the square wanted, in pixels.
        may_lack: Whether the folder of a class may be empty.

    Returns:
        The source; only the heads of the files have been read.

    Raises:
        DataError: There is no such folder, its structure is not as above, a class has no
            picture, 1 % of the files or more cannot be read, or pictures of 16 bits use 12 of them.
    """
    name = f"folder:{root}"
    if not root.is_dir():
        raise DataError(f"`--data {name}` must be a folder, got no such folder")
    folders = _find_splits(root, name=name)
    classes = _find_classes(folders, name=name)
    files = [
        _File(path=path, label=label, role=role)
        for role, folder in folders.items()
        for label, each in enumerate(classes)
        for path in _find_members(folder / each, name=name, may_lack=may_lack)
    ]
    if not files:
        raise DataError(f"{name} must hold pictures, got none in any class")
    heads = read_heads([file.path for file in files])
    good = [(file, head) for file, head in zip(files, heads, strict=True) if head is not None]
    skipped = [str(file.path) for file, head in zip(files, heads, strict=True) if head is None]
    refuse_unreadable(skipped, share=len(skipped) / len(files), name=name)
    _refuse_shallow([file.path for file, (_, mode) in good if mode.startswith("I")], name=name)
    shape = choose_shape(
        [size for _, (size, _) in good],
        is_colour=not all(is_grey(mode) for _, (_, mode) in good),
        image_size=image_size,
    )
    return Source(
        pictures=open_pictures([file.path for file, _ in good], shape),
        labels=np.array([file.label for file, _ in good], dtype=np.int64),
        roles=np.array([file.role for file, _ in good], dtype=np.int64),
        classes=classes,
        skipped=tuple(skipped),
    )


def find_pictures(folder: Path, *, name: str) -> list[Path]:
    """The files in a folder and below it whose names are those of pictures, in order.

    Args:
        folder: Searched with all its sub-folders but for hidden ones; links are followed.
        name: How to call it in a message.

    Returns:
        Their paths; they may be unreadable all the same.

    Raises:
        DataError: A folder cannot be looked into.
    """
    faults: list[OSError] = []
    paths: list[Path] = []
    readable = {
        suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN
    }
    for at, folders, files in os.walk(folder, followlinks=True, onerror=faults.append):
        folders[:] = [each for each in folders if each[0] != "."]  # thumbnails, checkpoints
        paths += [
            Path(at) / file
            for file in files
            if file[0] != "." and Path(file).suffix.lower() in readable
        ]
    if faults:
        got = f"{faults[0].strerror} in {faults[0].filename}"
        raise DataError(
            f"{name} must be readable, got {got}; move it away or change its permissions"
        )
    return sorted(paths)


def read_heads(paths: Sequence[Path]) -> list[tuple[tuple[int, int], str] | None]:
    """Width and height and mode of each file, without decoding it.

    Args:
        paths: Of pictures.

    Returns:
        One entry per file; none for one that is no picture.
    """
    return run_threaded(_read_head, paths)


def open_pictures(paths: Sequence[Path], shape: InputShape) -> LoosePictures:
    """Files that are decoded and fitted when they are read.

    Args:
        paths: Of files whose heads could be read.
        shape: Channels, height and width wanted.

    Returns:
        The pictures in the same order.
    """

    def decode(index: int) -> UInt8[np.ndarray, "c h w"]:
        with Image.open(paths[index]) as image:
            return fit_picture(image, shape)

    return LoosePictures(
        decode=decode,
        names=[str(path) for path in paths],
        shape=shape,
        fingerprint=_fingerprint(paths),
    )


def _refuse_shallow(paths: Sequence[Path], *, name: str) -> None:
    """Looks into some pictures of 16 bits, of which the upper 8 will be kept.

    Raises:
        DataError: They are so dark that next to nothing would be left.
    """
    some = paths[:: max(1, len(paths) // _N_LOOKED_INTO)][:_N_LOOKED_INTO]
    lights = [light for light in run_threaded(_brightest, some) if light is not None]
    if lights and max(lights) < _LEAST_LIGHT:
        raise DataError(
            f"{name}: pictures of 16 bits must reach {_LEAST_LIGHT} of 65535, got {max(lights)} in "
            f"the brightest of {len(lights)}; scale them to all of their 16 bits, or to 8"
        )


def _brightest(path: Path) -> int | None:
    try:
        with Image.open(path) as image:
            return int(np.asarray(image).max())
    except UNREADABLE:
        return None


def _find_folders(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir() and each.name[0] != ".")


def _find_splits(root: Path, *, name: str) -> dict[int, Path]:
    """Role to folder; a class may be called `train` too, if pictures lie right in it."""
    folders = _find_folders(root)
    if not folders:
        raise DataError(f"{name} must hold one sub-folder a class, got no sub-folder")
    named = [each for each in folders if each.name.lower() in _ROLES]
    if not any(_find_folders(each) for each in named):
        return {TRAIN: root}
    roles = [_ROLES[each.name.lower()] for each in named]
    if len(set(roles)) < len(roles) or TRAIN not in roles:
        got = ", ".join(f"{each.name}/" for each in named)
        raise DataError(f"{name} must hold train/ and at most one val/ and test/, got {got}")
    return dict(sorted(zip(roles, named, strict=True)))


def _find_classes(folders: dict[int, Path], *, name: str) -> tuple[str, ...]:
    classes = {role: [each.name for each in _find_folders(at)] for role, at in folders.items()}
    for role, found in classes.items():
        differing = sorted(set(found) ^ set(classes[TRAIN]))
        if differing:
            raise DataError(
                f"{name}: {folders[role].name}/ must hold the classes of train/, "
                f"got a difference in {', '.join(differing[:3])}"
            )
    strange = [each for each in classes[TRAIN] if not _is_text(each)]
    if strange:
        raise DataError(
            f"{name}: a class must have a name in UTF-8, got {strange[0]!a}; rename its folder"
        )
    return tuple(classes[TRAIN])


def _is_text(name: str) -> bool:
    """Whether a name of the file system is one that files and MLflow can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _find_members(folder: Path, *, name: str, may_lack: bool) -> list[Path]:
    paths = find_pictures(folder, name=name)
    if not paths and not may_lack:
        raise DataError(
            f"{name}: each class must have a picture, got none in {folder}; remove it or fill it"
        )
    return paths


def _read_head(path: Path) -> tuple[tuple[int, int], str] | None:
    try:
        with Image.open(path) as image:
            return upright_size(image), image.mode
    except UNREADABLE:
        return None


def _fingerprint(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        state = path.stat()
        line = f"{path.resolve()}\0{state.st_size}\0{state.st_mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))  # a name may be of any bytes
    return digest.hexdigest()
