"""A small vision transformer, from 8x8 grey to 224x224 colour.

Searched: the side of a patch, width, depth, heads and the ratio of the hidden layer.

References:
    Dosovitskiy et al., "An Image is Worth 16x16 Words", 2020. https://arxiv.org/abs/2010.11929
    Beyer, Zhai & Kolesnikov, "Better plain ViT baselines for ImageNet-1k", 2022 (mean of the
    tokens instead of a class token). https://arxiv.org/abs/2205.01580
"""

from typing import cast

import torch
from nni.mutable import Categorical
from nni.nas.nn.pytorch import (
    ModelSpace,
    MutableLayerNorm,
    MutableLinear,
    ParametrizedModule,
    Repeat,
)
from torch import Tensor, nn
from torch.nn import functional as F


class Patches(nn.Module):
    """Cuts pictures into patches and adds where each of them was."""

    def __init__(self, n_in: int, side: tuple[int, int], patch: int, width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(n_in, width, patch, patch)
        n_tokens = (side[0] // patch) * (side[1] // patch)
        self.position = nn.Parameter(torch.zeros(1, n_tokens, width))
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, pictures: Tensor) -> Tensor:
        """Tokens: (batch, patches, width)."""
        return self.project(pictures).flatten(2).transpose(1, 2) + self.position


class Encoder(nn.Module):
    """Self-attention and a hidden layer, each beside a shortcut, normalised before."""

    def __init__(self, width: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm_hidden = nn.LayerNorm(width)
        self.hidden = nn.Sequential(
            nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of the same shape."""
        joined = self.query_key_value(self.norm_attention(tokens))
        query, key, value = joined.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.project(seen.transpose(1, 2).flatten(2))
        return tokens + self.hidden(self.norm_hidden(tokens))


class MutablePatches(ParametrizedModule, Patches, wraps=Patches):
    """Patches whose arguments may be searched."""


class MutableEncoder(ParametrizedModule, Encoder, wraps=Encoder):
    """An encoder whose arguments may be searched."""


class VisionTransformerSpace(ModelSpace):
    """All small vision transformers for one size of picture."""

    def __init__(self, input_shape: tuple[int, int, int], n_classes: int) -> None:
        super().__init__()
        side = input_shape[1:]
        finest = max(2, min(side) // 14)
        patch = Categorical([2 * finest, finest], label="patch")
        width = Categorical([64, 32, 96, 128], label="width")
        heads = Categorical([2, 4], label="heads")
        ratio = Categorical([2, 1, 4], label="ratio")
        depth = Categorical([4, 2, 3, 6], label="depth")
        self.patches = MutablePatches(input_shape[0], side, patch, width)

        def build_encoder(index: int) -> nn.Module:  # noqa: ARG001 - all are alike
            return MutableEncoder(width, heads, ratio)

        self.encoders = Repeat(build_encoder, depth)
        self.norm = MutableLayerNorm(width)
        self.head = MutableLinear(width, n_classes)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits of normalised pictures."""
        return self.head(self.norm(self.encoders(self.patches(pictures))).mean(1))


def build(input_shape: tuple[int, int, int], n_classes: int) -> ModelSpace:
    """The space for pictures of `input_shape` (channels, height, width)."""
    return cast("ModelSpace", VisionTransformerSpace(input_shape, n_classes))
