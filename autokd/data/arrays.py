"""Sources that are arrays already: scikit-learn's digits and `.npz` files."""

import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits as load_sklearn_digits

from autokd.data.pictures import (
    TEST,
    TRAIN,
    LoosePictures,
    Pictures,
    Source,
    StackedPictures,
    check_classes,
    fit_picture,
)
from autokd.errors import DataError
from autokd.types import InputShape

__all__ = [
    "build_array_pictures",
    "build_array_source",
    "check_pixels",
    "load_digits",
    "load_npz",
    "read_npz",
]

_BROKEN = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


def build_array_pictures(pixels: UInt8[np.ndarray, "n h w c"], shape: InputShape) -> Pictures:
    """Pictures out of an array.

    Args:
        pixels: Grey or colour.
        shape: Channels, height and width wanted.

    Returns:
        The array itself where it has that shape; else pictures that are fitted when read.
    """
    _, height, width, channels = pixels.shape
    if shape == (channels, height, width):
        return StackedPictures(pixels=pixels)

    def decode(index: int) -> UInt8[np.ndarray, "c h w"]:
        picture = pixels[index]
        return fit_picture(Image.fromarray(picture[:, :, 0] if channels == 1 else picture), shape)

    return LoosePictures(
        decode=decode,
        names=[f"picture {index}" for index in range(len(pixels))],
        shape=shape,
        fingerprint=hashlib.sha256(np.ascontiguousarray(pixels).reshape(-1).data).hexdigest(),
    )


def build_array_source(
    pixels: UInt8[np.ndarray, "n h w c"],
    labels: NDArray[np.int64],
    *,
    n_train: int,
    classes: Sequence[object] | None,
    name: str,
    image_size: int | None,
) -> Source:
    """A source out of arrays.

    Args:
        pixels: The training pictures, then those of the test split.
        labels: One per picture.
        n_train: Where the test split begins.
        classes: Names, or none to number them.
        name: How to call the source in a message.
        image_size: Side of the square wanted, or none to leave them as they are.

    Returns:
        The source; resized pictures are made when they are read.
    """
    names = check_classes(labels, classes, name=name)
    roles = np.full(len(labels), TEST, dtype=np.int64)
    roles[:n_train] = TRAIN
    _, height, width, channels = pixels.shape
    shape = (channels, image_size or height, image_size or width)
    pictures = build_array_pictures(pixels, shape)
    return Source(pictures=pictures, labels=labels, roles=roles, classes=names)


def load_digits(*, image_size: int | None) -> Source:
    """The 1797 handwritten digits of 8x8 pixels that come with scikit-learn.

    Args:
        image_size: Side of the square wanted, in pixels.

    Returns:
        The source; its 17 grey levels are spread over 0..255.
    """
    digits: Any = load_sklearn_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int64)
    return build_array_source(
        pixels,
        labels,
        n_train=len(labels),
        classes=None,
        name="digits",
        image_size=image_size,
    )


def load_npz(path: Path, *, image_size: int | None) -> Source:
    """The arrays `x_train`, `y_train` and, if there, `x_test`, `y_test`, `classes` of a file.

    Args:
        path: Written by `numpy.savez`; nothing in it is unpickled.
        image_size: Side of the square wanted, in pixels.

    Returns:
        The source.

    Raises:
        DataError: The file cannot be read, or an array is missing or not as it must be.
    """
    name = f"npz:{path}"
    arrays = read_npz(path, name=f"`--data {name}`")
    missing = [key for key in ("x_train", "y_train") if key not in arrays]
    if ("x_test" in arrays) != ("y_test" in arrays):
        missing.append("y_test" if "x_test" in arrays else "x_test")
    if missing:
        raise DataError(
            f"{name} must hold `{missing[0]}`, got {', '.join(sorted(arrays)) or 'nothing'}"
        )
    parts = ["train", "test"] if "x_test" in arrays else ["train"]
    pixels = [check_pixels(arrays[f"x_{part}"], name=f"{name}: `x_{part}`") for part in parts]
    labels = [
        _check_labels(arrays[f"y_{part}"], n=len(x), name=f"{name}: `y_{part}`")
        for part, x in zip(parts, pixels, strict=True)
    ]
    if pixels[-1].shape[1:] != pixels[0].shape[1:]:
        raise DataError(
            f"{name}: `x_test` must hold pictures of {pixels[0].shape[1:]} as `x_train` does, "
            f"got {pixels[-1].shape[1:]}"
        )
    return build_array_source(
        np.concatenate(pixels) if len(pixels) > 1 else pixels[0],
        np.concatenate(labels),
        n_train=len(labels[0]),
        classes=_check_names(arrays.get("classes"), name=f"{name}: `classes`"),
        name=name,
        image_size=image_size,
    )


def read_npz(path: Path, *, name: str) -> dict[str, NDArray[Any]]:
    """The arrays of a file.

    Args:
        path: Written by `numpy.savez`; nothing in it is unpickled.
        name: How to call it in a message.

    Returns:
        Key to array.

    Raises:
        DataError: The file cannot be read or is no such file.
    """
    rule = f"{name} must be a readable file of numpy.savez"
    try:
        with path.open("rb") as file:  # np.load would leave a broken one open
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise DataError(f"{rule}, got a single array; save it under the key x_train")
            return {key: arrays[key] for key in arrays.files}
    except _BROKEN as error:
        raise DataError(f"{rule}, got {type(error).__name__}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", maxsplit=1)[0]


def check_pixels(pixels: NDArray[Any], *, name: str) -> UInt8[np.ndarray, "n h w c"]:
    """The array of pictures, once it is known to be one.

    Args:
        pixels: From a file.
        name: How to call it in a message.

    Returns:
        The same with channels last, one where there was none.

    Raises:
        DataError: It is not uint8, has another shape or is empty.
    """
    if pixels.dtype != np.uint8:
        raise DataError(f"{name} must be uint8, got {pixels.dtype}; scale it to 0..255")
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim != 4 or pixels.shape[3] not in {1, 3} or pixels.size == 0:
        raise DataError(f"{name} must be NHW or NHWC with 1 or 3 channels, got {pixels.shape}")
    return pixels


def _check_labels(labels: NDArray[Any], *, n: int, name: str) -> NDArray[np.int64]:
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{name} must be a row of integers, got {labels.dtype} of {labels.shape}")
    if len(labels) != n:
        raise DataError(f"{name} must hold {n} labels, one a picture, got {len(labels)}")
    return labels.astype(np.int64)


def _check_names(classes: NDArray[Any] | None, *, name: str) -> list[str] | None:
    if classes is None:
        return None
    if classes.ndim != 1:
        raise DataError(f"{name} must be a row of names, got an array of {classes.shape}")
    return [each.decode() if isinstance(each, bytes) else str(each) for each in classes.tolist()]
