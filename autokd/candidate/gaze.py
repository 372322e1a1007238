"""Where a network looks, whatever it is made of: taps, a lens on one of them, Grad-CAM."""

import contextlib
import re
from collections.abc import Generator
from typing import Literal

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from autokd.distillation import Lens, Tap, find_taps, named_taps
from autokd.errors import ConfigError
from autokd.reports import build_grad_cam, spread_maps, varies

__all__ = ["find_gaze", "watch"]

_BATCH = 32
_N_EXAMPLES = 4

Role = Literal["student", "teacher"]


def find_gaze(
    network: nn.Module, images: UInt8[Tensor, "count channels height width"], *, role: Role
) -> Tap | None:
    """The deepest map of a network that its logits depend on.

    Of a vision transformer that is read at its class token, the map after the last block is no
    such one: nobody asks the other tokens any more. The block before it is taken then. Nor is one
    that is the same everywhere, as a map of 1x1 that was enlarged.

    Args:
        network: Takes views in [0, 1], in evaluation mode, on the device of the pictures.
        images: A few pictures, or more.
        role: Of the network.

    Returns:
        The tap; none where the network shows no maps larger than 1x1.
    """
    views = images[:_N_EXAMPLES].float() / 255
    classes = _predict(network, views)
    for tap in _candidates(network, views, role=role):
        with Lens(network, tap) as lens:
            maps = build_grad_cam(network, lens.layer, views, classes=classes)
        if bool(varies(maps).any()):
            return tap
    return None


def watch(
    network: nn.Module,
    images: UInt8[Tensor, "count channels height width"],
    *,
    tap: Tap,
    classes: Int64[Tensor, " count"],
) -> Float[Tensor, "count height width"]:
    """Where a network finds what speaks for a class.

    Args:
        network: As `find_gaze` had it.
        images: Pixels in 0..255.
        tap: As `find_gaze` gave it.
        classes: Of which the logit is looked at, one for each picture.

    Returns:
        Maps of the size of the pictures, in [0, 1], on the CPU.
    """
    size = (images.shape[2], images.shape[3])
    found: list[Tensor] = []
    with Lens(network, tap) as lens:
        for pictures, asked in zip(images.split(_BATCH), classes.split(_BATCH), strict=True):
            maps = build_grad_cam(network, lens.layer, pictures.float() / 255, classes=asked)
            found.append(spread_maps(maps, size=size).cpu())
    return torch.cat(found)


@torch.no_grad()
def _predict(network: nn.Module, views: Tensor) -> Tensor:
    return network(views).argmax(1)


def _candidates(network: nn.Module, views: Tensor, *, role: Role) -> Generator[Tap]:
    """Maps from the deepest to the first, those of sibling blocks before the deepest among them.

    Args:
        network: Of any kind.
        views: Pictures.
        role: Of the network.

    Yields:
        Taps.
    """
    taps = find_taps(network, views)
    if not taps:
        return
    yield taps[-1]
    before = _sibling_before(taps[-1].path)
    if before is not None:
        option = "--student-tap" if role == "student" else "--teacher-tap"
        with contextlib.suppress(ConfigError):  # no such module, or no map
            yield from named_taps(network, views, [before], option=option)
    yield from reversed(taps[:-1])


def _sibling_before(path: str) -> str | None:
    """`blocks.10` of `blocks.11`; none of the first one, and of paths without a number."""
    found = re.fullmatch(r"(.*?)(\d+)", path)
    if found is None or int(found[2]) == 0:
        return None
    return f"{found[1]}{int(found[2]) - 1}"
