"""State dicts of files, in whatever wrapping trainers leave them, put into a network."""

import pickle
import struct
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from autokd.errors import TeacherError
from autokd.teachers.probing import shorten

__all__ = ["load_weights", "read_weights"]

_NESTS = ("state_dict", "model_state_dict", "model", "ema", "state_dict_ema", "model_ema")
_PREFIXES = ("module.", "_orig_mod.", "model.")
_UNREADABLE = (OSError, RuntimeError, EOFError, ValueError, KeyError, struct.error, SafetensorError)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint, under the names that the bare network gives them.

    Args:
        path: A state dict in .safetensors, or written by `torch.save`, alone or within a
            checkpoint; `module.`, `_orig_mod.` and `model.` are taken off its names.

    Returns:
        Names to tensors on the CPU.

    Raises:
        TeacherError: The file is not there, cannot be read, or holds no state dict.
    """
    if not path.is_file():
        raise TeacherError(f"`--teacher-weights` must be a file, got {path}; there is none")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about TorchScript, refused below
            checkpoint = _read(path)
    except pickle.UnpicklingError as error:
        raise TeacherError(
            f"`--teacher-weights` must be a state dict, got {path}, pickled with other objects; "
            "save model.state_dict(), or build the model yourself with --teacher python:..."
        ) from error
    except _UNREADABLE as error:
        raise TeacherError(
            f"`--teacher-weights` must be a readable state dict, got {path}: {shorten(error)}"
        ) from error
    state = _find_state(checkpoint)
    if not state:
        raise TeacherError(f"`--teacher-weights` must hold a state dict, got none in {path}")
    return {_strip(name): value for name, value in state.items() if name != "n_averaged"}


def _read(path: Path) -> Any:  # noqa: ANN401 - a checkpoint is anything
    """What lies in the file."""
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _find_state(checkpoint: object) -> dict[str, Tensor]:
    """The tensors of a checkpoint, looked for one level after the other."""
    if not isinstance(checkpoint, Mapping):
        return {}
    for nest in _NESTS:
        if isinstance(checkpoint.get(nest), Mapping):
            return _find_state(checkpoint[nest])
    return {str(name): value for name, value in checkpoint.items() if isinstance(value, Tensor)}


def _strip(name: str) -> str:
    """The name without what wrappers put before it."""
    while name.startswith(_PREFIXES):
        name = name.split(".", 1)[1]
    return name


def load_weights(network: nn.Module, *, weights: Mapping[str, Tensor], path: Path) -> None:
    """Fills a network.

    Args:
        network: Gets the weights.
        weights: One tensor for each name of its state dict; batch counters may be absent.
        path: Where they come from, for messages.

    Raises:
        TeacherError: Names or shapes differ.
    """
    own = network.state_dict()
    missing = [n for n in own if n not in weights and not n.endswith("num_batches_tracked")]
    unexpected = [name for name in weights if name not in own]
    if missing or unexpected:
        raise TeacherError(
            f"`--teacher-weights` must fit the network, got {path} with "
            f"{_list(missing)} missing and {_list(unexpected)} unexpected"
        )
    differing = [name for name in weights if weights[name].shape != own[name].shape]
    if differing:
        raise TeacherError(
            f"`--teacher-weights` must fit the network, got {path} with "
            f"{_list(differing)} of another shape"
        )
    network.load_state_dict(dict(weights), strict=False)


def _list(names: Sequence[str]) -> str:
    """A count and the first three names."""
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} keys ({shown})" if names else "0 keys"
