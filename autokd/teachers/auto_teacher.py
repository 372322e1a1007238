"""The teacher that is made when the user has none: a residual network sized to the data."""

from typing import Any, TypedDict, cast

from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from autokd.teachers.preprocessing import Preprocessing
from autokd.teachers.teacher import Source
from autokd.types import DataCard

__all__ = ["build_auto", "choose_size"]

_STEMLESS = 64  # pixels; larger pictures get the strided stem of ImageNet


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


def build_auto(data: DataCard, *, has_cuda: bool) -> tuple[Source, str]:
    """An untrained network for a data set.

    Args:
        data: What it is for; its mean and deviation normalise.
        has_cuda: Whether a GPU trains and asks it.

    Returns:
        The network with random weights, and a line that says how it is built.
    """
    size = choose_size(data, has_cuda=has_cuda)
    channels, height, width = data.shape
    is_stemless = max(height, width) <= _STEMLESS
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
    std = tuple(max(value, 1e-3) for value in data.std)
    preprocessing = Preprocessing(shape=data.shape, mean=data.mean, std=std)
    return Source(network=network, preprocessing=preprocessing), f"auto {size} {is_stemless}"
