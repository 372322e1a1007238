"""The spaces of NNI's hub, made to fit pictures of any size and number of channels.

Use one by its name: `--space hub:MobileNetV3Space`. Grey pictures are repeated to three
channels, and small ones enlarged to the least side that the space was made for.

References:
    Zhang et al., "Retiarii: A Deep Learning Exploratory-Training Framework", OSDI 2020; the
    papers of the single spaces are named in NNI's documentation of its hub.
"""

from collections.abc import Callable
from typing import Any, cast

from nni.nas.hub import pytorch as hub
from nni.nas.nn.pytorch import ModelSpace
from torch import Tensor, nn
from torch.nn import functional as F

LEAST_SIDE = {
    "ProxylessNAS": 32,
    "MobileNetV3Space": 32,
    "ShuffleNetSpace": 64,
    "AutoFormer": 224,
    "NasBench201": 8,
    "DARTS": 16,
}


class FitInput(nn.Module):
    """Pictures with three channels and a least side."""

    def __init__(self, channels: int, side: int, least_side: int) -> None:
        super().__init__()
        self.repeats = 3 if channels == 1 else 1
        self.size = least_side if side < least_side or least_side == 224 else None

    def forward(self, pictures: Tensor) -> Tensor:
        """The same pictures, repeated and enlarged."""
        pictures = pictures.repeat(1, self.repeats, 1, 1) if self.repeats > 1 else pictures
        if self.size is None:
            return pictures
        return F.interpolate(pictures, size=(self.size, self.size), mode="bilinear")


class HubSpace(ModelSpace):
    """A space of the hub behind the fitting of its input."""

    def __init__(self, fit_input: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.fit_input = fit_input
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits of normalised pictures."""
        return self.network(self.fit_input(pictures))


def build(
    input_shape: tuple[int, int, int], n_classes: int, *, name: str = "MobileNetV3Space"
) -> ModelSpace:
    """The hub's space `name` for pictures of `input_shape` (channels, height, width).

    Args:
        input_shape: Channels (1 or 3), height and width.
        n_classes: Logits of the students.
        name: A key of `LEAST_SIDE`.

    Returns:
        The wrapped space.

    Raises:
        ValueError: The hub has no such space, or the pictures have neither 1 nor 3 channels.
    """
    if name not in LEAST_SIDE:
        raise ValueError(f"`hub:` must name one of {', '.join(LEAST_SIDE)}, got {name}")
    if input_shape[0] not in (1, 3):
        raise ValueError(f"pictures must have 1 or 3 channels, got {input_shape[0]}")
    space: Callable[..., nn.Module] = getattr(hub, name)
    arguments: dict[str, Any] = {"num_labels": n_classes}
    if name == "DARTS":
        arguments = {"dataset": "cifar", "width": 16, "num_cells": (4, 8)}
    network = space(**arguments)
    if name == "DARTS" and n_classes != 10:
        raise ValueError(f"hub:DARTS must be used with 10 classes, got {n_classes}")
    fit_input = FitInput(input_shape[0], min(input_shape[1:]), LEAST_SIDE[name])
    return cast("ModelSpace", HubSpace(fit_input, network))
