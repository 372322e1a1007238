"""Data sets that are objects: torchvision's, and whatever a user's function returns."""

import difflib
import hashlib
import importlib
import inspect
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torchvision
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image

from autokd.config import Config
from autokd.data.arrays import build_array_source
from autokd.data.pictures import (
    TEST,
    TRAIN,
    UNREADABLE,
    LoosePictures,
    Source,
    as_picture,
    check_classes,
    choose_shape,
    fit_picture,
    refuse_unreadable,
)
from autokd.errors import DataError

__all__ = ["load_python", "load_torchvision"]

_NO_SETS = {"VisionDataset", "ImageFolder", "DatasetFolder"}
_SPLITS = {TRAIN: ("train", "trainval", "train-standard"), TEST: ("test", "val")}


@runtime_checkable
class ItemSet(Protocol):
    """A data set: so many items, each a picture and its label."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> object: ...


@dataclass(frozen=True, kw_only=True)
class _Items:
    """What a first pass over data sets has found; pixels are kept while they are few."""

    name: str
    memory_limit_bytes: int
    unreadable: tuple[type[Exception], ...]
    origins: list[tuple[ItemSet, int]] = field(default_factory=list)
    kept: list[UInt8[np.ndarray, "_h _w _c"] | None] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    roles: list[int] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, items: ItemSet, *, role: int) -> None:
        """Reads every item once."""
        n_bytes = sum(each.size for each in self.kept if each is not None)
        for index in range(_count(items, name=self.name)):
            try:
                picture, label = self.read(items, index)
            except self.unreadable:
                self.skipped.append(f"{self.name}[{index}]")
                continue
            n_bytes += picture.size
            self.digest.update(repr(picture.shape).encode() + picture.tobytes())
            self.origins.append((items, index))
            self.kept.append(picture if n_bytes <= self.memory_limit_bytes else None)
            self.shapes.append(picture.shape)
            self.labels.append(label)
            self.roles.append(role)

    def read(self, items: ItemSet, index: int) -> tuple[UInt8[np.ndarray, "h w c"], int]:
        """Pixels and label of one item."""
        name = f"{self.name}[{index}]"
        try:
            item = items[index]
        except self.unreadable:
            raise
        except Exception as error:
            raise DataError(_blame(name, error)) from error
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise DataError(f"{name} must be an image and a label, got {type(item).__name__}")
        image, label = item
        try:
            number = operator.index(label)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"{name}: label must be the integer of a class, got {type(label).__name__}"
            ) from error
        return as_picture(image, name=f"{name}: image"), number

    def decode(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """Pixels that were kept, or are read a second time."""
        kept = self.kept[index]
        return self.read(*self.origins[index])[0] if kept is None else kept


def load_torchvision(name: str, config: Config, *, memory_limit_bytes: int) -> Source:
    """A classification set of torchvision, with its own test split where it has one.

    Args:
        name: Of the class in `torchvision.datasets`, in any case.
        config: Where the set lies, and whether it may be fetched.
        memory_limit_bytes: Decoded pictures beyond this are read a second time.

    Returns:
        The source.

    Raises:
        DataError: There is no such set, it is not there, or it is not one of classes.
    """
    kind = _find_set(name)
    train = _open_set(kind, config, role=TRAIN)
    if train is None:
        raise DataError(
            f"`--data torchvision:{name}` must be a set that opens with a root and a split, got "
            "one that wants more; use python:module:function"
        )
    test = _open_set(kind, config, role=TEST)
    sets = [each for each in (train, test) if each is not None]
    arrays = [_take_arrays(each) for each in sets]
    classes = _name_classes(train)
    found = [each for each in arrays if each is not None]
    if len(found) == len(sets):
        return build_array_source(
            np.concatenate([pixels for pixels, _ in found]),
            np.concatenate([labels for _, labels in found]),
            n_train=len(found[0][1]),
            classes=classes,
            name=config.data,
            image_size=config.image_size,
        )
    items = _Items(name=config.data, memory_limit_bytes=memory_limit_bytes, unreadable=UNREADABLE)
    return _build_source(items, sets, classes=classes, image_size=config.image_size)


def load_python(spec: str, config: Config, *, memory_limit_bytes: int) -> Source:
    """What a user's function returns.

    Args:
        spec: `module:function`; modules of the working folder are found too. The function
            returns a training set, or a pair of a training and a test set or none.
        config: Which size is wanted.
        memory_limit_bytes: Decoded pictures beyond this are read a second time.

    Returns:
        The source.

    Raises:
        DataError: The function cannot be found, or it or its sets fail or give something else.
    """
    module, _, name = spec.partition(":")
    if not module or not name:
        raise DataError(f"`--data` must be python:module:function, got {config.data!r}")
    function = _import_function(module, name)
    try:
        result = function()
    except Exception as error:
        raise DataError(_blame(config.data, error)) from error
    train, test = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    sets = [train] if test is None else [train, test]
    for each in sets:
        if not isinstance(each, ItemSet) or isinstance(each, str | Mapping):
            raise DataError(
                f"{config.data} must return data sets or lists of (image, label), "
                f"got {type(each).__name__}"
            )
    items = _Items(name=config.data, memory_limit_bytes=memory_limit_bytes, unreadable=())
    return _build_source(items, sets, classes=_name_classes(train), image_size=config.image_size)


def _build_source(
    items: _Items,
    sets: Sequence[ItemSet],
    *,
    classes: list[str] | None,
    image_size: int | None,
) -> Source:
    for role, each in zip((TRAIN, TEST), sets, strict=False):
        items.add(each, role=role)
    n_items = len(items.labels) + len(items.skipped)
    refuse_unreadable(items.skipped, share=len(items.skipped) / max(1, n_items), name=items.name)
    labels = np.array(items.labels, dtype=np.int64)
    names = check_classes(labels, classes, name=items.name)
    shape = choose_shape(
        [(width, height) for height, width, _ in items.shapes],
        is_colour=any(channels == 3 for _, _, channels in items.shapes),
        image_size=image_size,
    )

    def decode(index: int) -> UInt8[np.ndarray, "c h w"]:
        pixels = items.decode(index)
        return fit_picture(
            Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels), shape
        )

    return Source(
        pictures=LoosePictures(
            decode=decode,
            names=[f"{items.name}[{index}]" for _, index in items.origins],
            shape=shape,
            fingerprint=items.digest.hexdigest(),
            is_threaded=all(
                each is not None for each in items.kept
            ),  # a user's data set may not stand threads
        ),
        labels=labels,
        roles=np.array(items.roles, dtype=np.int64),
        classes=names,
        skipped=tuple(items.skipped),
    )


def _blame(name: str, error: Exception) -> str:
    line = str(error).split("\n", maxsplit=1)[0]
    return f"{name} must run without an error, got {type(error).__name__}: {line}"


def _count(items: ItemSet, *, name: str) -> int:
    try:
        return len(items)
    except Exception as error:
        raise DataError(_blame(f"{name}: len()", error)) from error


def _name_classes(items: object) -> list[str] | None:
    classes = getattr(items, "classes", None)
    if isinstance(classes, list | tuple) and classes:
        return [str(each) for each in classes]
    return None


def _import_function(module: str, name: str) -> Callable[[], Any]:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except Exception as error:
        raise DataError(_blame(f"`--data python:{module}:{name}`", error)) from error
    function = getattr(found, name, None)
    if not callable(function):
        near = difflib.get_close_matches(name, dir(found), n=1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        raise DataError(
            f"`--data python:{module}:{name}` must name a function of {module}, got no {name}{hint}"
        )
    return function


def _find_set(name: str) -> type[Any]:
    found: dict[str, type[Any]] = {}
    for each in torchvision.datasets.__all__:
        kind = getattr(torchvision.datasets, each)
        is_set = isinstance(kind, type) and issubclass(kind, torchvision.datasets.VisionDataset)
        if is_set and each not in _NO_SETS:
            found[each.lower()] = kind
    if name.lower() in found:
        return found[name.lower()]
    near = difflib.get_close_matches(name.lower(), list(found), n=3)
    hint = f"; did you mean {' or '.join(found[each].__name__ for each in near)}?" if near else ""
    raise DataError(
        f"`--data` must name a classification set of torchvision.datasets, got {name!r}{hint}"
    )


def _open_set(kind: type[Any], config: Config, *, role: int) -> ItemSet | None:
    """The set in a role; none where it has no such split or wants to know more."""
    parameters = inspect.signature(kind).parameters
    given: dict[str, object] = {"root": config.data_root, "download": config.download}
    given = {key: value for key, value in given.items() if key in parameters}
    for choice in _choose_split(parameters, role=role):
        try:
            return kind(**given, **choice)
        except TypeError:  # wants an annotation file, a number of frames, ...
            return None
        except ValueError:  # calls its splits otherwise
            continue
        except (RuntimeError, OSError, ImportError) as error:
            rule = f"`--data {config.data}` must be in {config.data_root}"
            if config.download and "download" in parameters:
                line = str(error).split("\n", maxsplit=1)[0]
                raise DataError(f"{rule}, got a failed download: {line}") from error
            raise DataError(
                f"{rule}, got no such files; pass --download or put it in --data-root"
            ) from error
    return None


def _choose_split(
    parameters: Mapping[str, inspect.Parameter], *, role: int
) -> list[dict[str, object]]:
    if "train" in parameters:
        return [{"train": role == TRAIN}]
    if "split" in parameters and parameters["split"].default is not inspect.Parameter.empty:
        return [{"split": split} for split in _SPLITS[role]]
    return [{}] if role == TRAIN else []


def _take_arrays(
    items: object,
) -> tuple[UInt8[np.ndarray, "n h w c"], NDArray[np.int64]] | None:
    """`data` and `targets` of a set that has them as arrays, as MNIST and CIFAR do."""
    pixels, labels = getattr(items, "data", None), getattr(items, "targets", None)
    if not isinstance(pixels, np.ndarray | torch.Tensor):
        return None
    if not isinstance(labels, list | np.ndarray | torch.Tensor):
        return None
    pixels, labels = np.asarray(pixels), np.asarray(labels)
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    is_picture = pixels.dtype == np.uint8 and pixels.ndim == 4 and pixels.shape[3] in {1, 3}
    if not is_picture or labels.shape != pixels.shape[:1] or labels.dtype.kind not in "iu":
        return None
    return pixels, labels.astype(np.int64)
