"""From a configuration to the pictures: what the search may see, and what it may not."""

import hashlib
import logging
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from autokd.config import Config
from autokd.data.cache import MEMORY_LIMIT_BYTES, decode_pictures
from autokd.data.pictures import refuse_unreadable
from autokd.data.sources import load_source
from autokd.data.splits import Splits, build_splits, check_trained
from autokd.types import DataCard

__all__ = ["SearchData", "TestData", "load_data", "load_test"]

_LOGGER = logging.getLogger("autokd.data")
_MIN_STD = 1e-3
"""Keeps a channel that never changes from being divided by zero."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class SearchData:
    """Everything the search may see; no pixel of the test split is in it.

    Attributes:
        card: What the data set is.
        train_images: Pixels in 0..255.
        train_labels: Below `card.n_classes`.
        val_images: Pixels in 0..255.
        val_labels: Below `card.n_classes`.
    """

    card: DataCard
    train_images: UInt8[Tensor, "n_train c h w"]
    train_labels: Int64[Tensor, " n_train"]
    val_images: UInt8[Tensor, "n_val c h w"]
    val_labels: Int64[Tensor, " n_val"]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TestData:
    """The test split, for the final report and for the parity of exports.

    Attributes:
        card: What the data set is; the same as the search's.
        images: Pixels in 0..255.
        labels: Below `card.n_classes`.
    """

    __test__: ClassVar[bool] = False  # pytest would collect it by its name

    card: DataCard
    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"]


def load_data(config: Config, *, memory_limit_bytes: int = MEMORY_LIMIT_BYTES) -> SearchData:
    """The training and the validation split.

    Args:
        config: Names the data set and how it is split.
        memory_limit_bytes: Larger sets are decoded into a cache file instead of memory.

    Returns:
        The same for the same configuration and files.
    """
    return _load(config, memory_limit_bytes=memory_limit_bytes)[0]


def load_test(config: Config, *, memory_limit_bytes: int = MEMORY_LIMIT_BYTES) -> TestData:
    """The test split; not to be called before the search has ended.

    Args:
        config: That of the search.
        memory_limit_bytes: Larger sets are decoded into a cache file instead of memory.

    Returns:
        The same for the same configuration and files.
    """
    return _load(config, memory_limit_bytes=memory_limit_bytes)[1]


def _load(config: Config, *, memory_limit_bytes: int) -> tuple[SearchData, TestData]:
    source = load_source(config, memory_limit_bytes=memory_limit_bytes)
    splits = build_splits(
        source.labels,
        source.roles,
        classes=source.classes,
        val_ratio=config.val_ratio,
        train_limit=config.train_limit,
        seed=config.seed,
    )
    pictures = source.pictures
    searched = np.concatenate([splits.train, splits.val])
    n_decoded = len(searched) + len(splits.test)
    is_cached = n_decoded * int(np.prod(pictures.shape)) > memory_limit_bytes
    search = decode_pictures(pictures, searched, is_cached=is_cached)
    test = decode_pictures(pictures, splits.test, is_cached=is_cached)

    failed = [*searched[~search.is_read].tolist(), *splits.test[~test.is_read].tolist()]
    skipped = [*source.skipped, *(pictures.name(index) for index in failed)]
    n_listed = len(source.labels) + len(source.skipped)
    share = len(source.skipped) / n_listed + len(failed) / n_decoded
    line = refuse_unreadable(skipped, share=share, name=config.data)
    if line:
        _LOGGER.warning("%s", line)
    n_train = len(splits.train)
    splits = Splits(
        train=splits.train[search.is_read[:n_train]],
        val=splits.val[search.is_read[n_train:]],
        test=splits.test[test.is_read],
    )
    n_train = len(splits.train)
    check_trained(source.labels[splits.train], source.classes)
    mean, std = _measure_pixels(search.images[:n_train])
    card = DataCard(
        name=config.data,
        digest=_digest([search.images, test.images], source.labels, splits=splits),
        shape=pictures.shape,
        classes=source.classes,
        mean=mean,
        std=std,
        n_train=n_train,
        n_val=len(splits.val),
        n_test=len(splits.test),
        n_skipped=len(skipped),
    )
    return (
        SearchData(
            card=card,
            train_images=search.images[:n_train],
            train_labels=torch.from_numpy(source.labels[splits.train]),
            val_images=search.images[n_train:],
            val_labels=torch.from_numpy(source.labels[splits.val]),
        ),
        TestData(
            card=card, images=test.images, labels=torch.from_numpy(source.labels[splits.test])
        ),
    )


def _measure_pixels(
    images: UInt8[Tensor, "n c h w"],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, exact, out of a histogram of the 256 levels."""
    n_channels = images.shape[1]
    counts = torch.zeros(n_channels, 256, dtype=torch.float64)
    for chunk in images.split(1024):
        for channel in range(n_channels):
            counts[channel] += torch.bincount(chunk[:, channel].reshape(-1), minlength=256)
    weights = counts / counts.sum(1, keepdim=True)
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = weights @ levels
    variance = (weights * (levels - mean[:, None]) ** 2).sum(1)
    return tuple(mean.tolist()), tuple(variance.sqrt().clamp_min(_MIN_STD).tolist())


def _digest(
    images: list[UInt8[Tensor, "_ c h w"]], labels: NDArray[np.int64], *, splits: Splits
) -> str:
    """SHA-256 of all splits' pictures, labels and indices, test included."""
    digest = hashlib.sha256()
    for each in images:
        digest.update(repr(tuple(each.shape)).encode())
        digest.update(each.numpy().reshape(-1).data)
    for indices in (splits.train, splits.val, splits.test):
        digest.update(repr(len(indices)).encode())
        digest.update(indices.astype("<i8").tobytes())
        digest.update(labels[indices].astype("<i8").tobytes())
    return digest.hexdigest()
