"""A picture of any kind becomes uint8 of one shape; a source is many of them with labels."""

import os
import statistics
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from autokd.errors import DataError
from autokd.types import InputShape

__all__ = [
    "TEST",
    "TRAIN",
    "UNREADABLE",
    "VAL",
    "LoosePictures",
    "Pictures",
    "Source",
    "StackedPictures",
    "as_picture",
    "check_classes",
    "choose_shape",
    "fit_picture",
    "is_grey",
    "refuse_unreadable",
    "run_threaded",
    "upright_size",
]

T = TypeVar("T")
U = TypeVar("U")

TRAIN, VAL, TEST = 0, 1, 2
"""Roles: what a source wants a picture to be used for."""

UNREADABLE = (
    OSError,
    SyntaxError,  # a broken PNG
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow raises at files that are no pictures or broken ones."""

_LYING = (5, 6, 7, 8)  # orientations of a camera that was held on its side
_MAX_SIDE, _MAX_COMMON = 224, 512
_MAX_SKIPPED = 0.01
_MAX_THREADS = 8


@runtime_checkable
class Pictures(Protocol):
    """Pictures that are decoded when they are read, all to one shape."""

    @property
    def shape(self) -> InputShape:
        """Channels, height and width of what is read."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes when a picture may have; empty where all lie in memory anyway."""
        ...

    def name(self, index: int) -> str:
        """How to call a picture in a message."""
        ...

    def read(self, indices: NDArray[np.int64]) -> list[UInt8[np.ndarray, "c h w"] | None]:
        """The pictures at `indices` in that order; none for one that cannot be read."""
        ...


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class StackedPictures:
    """Pictures that lie in memory in one array.

    Attributes:
        pixels: All of them, channels last.
    """

    pixels: UInt8[np.ndarray, "n h w c"]
    fingerprint: str = ""

    @property
    def shape(self) -> InputShape:
        """Channels, height and width."""
        _, height, width, channels = self.pixels.shape
        return channels, height, width

    def name(self, index: int) -> str:
        """Its number."""
        return f"picture {index}"

    def read(self, indices: NDArray[np.int64]) -> list[UInt8[np.ndarray, "c h w"] | None]:
        """The pictures at `indices`; they can always be read."""
        return list(self.pixels[indices].transpose(0, 3, 1, 2))


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class LoosePictures:
    """Pictures that are decoded and fitted one by one.

    Attributes:
        decode: From the index to the fitted picture; raises one of `UNREADABLE`.
        names: One per picture.
        shape: Channels, height and width.
        fingerprint: Changes when a picture may have.
        is_threaded: Whether `decode` may run in several threads.
    """

    decode: Callable[[int], UInt8[np.ndarray, "c h w"]]
    names: Sequence[str]
    shape: InputShape
    fingerprint: str
    is_threaded: bool = True

    def name(self, index: int) -> str:
        """How to call a picture in a message."""
        return self.names[index]

    def read(self, indices: NDArray[np.int64]) -> list[UInt8[np.ndarray, "c h w"] | None]:
        """The pictures at `indices` in that order; none for one that cannot be read."""
        if self.is_threaded:
            return run_threaded(self._read_one, indices.tolist())
        return [self._read_one(index) for index in indices.tolist()]

    def _read_one(self, index: int) -> UInt8[np.ndarray, "c h w"] | None:
        try:
            return self.decode(index)
        except UNREADABLE:
            return None


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """Labelled pictures with what they are meant for, before splits are cut.

    Attributes:
        pictures: To be read by their index.
        labels: One per picture, below the number of classes.
        roles: `TRAIN`, `VAL` or `TEST`, one per picture.
        classes: Names in the order of the labels.
        skipped: Names of pictures that are known to be unreadable and are not in `pictures`.
    """

    pictures: Pictures
    labels: NDArray[np.int64]
    roles: NDArray[np.int64]
    classes: tuple[str, ...]
    skipped: tuple[str, ...] = ()


def run_threaded(function: Callable[[T], U], items: Iterable[T]) -> list[U]:
    """What `function` gives for each item, in order; Pillow decodes outside the interpreter lock.

    Args:
        function: Called once per item, several at a time.
        items: Its arguments.

    Returns:
        One result per item.
    """
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, items))


def is_grey(mode: str) -> bool:
    """Whether a Pillow mode has one channel of light, alpha aside."""
    return mode in {"1", "L", "LA", "La", "F"} or mode.startswith("I")


def choose_shape(
    sizes: Sequence[tuple[int, int]], *, is_colour: bool, image_size: int | None
) -> InputShape:
    """The one shape that pictures of these sizes are brought to.

    Args:
        sizes: Width and height of each picture.
        is_colour: Whether any has colour.
        image_size: What the user wants, in pixels.

    Returns:
        The wanted square; else the common size, where no side is over 512; else a square of the
        median shorter side, at most 224 and a multiple of 8.
    """
    channels = 3 if is_colour else 1
    if image_size is not None:
        return channels, image_size, image_size
    if len(set(sizes)) == 1 and max(sizes[0]) <= _MAX_COMMON:
        width, height = sizes[0]
        return channels, height, width
    shorter = min(_MAX_SIDE, int(statistics.median(min(size) for size in sizes)))
    side = max(8, shorter // 8 * 8)
    return channels, side, side


def fit_picture(image: Image.Image, shape: InputShape) -> UInt8[np.ndarray, "c h w"]:
    """The picture with its shorter side resized and its centre cut out, antialiased.

    Args:
        image: Of any mode and size; turned upright if its camera says that it is not;
            transparent parts become white.
        shape: Channels, height and width wanted.

    Returns:
        Pixels in 0..255.
    """
    channels, height, width = shape
    image = _convert(_turn(image), "L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), method=Image.Resampling.BILINEAR)
    return np.array(image, dtype=np.uint8).reshape(height, width, channels).transpose(2, 0, 1)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of a picture once it is turned upright; its pixels are not read.

    A PNG that says behind its pixels how it lies is taken as it lies.

    Args:
        image: As it was opened.

    Returns:
        Pixels.
    """
    width, height = image.size
    is_told = image.format != "PNG" or "exif" in image.info
    is_lying = is_told and _orientation(image) in _LYING
    return (height, width) if is_lying else (width, height)


def _orientation(image: Image.Image) -> int:
    """How the camera was held: 1 where it was upright, or nobody says or says what is none."""
    told: object = image.getexif().get(ExifTags.Base.Orientation)
    return told if isinstance(told, int) and told in range(1, 9) else 1


def _turn(image: Image.Image) -> Image.Image:
    """The picture as people look at it; `exif_transpose` copies one that need not be turned."""
    return image if _orientation(image) == 1 else ImageOps.exif_transpose(image)


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, which Pillow's convert would clip at 255
        high = np.asarray(image).astype(np.int64).clip(0, 65535) // 256
        image = Image.fromarray(high.astype(np.uint8))
    elif image.mode == "F":  # grey light in [0, 1] or in 0..255, which convert would only cut off
        light = np.nan_to_num(np.asarray(image))
        light = light * 255 if light.max() <= 1 else light
        image = Image.fromarray(light.clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:  # a palette's, a colour key's or a channel of its own
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image if image.mode == mode else image.convert(mode)


def as_picture(image: object, *, name: str) -> UInt8[np.ndarray, "h w c"]:
    """The pixels of what a user's data set gives as a picture.

    Args:
        image: A Pillow image; or an array or tensor that is HW, HWC or CHW, uint8 or a float
            in [0, 1]. Where the order is in doubt, a tensor is CHW and an array HWC.
        name: How to call it in a message.

    Returns:
        Pixels in 0..255 with 1 or 3 channels.

    Raises:
        DataError: It is none of these.
    """
    if isinstance(image, Image.Image):
        image, grey = _turn(image), is_grey(image.mode)
        return np.array(_convert(image, "L" if grey else "RGB")).reshape(
            image.height, image.width, 1 if grey else 3
        )
    if not isinstance(image, np.ndarray | torch.Tensor):
        raise DataError(
            f"{name} must be a Pillow image, an array or a tensor, got {type(image).__name__}"
        )
    is_tensor = isinstance(image, torch.Tensor)
    array = image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else image
    return _as_bytes(_channels_last(array, is_tensor=is_tensor, name=name), name=name)


def _channels_last(
    array: NDArray[np.generic], *, is_tensor: bool, name: str
) -> NDArray[np.generic]:
    if array.ndim == 2 and array.size:
        return array[:, :, None]
    if array.ndim == 3 and array.size:
        is_first, is_last = (array.shape[axis] in {1, 3} for axis in (0, 2))
        if is_first and (is_tensor or not is_last):
            return array.transpose(1, 2, 0)
        if is_last:
            return array
    raise DataError(f"{name} must be HW, HWC or CHW with 1 or 3 channels, got {array.shape}")


def _as_bytes(array: NDArray[np.generic], *, name: str) -> UInt8[np.ndarray, "h w c"]:
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array, dtype=np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{name} must be uint8 or a float in [0, 1], got {array.dtype}")
    values = array.astype(np.float64)
    if not (values.min() >= 0 and values.max() <= 1):  # false for nan
        raise DataError(
            f"{name} must lie in [0, 1], got {values.min():g} to {values.max():g}; "
            "leave normalisation to autokd"
        )
    return np.rint(values * 255).astype(np.uint8)


def check_classes(
    labels: NDArray[np.int64], classes: Sequence[object] | None, *, name: str
) -> tuple[str, ...]:
    """The names of the classes, once the labels are known to fit them.

    Args:
        labels: Of all splits.
        classes: Names, or none to number them.
        name: How to call the source in a message.

    Returns:
        One name per class.

    Raises:
        DataError: Labels are negative, have gaps or go beyond the names.
    """
    if labels.size == 0:
        raise DataError(f"{name} must hold pictures, got none")
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        raise DataError(f"{name}: labels must not be negative, got {low}")
    if classes is not None:
        if high >= len(classes):
            raise DataError(f"{name}: labels must be below the {len(classes)} classes, got {high}")
        return tuple(str(each) for each in classes)
    if len(np.unique(labels)) <= high:
        missing = next(each for each in range(high) if not (labels == each).any())
        raise DataError(f"{name}: labels must run from 0 to {high} without a gap, got no {missing}")
    return tuple(str(each) for each in range(high + 1))


def refuse_unreadable(skipped: Sequence[str], *, share: float, name: str) -> str:
    """The line that names pictures which cannot be read, if there are few enough of them.

    Args:
        skipped: Their names.
        share: Of all pictures, in [0, 1].
        name: How to call the source in a message.

    Returns:
        How many there are and what the first three are called; empty where there are none.

    Raises:
        DataError: There are 1 % or more.
    """
    if not skipped:
        return ""
    named = ", ".join(skipped[:3]) + (", ..." if len(skipped) > 3 else "")
    if share >= _MAX_SKIPPED:
        raise DataError(
            f"{name} must hold less than 1 % unreadable pictures, got {len(skipped)} "
            f"({share:.1%}): {named}; mend or remove them"
        )
    return f"{name}: {len(skipped)} unreadable pictures skipped ({share:.2%}): {named}"
