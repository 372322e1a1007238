"""A student: a network behind the normalisation of its pictures."""

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Student"]


@final
class Student(nn.Module):
    """Takes pictures in [0, 1] and gives logits; the normalisation is part of what is exported."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, *, mean: Sequence[float], std: Sequence[float]) -> None:
        """Puts the normalisation before the network.

        Args:
            network: Takes normalised pictures.
            mean: Per channel, of pixels in [0, 1].
            std: Per channel.
        """
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(
        self, views: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits of pictures in [0, 1]."""
        return self.network((views - self.mean) / self.std)
