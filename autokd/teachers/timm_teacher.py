"""Teachers out of timm."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn

from autokd.errors import TeacherError
from autokd.teachers.preprocessing import Preprocessing, spread
from autokd.teachers.probing import shorten
from autokd.teachers.teacher import Source
from autokd.teachers.weights import load_weights, read_weights

__all__ = ["load_timm"]


def load_timm(name: str, *, path: Path | None, is_pretrained: bool) -> Source:
    """A network of timm.

    Args:
        name: As timm has it, with or without a tag.
        path: A file with its weights, which goes before fetched ones. The checkpoint's classes
            and channels are kept.
        is_pretrained: Whether timm fetches weights.

    Returns:
        The network with its weights and timm's preprocessing for it.

    Raises:
        TeacherError: There is no such network, its weights cannot be fetched or do not fit.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        remedy = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
        raise TeacherError(f"`--teacher` must be a network of timm, got {name!r}; {remedy}")
    weights = None if path is None else read_weights(path)
    network = _build(name, weights=weights, is_pretrained=is_pretrained)
    if path is not None and weights is not None:
        load_weights(network, weights=weights, path=path)
    own = resolve_model_data_config(network)
    channels = getattr(network, "in_chans", None) or own["input_size"][0]
    mean, std = spread(tuple(own["mean"]), channels), spread(tuple(own["std"]), channels)
    shape = (channels, *own["input_size"][1:])
    return Source(network=network, preprocessing=Preprocessing(shape=shape, mean=mean, std=std))


def _build(name: str, *, weights: Mapping[str, Tensor] | None, is_pretrained: bool) -> nn.Module:
    """The network, with fetched weights if those are wanted and no others are there."""
    try:
        options = {} if weights is None else _read_options(name, weights=weights)
        is_fetched = is_pretrained and weights is None
        return timm.create_model(name, pretrained=is_fetched, **options)
    except (OSError, RuntimeError, ValueError) as error:
        if is_pretrained and weights is None:
            raise TeacherError(
                f"`--teacher-pretrained` must be able to fetch the weights of timm:{name}, got "
                f"{shorten(error)}; download them elsewhere and pass --teacher-weights"
            ) from error
        raise TeacherError(
            f"`--teacher` must be a network that timm can build, got {name!r}: {shorten(error)}"
        ) from error


def _read_options(name: str, *, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Classes and channels that a checkpoint was made with."""
    own = timm.get_pretrained_cfg(name)
    if own is None:
        return {}
    layers = {"num_classes": (own.classifier, 0), "in_chans": (own.first_conv, 1)}
    options: dict[str, Any] = {}
    for option, (layer, axis) in layers.items():
        first = layer[0] if isinstance(layer, tuple | list) else layer
        weight = weights.get(f"{first}.weight")
        if weight is not None and weight.ndim > axis:
            options[option] = weight.shape[axis]
    return options
