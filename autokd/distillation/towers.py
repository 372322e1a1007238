"""A light dual tower: any network for pictures, a small transformer for texts, one space."""

import math
from typing import Any, cast, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["DualTower", "ImageTower", "TextTower"]

_SCALE = 1 / 0.07  # of the cosines, at first; CLIP's own
_MOST_SCALE = 100.0
_INIT_STD = 0.02
_MLP = 4


@final
class ImageTower(nn.Module):
    """A network whose outputs are an embedding of length 1; the normalisation is exported too."""

    def __init__(self, network: nn.Module) -> None:
        """Takes a network from pictures in [0, 1] to an output for each dimension."""
        super().__init__()
        self.network = network

    def forward(
        self, pictures: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch dims"]:
        """Embeddings of pictures in [0, 1]."""
        return F.normalize(self.network(pictures), dim=-1)


@final
class TextTower(nn.Module):
    """Tokens to an embedding of length 1: a transformer that sees the whole text.

    Tokens that only fill a text up are neither attended to nor averaged, so that a longer context
    changes nothing.
    """

    positions: nn.Parameter

    def __init__(
        self,
        *,
        n_tokens: int,
        padding: int,
        context: int,
        width: int,
        layers: int,
        heads: int,
        n_dims: int,
    ) -> None:
        """Draws fresh weights from torch's generator.

        Args:
            n_tokens: In the vocabulary.
            padding: The token that fills texts up.
            context: Tokens of a text at the most.
            width: Of a layer; a multiple of the heads.
            layers: How many.
            heads: Of the attention.
            n_dims: Of the embedding.
        """
        super().__init__()
        self.padding, self.context = padding, context
        self.tokens = nn.Embedding(n_tokens, width)
        self.positions = nn.Parameter(torch.empty(context, width))
        nn.init.normal_(self.tokens.weight, std=_INIT_STD)
        nn.init.normal_(self.positions, std=_INIT_STD / 2)
        layer = nn.TransformerEncoderLayer(
            width,
            heads,
            dim_feedforward=_MLP * width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_dims, bias=False)

    def forward(self, tokens: Int64[Tensor, "batch context"]) -> Float[Tensor, "batch dims"]:
        """Embeddings of texts."""
        is_empty = tokens == self.padding
        first = torch.arange(tokens.shape[1], device=tokens.device) == 0
        is_empty = is_empty & ~first  # of an empty text something must be left
        features = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        features = self.norm(self.layers(features, src_key_padding_mask=is_empty))
        kept = (~is_empty).to(features.dtype)[:, :, None]
        pooled = (features * kept).sum(1) / kept.sum(1)
        return F.normalize(self.head(pooled), dim=-1)


@final
class DualTower(nn.Module):
    """Both towers and how sharply their cosines are read.

    Attributes:
        image: Pictures in [0, 1] to embeddings.
        text: Tokens to embeddings.
        log_scale: Logarithm of the factor of the cosines, which is learnt.
    """

    def __init__(self, image: ImageTower, text: TextTower) -> None:
        """Joins them."""
        super().__init__()
        self.image, self.text = image, text
        self.log_scale = nn.Parameter(torch.tensor(math.log(_SCALE)))

    @property
    def scale(self) -> Float[Tensor, ""]:
        """Factor of the cosines."""
        return self.log_scale.exp()

    @torch.no_grad()
    def limit_scale(self) -> None:
        """Holds the factor to 100 at the most, in place, so that it can fall again."""
        self.log_scale.clamp_(max=math.log(_MOST_SCALE))

    def forward(self, pictures: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of both.

        Args:
            pictures: Float [batch channels height width] in [0, 1].
            tokens: Int64 [texts context].

        Returns:
            Rows of length 1.
        """
        return cast(Any, self.image)(pictures), cast(Any, self.text)(tokens)
