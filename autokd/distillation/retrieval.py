"""How often the right one of all texts, or of all pictures, is found."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

__all__ = ["Retrieval", "measure_retrieval", "measure_zero_shot"]

_MOST = 5
_BLOCK = 1024  # rows whose cosines with all others are held at once


@final
@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Recalls within a split, each a share in [0, 1].

    Attributes:
        text_at_1: Of pictures: the nearest text is one of its own.
        text_at_5: One of its own is among the nearest five.
        image_at_1: Of texts: the nearest picture is its own.
        image_at_5: Its own is among the nearest five.
    """

    text_at_1: float
    text_at_5: float
    image_at_1: float
    image_at_5: float

    @property
    def mean(self) -> float:
        """Of both directions at 1: what students are chosen and compared by."""
        return (self.text_at_1 + self.image_at_1) / 2


def measure_retrieval(
    images: Float[Tensor, "images dims"],
    texts: Float[Tensor, "texts dims"],
    *,
    owners: Int64[Tensor, " texts"],
    meanings: Int64[Tensor, " texts"],
) -> Retrieval:
    """Recalls of pictures and texts among each other.

    A text that two pictures share belongs to both.

    Args:
        images: Rows of length 1.
        texts: Likewise.
        owners: Which picture each text was written for.
        meanings: Equal for equal texts.

    Returns:
        The recalls.
    """
    n_meanings = int(meanings.max()) + 1
    said = (owners * n_meanings + meanings).unique()
    numbers = torch.arange(len(images))
    texts_found = _find_nearest(images, texts)
    images_found = _find_nearest(texts, images)
    own_text = torch.isin(numbers[:, None] * n_meanings + meanings[texts_found], said)
    own_image = torch.isin(images_found * n_meanings + meanings[:, None], said)
    return Retrieval(
        text_at_1=_share(own_text[:, :1]),
        text_at_5=_share(own_text),
        image_at_1=_share(own_image[:, :1]),
        image_at_5=_share(own_image),
    )


def measure_zero_shot(
    images: Float[Tensor, "images dims"],
    names: Float[Tensor, "classes dims"],
    labels: Int64[Tensor, " images"],
) -> float:
    """Share of pictures whose nearest name is that of their class, in [0, 1].

    Args:
        images: Rows of length 1.
        names: Of the classes' names; likewise.
        labels: Classes of the pictures.

    Returns:
        Top-1 accuracy.
    """
    return float(((images @ names.T).argmax(1) == labels).float().mean())


def _find_nearest(rows: Tensor, others: Tensor) -> Tensor:
    """Numbers of the nearest five others of each row, the nearest first."""
    most = min(_MOST, len(others))
    parts = [(part @ others.T).topk(most, dim=1).indices for part in rows.split(_BLOCK)]
    return torch.cat(parts)


def _share(is_own: Tensor) -> float:
    return float(is_own.any(1).float().mean())
