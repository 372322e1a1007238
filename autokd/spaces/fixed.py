"""Networks that are taken as they are: of timm, or built by the user's own Python."""

import difflib
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, final

import torch
from torch import nn

from autokd.errors import SpaceError
from autokd.spaces.nni_api import LabeledMutable, Mutable
from autokd.types import InputShape

__all__ = ["FixedNetwork", "adapt_python", "adapt_timm"]


@final
class FixedNetwork(Mutable):
    """An architecture without a dimension: each time it is frozen, fresh weights are drawn."""

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        """Keeps what builds it.

        Args:
            build: Gives a network that takes normalised pictures.
        """
        self._build = build

    def leaf_mutables(self, is_leaf: Callable[[Mutable], bool]) -> Iterator[LabeledMutable]:
        """Nothing can be chosen."""
        del is_leaf
        return iter(())

    def check_contains(self, sample: Mapping[str, Any]) -> None:
        """Whatever is chosen elsewhere has no effect here."""
        del sample

    def freeze(self, sample: Mapping[str, Any]) -> nn.Module:
        """The network, with fresh weights."""
        del sample
        return self._build()


def adapt_timm(name: str, *, input_shape: InputShape, n_classes: int) -> FixedNetwork:
    """A network of timm with the channels and classes of the data, from random weights.

    A network that is made for one size of picture is rebuilt for that of the data; a transformer
    cuts smaller pictures into about as many patches as it was made for.

    Args:
        name: As timm has it.
        input_shape: Channels, height and width of the pictures.
        n_classes: Of the data.

    Returns:
        The network, which has been tried on a picture.

    Raises:
        SpaceError: There is no such network, or it cannot take such pictures.
    """
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        remedy = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
        raise SpaceError(f"`timm:{name}` must be a network of timm; {remedy}")
    create = partial(timm.create_model, name, num_classes=n_classes, in_chans=input_shape[0])
    fault = ""
    for options in _ways(name, sides=input_shape[1:]):
        build = partial(_quietly, partial(create, **options))
        found = _try(build, input_shape=input_shape, n_classes=n_classes)
        if not found:
            return FixedNetwork(build)
        fault = fault or found
    shape = "x".join(map(str, input_shape))
    raise SpaceError(
        f"`timm:{name}` must take pictures of {shape}, got {fault}; pass another --image-size or "
        "another network"
    )


def adapt_python(
    function: Callable[..., Any], name: str, *, input_shape: InputShape, n_classes: int
) -> Mutable:
    """The network, or the space, that a function of the user builds.

    Args:
        function: Called with shape and number of classes, or with nothing if it takes nothing.
        name: For messages.
        input_shape: Channels, height and width of the pictures.
        n_classes: Of the data.

    Returns:
        The network, which has been tried on a picture; a space as it is.

    Raises:
        SpaceError: The function fails, or gives something else than logits of the classes.
    """
    takes = bool(inspect.signature(function).parameters)
    build = partial(_quietly, partial(function, *((input_shape, n_classes) if takes else ())))
    try:
        built = build()
    except Exception as error:
        # The user's own code may raise anything.
        raise SpaceError(f"`python:{name}` must build a network, got {_describe(error)}") from error
    if isinstance(built, Mutable):
        return built
    if not isinstance(built, nn.Module):
        raise SpaceError(
            f"`python:{name}` must return a torch.nn.Module, got {type(built).__name__}"
        )
    fault = _try(build, input_shape=input_shape, n_classes=n_classes)
    if fault:
        shape = "x".join(map(str, input_shape))
        raise SpaceError(f"`python:{name}` must take pictures of {shape}, got {fault}")
    return FixedNetwork(build)


def _quietly(build: Callable[[], Any]) -> Any:  # noqa: ANN401 - what others' code builds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build()


def _ways(name: str, *, sides: tuple[int, int]) -> list[dict[str, Any]]:
    """Options that may make a network of timm fit the pictures, the likeliest first."""
    from timm import create_model, get_pretrained_cfg

    own = get_pretrained_cfg(name)
    if own is None or not own.fixed_input_size:
        return [{}, {"img_size": sides}]
    ways: list[dict[str, Any]] = [{"img_size": sides}]
    side = min(own.input_size[1:])
    if min(sides) < side:
        with torch.random.fork_rng(devices=[]):
            embed = getattr(_quietly(partial(create_model, name)), "patch_embed", None)
        patch: Any = getattr(embed, "patch_size", None)
        if isinstance(patch, tuple) and patch:
            size = _nearest_divisor(math.gcd(*sides), patch[0] * min(sides) / side)
            ways.insert(0, {"img_size": sides, "patch_size": size})
    return [*ways, {}]


def _nearest_divisor(whole: int, wanted: float) -> int:
    fitting = [size for size in range(1, whole + 1) if whole % size == 0]
    return min(fitting, key=lambda size: (abs(size - wanted), size))


def _try(build: Callable[[], nn.Module], *, input_shape: InputShape, n_classes: int) -> str:
    """What is wrong with a network; nothing if it gives logits of the classes."""
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            logits = build().eval()(torch.zeros(2, *input_shape))
    except Exception as error:  # noqa: BLE001
        # The network's own code may raise anything.
        return _describe(error)
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, n_classes):
        shape = getattr(logits, "shape", None)
        got = type(logits).__name__ if shape is None else f"outputs of {tuple(shape)}"
        return f"{got} instead of (batch, {n_classes}) logits"
    return ""


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
