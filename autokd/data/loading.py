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
from autokd.data.cache import MEMORY_LIMIT_BYTES, Decoded, decode_pictures
from autokd.data.pictures import Source, refuse_unreadable
from autokd.data.sources import load_source
from autokd.data.splits import Splits, build_splits, check_trained
from autokd.data.unlabelled import JoinedPictures, Unlabelled, load_unlabelled
from autokd.errors import DataError
from autokd.types import DataCard, InputShape

__all__ = ["PublicData", "SearchData", "TestData", "load_data", "load_public", "load_test"]

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
        unlabelled_images: Pixels in 0..255; of length 0 where the user gave none. They lie
            right behind `train_images`, so that `join_unlabelled` need not copy.
    """

    card: DataCard
    train_images: UInt8[Tensor, "n_train c h w"]
    train_labels: Int64[Tensor, " n_train"]
    val_images: UInt8[Tensor, "n_val c h w"]
    val_labels: Int64[Tensor, " n_val"]
    unlabelled_images: UInt8[Tensor, "n_unlabelled c h w"]


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


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class PublicData:
    """The pictures without labels that all sites of a federation hold.

    Attributes:
        images: Pixels in 0..255.
        digest: SHA-256 of them.
    """

    images: UInt8[Tensor, "n c h w"]
    digest: str


def load_data(config: Config, *, memory_limit_bytes: int = MEMORY_LIMIT_BYTES) -> SearchData:
    """The training and the validation split, and the pictures without labels.

    Args:
        config: Names the data set, how it is split, and where pictures without labels lie.
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


def load_public(
    config: Config, *, shape: InputShape, memory_limit_bytes: int = MEMORY_LIMIT_BYTES
) -> PublicData:
    """The pictures that `--public` names, the same at every site whatever its seed.

    Args:
        config: `public` and `public_limit`.
        shape: Of the site's own pictures, to which they are brought.
        memory_limit_bytes: Larger sets are decoded into a cache file instead of memory.

    Returns:
        The pictures, in the order of their source.

    Raises:
        DataError: They cannot be read.
    """
    as_unlabelled = {
        "unlabelled": config.public,
        "unlabelled_limit": config.public_limit,
        "seed": 0,
    }
    try:
        found = load_unlabelled(config.model_copy(update=as_unlabelled), shape=shape)
        is_cached = found.n * int(np.prod(shape)) > memory_limit_bytes
        decoded = decode_pictures(found.pictures, np.arange(found.n), is_cached=is_cached)
        _warn_of_unreadable(found, decoded)
    except DataError as error:
        raise DataError(str(error).replace("`--unlabelled", "`--public")) from error
    return PublicData(images=decoded.images, digest=_digest_unlabelled(decoded.images))


def _load(config: Config, *, memory_limit_bytes: int) -> tuple[SearchData, TestData]:
    source = load_source(config, memory_limit_bytes=memory_limit_bytes)
    splits = build_splits(
        source.labels,
        source.roles,
        classes=source.classes,
        val_ratio=config.val_ratio,
        train_limit=config.train_limit,
        seed=config.seed,
        may_lack=config.is_federated,
    )
    unlabelled = load_unlabelled(config, shape=source.pictures.shape)
    decoded = _decode(source, splits, unlabelled, memory_limit_bytes=memory_limit_bytes)
    n_skipped = _count_skipped(source, splits, decoded, name=config.data)
    _warn_of_unreadable(unlabelled, decoded.unlabelled)
    splits = Splits(
        train=splits.train[decoded.train.is_read],
        val=splits.val[decoded.val.is_read],
        test=splits.test[decoded.test.is_read],
    )
    check_trained(source.labels[splits.train], source.classes, may_lack=config.is_federated)
    train, val, test = decoded.train.images, decoded.val.images, decoded.test.images
    mean, std = _measure_pixels(train)
    card = DataCard(
        name=config.data,
        digest=_digest([[train, val], [test]], source.labels, splits=splits),
        shape=source.pictures.shape,
        classes=source.classes,
        mean=mean,
        std=std,
        n_train=len(train),
        n_val=len(val),
        n_test=len(test),
        n_skipped=n_skipped,
        n_unlabelled=len(decoded.unlabelled.images),
        unlabelled_digest=_digest_unlabelled(decoded.unlabelled.images),
    )
    return (
        SearchData(
            card=card,
            train_images=train,
            train_labels=torch.from_numpy(source.labels[splits.train]),
            val_images=val,
            val_labels=torch.from_numpy(source.labels[splits.val]),
            unlabelled_images=decoded.unlabelled.images,
        ),
        TestData(card=card, images=test, labels=torch.from_numpy(source.labels[splits.test])),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _DecodedSplits:
    """What could be read of each split, and of the pictures without labels."""

    train: Decoded
    val: Decoded
    test: Decoded
    unlabelled: Decoded


def _decode(
    source: Source, splits: Splits, unlabelled: Unlabelled, *, memory_limit_bytes: int
) -> _DecodedSplits:
    """All but the test split as one tensor, the pictures without labels behind the training's."""
    n_source = len(source.labels)
    pictures = JoinedPictures(
        first=source.pictures,
        second=unlabelled.pictures,
        n_first=n_source,
        n_second=unlabelled.n,
    )
    parts = [splits.val, splits.train, np.arange(n_source, n_source + unlabelled.n)]
    n_decoded = sum(len(part) for part in (*parts, splits.test))
    is_cached = n_decoded * int(np.prod(pictures.shape)) > memory_limit_bytes
    search = decode_pictures(pictures, np.concatenate(parts), is_cached=is_cached)
    test = decode_pictures(source.pictures, splits.test, is_cached=is_cached)
    flags = np.split(search.is_read, np.cumsum([len(part) for part in parts])[:-1])
    images = search.images.split([int(each.sum()) for each in flags])
    val, train, rest = (
        Decoded(images=some, is_read=each) for some, each in zip(images, flags, strict=True)
    )
    return _DecodedSplits(train=train, val=val, test=test, unlabelled=rest)


def _count_skipped(source: Source, splits: Splits, decoded: _DecodedSplits, *, name: str) -> int:
    """How many pictures with labels cannot be read, where they are few enough."""
    asked = np.concatenate([splits.train, splits.val, splits.test])
    is_read = np.concatenate([decoded.train.is_read, decoded.val.is_read, decoded.test.is_read])
    failed = asked[~is_read].tolist()
    skipped = [*source.skipped, *(source.pictures.name(index) for index in failed)]
    n_listed = len(source.labels) + len(source.skipped)
    share = len(source.skipped) / n_listed + len(failed) / len(asked)
    line = refuse_unreadable(skipped, share=share, name=name)
    if line:
        _LOGGER.warning("%s", line)
    return len(skipped)


def _warn_of_unreadable(unlabelled: Unlabelled, decoded: Decoded) -> None:
    """Names the pictures without labels that cannot be read, where they are few enough."""
    failed = np.flatnonzero(~decoded.is_read).tolist()
    skipped = [*unlabelled.skipped, *(unlabelled.pictures.name(index) for index in failed)]
    share = len(skipped) / max(1, unlabelled.n + len(unlabelled.skipped))
    line = refuse_unreadable(skipped, share=share, name=unlabelled.name)
    if line:
        _LOGGER.warning("%s", line)


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
    images: list[list[UInt8[Tensor, "_ c h w"]]], labels: NDArray[np.int64], *, splits: Splits
) -> str:
    """SHA-256 of all splits' pictures, labels and indices, test included."""
    digest = hashlib.sha256()
    for parts in images:
        n = sum(len(each) for each in parts)
        digest.update(repr((n, *parts[0].shape[1:])).encode())
        for each in parts:
            digest.update(each.numpy().reshape(-1).data)
    for indices in (splits.train, splits.val, splits.test):
        digest.update(repr(len(indices)).encode())
        digest.update(indices.astype("<i8").tobytes())
        digest.update(labels[indices].astype("<i8").tobytes())
    return digest.hexdigest()


def _digest_unlabelled(images: UInt8[Tensor, "n c h w"]) -> str:
    """SHA-256 of pictures; empty where there are none."""
    if len(images) == 0:
        return ""
    digest = hashlib.sha256(repr(tuple(images.shape)).encode())
    digest.update(images.numpy().reshape(-1).data)
    return digest.hexdigest()
