"""What is made when the user has no teacher or assistant: a residual network sized to the data."""

import bisect
import math
from typing import Any, TypedDict, cast

import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from autokd.teachers.preprocessing import Preprocessing
from autokd.teachers.teacher import Source
from autokd.types import DataCard

__all__ = ["build_auto", "choose_size", "scale_size"]

_STEMLESS = 64  # pixels; larger pictures get the strided stem of ImageNet
_WIDTHS = range(4, 257, 2)  # of the first stage, in channels; the stem halves it


class Size(TypedDict):
    """Blocks and channels of the four stages; a stage of no blocks is left out."""

    layers: tuple[int, int, int, int]
    channels: tuple[int, int, int, int]


def choose_size(data: DataCard, *, has_cuda: bool) -> Size:
    """How deep and wide a network for a data set is.

    Args:
        data: Its picture size and number of training pictures decide.
        has_cuda: Whether a GPU trains and asks it.

    Returns:
        3 MMACs at 8x8, 36 at 32x32 (556 on a GPU), 1.8 G at 224x224 (ResNet-18).
    """
    side, n_train = max(data.shape[1:]), data.n_train
    if side > _STEMLESS:
        deep = has_cuda and n_train >= 10_000
        layers = (3, 3, 3, 3) if deep else (2, 2, 2, 2)
        return Size(layers=layers, channels=(64, 128, 256, 512))
    if side <= 16:  # two halvings, and the last stage has four pixels at most
        layers = (2, 2, 2, 0) if n_train >= 10_000 else (1, 1, 1, 0)
        return Size(layers=layers, channels=(32, 64, 128, 128))
    if has_cuda:
        wide = n_train >= 10_000
        channels = (64, 128, 256, 512) if wide else (32, 64, 128, 256)
        return Size(layers=(2, 2, 2, 2), channels=channels)
    channels = (24, 48, 96, 192) if side <= 32 else (16, 32, 64, 128)
    return Size(layers=(1, 1, 1, 1), channels=channels)


def scale_size(size: Size, *, data: DataCard, n_params: int) -> Size:
    """A network of the same depth and another width.

    Args:
        size: Its blocks and the proportions of its stages are kept.
        data: What the network is for.
        n_params: How many parameters it should have.

    Returns:
        The width whose number of parameters is nearest in its logarithm, from 4 to 256 channels
        in the first stage: within 25 % from 200 000 parameters on, more coarsely below.
    """

    def widen(width: int) -> Size:
        first, second, third, last = (width * c // size["channels"][0] for c in size["channels"])
        return Size(layers=size["layers"], channels=(first, second, third, last))

    def log_params(width: int) -> float:
        with torch.device("meta"):  # nothing is allocated
            network = _build_network(widen(width), data=data)
        return math.log(sum(value.numel() for value in network.parameters()))

    wanted = math.log(n_params)
    place = bisect.bisect_left(_WIDTHS, wanted, key=log_params)
    near = _WIDTHS[max(0, place - 1) : place + 1]
    return widen(min(near, key=lambda width: abs(log_params(width) - wanted)))


def build_auto(
    data: DataCard, *, has_cuda: bool, n_params: int | None = None
) -> tuple[Source, str]:
    """An untrained network for a data set.

    Args:
        data: What it is for; its mean and deviation normalise.
        has_cuda: Whether a GPU trains and asks it.
        n_params: How many parameters it should have; from the data if none.

    Returns:
        The network with random weights, and a line that says how it is built.
    """
    size = choose_size(data, has_cuda=has_cuda)
    if n_params is not None:
        size = scale_size(size, data=data, n_params=n_params)
    network = _build_network(size, data=data)
    std = tuple(max(value, 1e-3) for value in data.std)
    preprocessing = Preprocessing(shape=data.shape, mean=data.mean, std=std)
    source = Source(network=network, preprocessing=preprocessing)
    return source, f"auto {size} {_is_stemless(data)}"


def _is_stemless(data: DataCard) -> bool:
    """Whether pictures are too small for a stem with strides."""
    return max(data.shape[1:]) <= _STEMLESS


def _build_network(size: Size, *, data: DataCard) -> ResNet:
    """The network with random weights."""
    channels, is_stemless = data.shape[0], _is_stemless(data)
    # timm's plain stem is 64 wide, its deep one twice `stem_width`.
    stem: dict[str, Any] = {"stem_type": "deep", "stem_width": size["channels"][0] // 2}
    network = ResNet(
        cast(Any, BasicBlock),  # annotated as an instance
        num_classes=data.n_classes,
        in_chans=channels,
        **size,
        **(stem if is_stemless else {}),
    )
    if is_stemless:
        network.conv1 = nn.Conv2d(channels, size["channels"][0], 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    return network
