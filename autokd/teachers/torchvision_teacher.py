"""Teachers out of torchvision."""

import difflib
from pathlib import Path
from typing import Any

from torch import nn
from torchvision import models

from autokd.errors import TeacherError
from autokd.teachers.heads import find_head
from autokd.teachers.preprocessing import Preprocessing
from autokd.teachers.probing import shorten
from autokd.teachers.teacher import Source
from autokd.teachers.weights import load_weights, read_weights

__all__ = ["load_torchvision"]

_N_CLASSES = 1000  # of ImageNet, and of every network of torchvision unless told otherwise
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_WITH_AUXILIARIES = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}


def load_torchvision(name: str, *, path: Path | None, is_pretrained: bool) -> Source:
    """A classifier of torchvision.

    Auxiliary heads of googlenet and inception_v3 are left out. Their fetched weights come with
    a second normalisation, which a file cannot say: for such a file the user passes
    `--teacher-mean 0.5 --teacher-std 0.5`.

    Args:
        name: As torchvision has it.
        path: A file with its weights, which goes before fetched ones.
        is_pretrained: Whether torchvision fetches weights.

    Returns:
        The network with its weights; ImageNet's preprocessing at 224 pixels (299 for
        inception_v3), or that of the fetched weights.

    Raises:
        TeacherError: There is no such network, its weights cannot be fetched or do not fit.
    """
    names: list[str] = models.list_models(module=models)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3)
        remedy = f"did you mean {', '.join(near)}?" if near else "see torchvision.models"
        raise TeacherError(
            f"`--teacher` must be a classifier of torchvision, got {name!r}; {remedy}"
        )
    if is_pretrained and path is None:
        return _fetch(name)
    side = 299 if name == "inception_v3" else 224
    preprocessing = Preprocessing(shape=(3, side, side), mean=_MEAN, std=_STD)
    return Source(network=_load(name, path=path), preprocessing=preprocessing)


def _fetch(name: str) -> Source:
    """The network with torchvision's own best weights."""
    weights = models.get_model_weights(name).DEFAULT  # type: ignore[attr-defined]
    try:
        network = models.get_model(name, weights=weights, progress=False)
    except (OSError, RuntimeError) as error:
        raise TeacherError(
            f"`--teacher-pretrained` must be able to fetch the weights of torchvision:{name}, got "
            f"{shorten(error)}; download them elsewhere and pass --teacher-weights"
        ) from error
    if name in _WITH_AUXILIARIES:
        object.__setattr__(network, "aux_logits", False)
        for head in _WITH_AUXILIARIES[name]:
            setattr(network, head.removesuffix("."), None)
    own = weights.transforms()
    side = own.crop_size[0]
    preprocessing = Preprocessing(shape=(3, side, side), mean=tuple(own.mean), std=tuple(own.std))
    return Source(network=network, preprocessing=preprocessing)


def _load(name: str, *, path: Path | None) -> nn.Module:
    """The network with the weights of a file, or random ones where there is no file."""
    auxiliaries = _WITH_AUXILIARIES.get(name)
    options: dict[str, Any] = {"aux_logits": False, "init_weights": True} if auxiliaries else {}
    network = models.get_model(name, weights=None, **options)
    if path is None:
        return network
    weights = read_weights(path)
    if auxiliaries:
        weights = {key: w for key, w in weights.items() if not key.startswith(auxiliaries)}
    head = weights.get(f"{find_head(network, n_logits=_N_CLASSES)}.weight")
    if head is not None and len(head) != _N_CLASSES:
        network = models.get_model(name, weights=None, num_classes=len(head), **options)
    load_weights(network, weights=weights, path=path)
    return network
