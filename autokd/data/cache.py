"""Pictures are decoded once: into memory, or into a file where they are too many for it."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from autokd.config import find_cache
from autokd.data.pictures import Pictures
from autokd.errors import DataError

__all__ = ["MEMORY_LIMIT_BYTES", "Decoded", "decode_pictures"]

MEMORY_LIMIT_BYTES = 2 * 2**30
"""Sets whose decoded pictures are larger live in a cache file."""

_CHUNK_BYTES = 64 * 2**20
_DECODING = 4  # how pictures become pixels: what an earlier way has decoded is not used again


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """Pictures as one tensor.

    Attributes:
        images: Those that could be read, in the order that was asked for.
        is_read: One flag per picture that was asked for.
    """

    images: UInt8[Tensor, "n c h w"]
    is_read: NDArray[np.bool_]


def decode_pictures(pictures: Pictures, indices: NDArray[np.int64], *, is_cached: bool) -> Decoded:
    """Reads pictures into one tensor.

    Args:
        pictures: Where from.
        indices: Which, and in what order.
        is_cached: Whether the tensor lies in a file, which is used again next time. Pictures
            without a fingerprint lie in memory anyway and are never cached.

    Returns:
        The pictures and which of them could be read.
    """
    if not is_cached or not pictures.fingerprint:
        images = np.empty((len(indices), *pictures.shape), dtype=np.uint8)
        is_read, at = np.zeros(len(indices), dtype=bool), 0
        for start, chunk in _read_chunks(pictures, indices):
            for offset, picture in enumerate(chunk):
                if picture is not None:
                    images[at], is_read[start + offset] = picture, True
                    at += 1
        return Decoded(images=torch.from_numpy(images[:at]), is_read=is_read)
    described = f"{_DECODING} {pictures.fingerprint} {pictures.shape} "
    key = hashlib.sha256(described.encode() + indices.tobytes())
    path = find_cache() / "data" / f"{key.hexdigest()}.u8"
    if not path.exists():
        _write_cache(path, pictures, indices)
    return _map_cache(path, n=len(indices), shape=pictures.shape)


def _read_chunks(
    pictures: Pictures, indices: NDArray[np.int64]
) -> Iterator[tuple[int, list[UInt8[np.ndarray, "c h w"] | None]]]:
    step = max(1, _CHUNK_BYTES // int(np.prod(pictures.shape)))
    for start in range(0, len(indices), step):
        yield start, pictures.read(indices[start : start + step])


def _write_cache(path: Path, pictures: Pictures, indices: NDArray[np.int64]) -> None:
    """The pictures that can be read, then one flag per picture asked for.

    Written rather than mapped: a full disk is an error here and a dead process there.

    Raises:
        DataError: The file cannot be written; nothing of it is left.
    """
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    is_read = np.zeros(len(indices), dtype=np.uint8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            for start, chunk in _read_chunks(pictures, indices):
                for offset, picture in enumerate(chunk):
                    if picture is not None:
                        file.write(picture.tobytes())
                        is_read[start + offset] = 1
            file.write(is_read.tobytes())
        temporary.replace(path)
    except OSError as error:
        need_mib = len(indices) * int(np.prod(pictures.shape)) / 2**20
        raise DataError(
            f"cache folder must have room for {need_mib:.0f} MiB, got {error.strerror} in "
            f"{path.parent}; free some or set AUTOKD_CACHE to a folder on another disk"
        ) from error
    finally:
        if temporary.exists():
            temporary.unlink()


def _map_cache(path: Path, *, n: int, shape: tuple[int, ...]) -> Decoded:
    with path.open("rb") as file:
        file.seek(-n, os.SEEK_END)
        is_read = np.frombuffer(file.read(), dtype=np.uint8).astype(bool)
    # mode c: private, so that torch may call it writable and the file stays as it is
    images = np.memmap(path, dtype=np.uint8, mode="c", shape=(int(is_read.sum()), *shape))
    return Decoded(images=torch.from_numpy(images), is_read=is_read)
