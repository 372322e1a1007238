"""A network that takes only some batch sizes, made to take any."""

from typing import final

import torch
from torch import Tensor, nn

__all__ = ["BatchedNetwork"]


@final
class BatchedNetwork(nn.Module):
    """Splits a batch where it is too large for a network and fills it up where it is too small.

    Attributes:
        least: Pictures that the network takes at least.
        most: Pictures that it takes at most; none for no limit.
    """

    def __init__(self, network: nn.Module, *, least: int, most: int | None) -> None:
        super().__init__()
        self.network = network
        self.least = least
        self.most = most

    def forward(self, pictures: Tensor) -> Tensor:
        """The network's answer, picture by picture.

        Args:
            pictures: [batch channels height width] of any batch size.

        Returns:
            The rows that belong to them.
        """
        chunks = pictures.split(self.most or max(len(pictures), 1))
        return torch.cat([self._ask(chunk) for chunk in chunks])

    def _ask(self, chunk: Tensor) -> Tensor:
        """The answer to at most `most` pictures; the last one is repeated to fill up."""
        n_pictures = len(chunk)
        if n_pictures < self.least:
            filling = chunk[-1:].expand(self.least - n_pictures, -1, -1, -1)
            chunk = torch.cat([chunk, filling])
        return self.network(chunk)[:n_pictures]
