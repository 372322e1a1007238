"""Where a network looks when it decides, and how alike two networks look."""

from typing import cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["build_grad_cam", "correlate_maps", "spread_maps", "varies"]

_LEAST_SPREAD = 1e-5  # of a map's own size, below which it is rounding


def build_grad_cam(
    network: nn.Module,
    layer: nn.Module,
    views: Float[Tensor, "batch channels height width"],
    *,
    classes: Int64[Tensor, " batch"],
) -> Float[Tensor, "batch rows columns"]:
    """Which places of a layer's map speak for a class, and which against it.

    The channels of the map are added up, each weighted by the mean gradient of the class's logit
    over the channel.

    Args:
        network: Takes views, gives logits; in evaluation mode.
        layer: Within it; gives maps, channels first.
        views: Pictures as the network wants them.
        classes: Of which the logit is looked at, one for each picture.

    Returns:
        A map in the layer's size, of any sign; 0 everywhere where the logit does not depend on
        the layer.

    References:
        Selvaraju, Cogswell, Das, Vedantam, Parikh & Batra, "Grad-CAM: Visual Explanations from
        Deep Networks via Gradient-based Localization", ICCV 2017, equations 1 and 2.
        https://arxiv.org/abs/1610.02391
    """
    from captum.attr import LayerGradCam

    maps = LayerGradCam(network, layer).attribute(views, target=classes)
    return cast(Tensor, maps).detach().squeeze(1)


def spread_maps(
    maps: Float[Tensor, "batch rows columns"], *, size: tuple[int, int]
) -> Float[Tensor, "batch height width"]:
    """What speaks for the class only, over the whole picture, its strongest place at 1.

    Args:
        maps: As `build_grad_cam` gives them.
        size: Height and width of the pictures.

    Returns:
        Numbers in [0, 1]; 0 everywhere where nothing speaks for the class.
    """
    positive = F.relu(maps)[:, None]
    spread = F.interpolate(positive, size, mode="bilinear", align_corners=False)[:, 0]
    return spread / spread.amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)


def correlate_maps(
    maps: Float[Tensor, "batch height width"], others: Float[Tensor, "batch height width"]
) -> Float[Tensor, " batch"]:
    """Pearson's correlation of each map with the other of the same picture.

    It does not feel the scale and the level of a map, which Grad-CAM leaves to the network, and
    maps that have nothing to do with each other are at 0. (The cosine of two maps without
    negative numbers is never below 0, and high for any two that are blurred.)

    Args:
        maps: Of one network.
        others: Of another one.

    Returns:
        From -1 to 1; not a number where one of both is the same everywhere.

    References:
        Bylinskii, Judd, Oliva, Torralba & Durand, "What do different evaluation metrics tell us
        about saliency models?", 2016, on CC. https://arxiv.org/abs/1604.03605
    """
    one, other = (values.flatten(1).double() for values in (maps, others))
    is_varied = varies(maps) & varies(others)
    one, other = one - one.mean(1, keepdim=True), other - other.mean(1, keepdim=True)
    correlation = (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))
    return torch.where(is_varied, correlation, torch.nan).float()


def varies(maps: Float[Tensor, "batch rows columns"]) -> Bool[Tensor, " batch"]:
    """Whether a map differs from place to place by more than rounding."""
    values = maps.flatten(1)
    return values.amax(1) - values.amin(1) > _LEAST_SPREAD * values.abs().amax(1)
