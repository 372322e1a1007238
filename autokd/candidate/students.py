"""A student from its sample, and from and to its file."""

import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from autokd.distillation import Student
from autokd.errors import BuildError, StudyError
from autokd.exporters import dump_weights
from autokd.spaces import Space
from autokd.types import DataCard, Recipe, Sample

__all__ = ["build_student", "load_student", "save_student", "trains_alike"]

_PLAIN = (bool, int, float, str, tuple)  # attributes of a layer that can be compared


def build_student(
    space: Space, sample: Sample, *, data: DataCard, seed: int
) -> tuple[Student, Recipe]:
    """The student of a sample, its fresh weights drawn from a seed.

    Args:
        space: Where the sample comes from.
        sample: Label to value.
        data: Shape, classes and normalisation.
        seed: Of the weights.

    Returns:
        The student behind its normalisation, and the recipe.

    Raises:
        BuildError: The space's code fails, or gives something else than logits of the classes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network, recipe = space.freeze(sample)
    student = Student(network, mean=data.mean, std=data.std)
    try:
        with torch.no_grad():
            logits = student.eval()(torch.zeros(2, *data.shape))
    except Exception as error:
        # The forward pass is the code of the space, which may raise anything.
        reason = " ".join(str(error).split())
        raise BuildError(f"student does not run: {type(error).__name__}: {reason}") from error
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, data.n_classes):
        got = getattr(logits, "shape", type(logits).__name__)
        raise BuildError(f"student must give (batch, {data.n_classes}) logits, got {got}")
    return student, recipe


def trains_alike(first: nn.Module, second: nn.Module) -> bool:
    """Whether two networks that compute the same do so in training, too.

    Dropout, stochastic depth and the like are not in an exported file.

    Args:
        first: A network.
        second: Another one.

    Returns:
        Whether they have the same layers with the same numbers in them.
    """
    return _outline(first) == _outline(second)


def _outline(network: nn.Module) -> list[tuple[str, type[nn.Module], list[str]]]:
    return [
        (
            name,
            type(layer),
            [f"{key} {value}" for key, value in vars(layer).items() if isinstance(value, _PLAIN)],
        )
        for name, layer in network.named_modules()
    ]


def save_student(student: nn.Module, path: Path) -> None:
    """Writes the weights; a reader never sees half a file, and a full disk is an `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        temporary.write_bytes(dump_weights(student))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_student(space: Space, sample: Sample, *, data: DataCard, weights: Path) -> Student:
    """A trained student.

    Args:
        space: Where the sample comes from.
        sample: Label to value.
        data: Shape, classes and normalisation.
        weights: As `save_student` wrote them.

    Returns:
        The student in evaluation mode.

    Raises:
        StudyError: The weights are not there, or are of another network.
    """
    if not weights.exists():
        raise StudyError(
            f"a student must have its weights in {weights}, got none; put the study's files back, "
            "or search again with another --study"
        )
    student, _ = build_student(space, sample, data=data, seed=0)
    try:
        student.load_state_dict(load_file(weights))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise StudyError(
            f"a student must have the weights of {weights}, got {reason}; put back the Python file "
            "of --space or --student and the packages that it was trained with"
        ) from error
    return student.eval()
