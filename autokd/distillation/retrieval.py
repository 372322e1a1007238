"""How often the right one of all texts, or of all pictures, is found."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

__all__ = ["Retrieval", "measure_retrieval", "measure_zero_shot"]


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
    cosines = images @ texts.T
    n_meanings = int(meanings.max()) + 1
    said = torch.zeros(len(images), n_meanings, dtype=torch.bool)
    said[owners, meanings] = True
    is_own = said[:, meanings]
    found = {
        (name, k): _recall(rows, own, k=k)
        for name, rows, own in (("text", cosines, is_own), ("image", cosines.T, is_own.T))
        for k in (1, 5)
    }
    return Retrieval(
        text_at_1=found["text", 1],
        text_at_5=found["text", 5],
        image_at_1=found["image", 1],
        image_at_5=found["image", 5],
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


def _recall(cosines: Tensor, is_own: Tensor, *, k: int) -> float:
    nearest = cosines.topk(min(k, cosines.shape[1]), dim=1).indices
    return float(is_own.gather(1, nearest).any(1).float().mean())
