"""What a student learns from: pictures with labels and pictures without, as one list."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from autokd.data.loading import SearchData

__all__ = ["NO_LABEL", "TrainingPictures", "join_unlabelled"]

NO_LABEL = -1
"""Stands where a picture has no label."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingPictures:
    """Both kinds of training pictures, and the validation split as it is.

    Attributes:
        train_images: The training split, then the pictures without labels; pixels in 0..255.
        train_labels: Of the training split, then `NO_LABEL` for each of the others.
        val_images: Pixels in 0..255.
        val_labels: Below the number of classes.
    """

    train_images: UInt8[Tensor, "n c h w"]
    train_labels: Int64[Tensor, " n"]
    val_images: UInt8[Tensor, "n_val c h w"]
    val_labels: Int64[Tensor, " n_val"]


def join_unlabelled(data: SearchData) -> TrainingPictures:
    """The training split and the pictures without labels as one list.

    Nothing is copied but the labels: `load_data` leaves both kinds side by side, in memory or
    in one cache file. Pictures that come from elsewhere are copied into a new tensor in memory.

    Args:
        data: With or without such pictures.

    Returns:
        The list; the training split itself where there are none.
    """
    n = len(data.unlabelled_images)
    labels = data.train_labels
    return TrainingPictures(
        train_images=_join(data.train_images, data.unlabelled_images),
        train_labels=torch.cat([labels, labels.new_full((n,), NO_LABEL)]) if n else labels,
        val_images=data.val_images,
        val_labels=data.val_labels,
    )


def _join(
    first: UInt8[Tensor, "n c h w"], second: UInt8[Tensor, "m c h w"]
) -> UInt8[Tensor, "both c h w"]:
    """A view of both where the second lies right behind the first, else a copy."""
    if len(second) == 0:
        return first
    is_behind = (
        first.is_contiguous()
        and second.is_contiguous()
        and first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
        and first.storage_offset() + first.numel() == second.storage_offset()
    )
    if not is_behind:
        return torch.cat([first, second])
    size = (len(first) + len(second), *first.shape[1:])
    return first.as_strided(size, first.stride(), first.storage_offset())
