"""Teachers that the user's own Python builds."""

import importlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from autokd.config import Config
from autokd.errors import TeacherError
from autokd.teachers.preprocessing import plain_preprocessing, spread
from autokd.teachers.probing import find_channels, shorten
from autokd.teachers.teacher import Source
from autokd.types import DataCard

__all__ = ["call_python", "load_python"]


def load_python(name: str, *, data: DataCard, config: Config) -> Source:
    """The network that a function of the user returns.

    Args:
        name: `module:function`; the working directory is on the path.
        data: Its picture size is taken where neither network nor user say one.
        config: Its `teacher_image_size`.

    Returns:
        The network on the CPU; the preprocessing of its `pretrained_cfg` (timm's convention:
        `input_size`, `mean`, `std`), pixels in [0, 1] without one.

    Raises:
        TeacherError: The function gives something else.
    """
    network = call_python(name)
    if not isinstance(network, nn.Module):
        raise TeacherError(
            f"`--teacher` must return a torch.nn.Module, got {type(network).__name__} from {name}"
        )
    side = config.teacher_image_size
    shape = data.shape if side is None else (data.shape[0], side, side)
    own = getattr(network, "pretrained_cfg", None)
    if not isinstance(own, Mapping):
        own = {}
    network = network.cpu().float()  # CPUs are slow in half precision, and pictures come in full
    size = own.get("input_size")
    if size is None:
        channels, height, width = find_channels(network, shape=shape), *shape[1:]
    else:
        channels, height, width = getattr(network, "in_chans", None) or size[0], *size[1:]
    plain = plain_preprocessing((channels, height, width))
    mean, std = tuple(own.get("mean", plain.mean)), tuple(own.get("std", plain.std))
    if size is not None and channels != size[0]:
        mean, std = spread(mean, channels), spread(std, channels)
    if not len(mean) == len(std) == channels:
        raise TeacherError(
            f"`pretrained_cfg` must have a mean and a std per channel ({channels}), "
            f"got {list(mean)} and {list(std)}"
        )
    return Source(network=network, preprocessing=replace(plain, mean=mean, std=std))


def call_python(name: str) -> Any:  # noqa: ANN401 - the user's function
    """What the user's function returns.

    Args:
        name: `module:function`; the working directory is on the path.

    Returns:
        Whatever it is.

    Raises:
        TeacherError: The function cannot be found, or fails.
    """
    module, _, function = name.partition(":")
    if not module or not function:
        raise TeacherError(f"`--teacher` must be python:module:function, got python:{name}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return getattr(importlib.import_module(module), function)()
    except Exception as error:
        raise TeacherError(
            f"`--teacher` must be a function that returns a network, got {shorten(error)} "
            f"from python:{module}:{function}"
        ) from error
