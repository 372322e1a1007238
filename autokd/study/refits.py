"""Trainings of the finals, as they lie in a study's folder."""

import dataclasses
from pathlib import Path

from autokd.study.folder import StudyFolder
from autokd.types import load_json

__all__ = ["Refit", "load_refits"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refit:
    """One finalist trained with one seed.

    Attributes:
        trial: Of the search.
        seed: Of weights, order and augmentation.
        is_twin: Whether it was trained without distillation for comparison.
        val_accuracy: In [0, 1].
        test_accuracy: In [0, 1].
        epochs: It was trained for.
    """

    trial: int
    seed: int
    is_twin: bool
    val_accuracy: float
    test_accuracy: float
    epochs: int


def load_refits(folder: StudyFolder, *, pattern: str = "*") -> dict[Path, Refit]:
    """What the finals of a study have trained so far.

    Args:
        folder: Of the study.
        pattern: Of the names of their files, without the ending.

    Returns:
        Each under its file, beside which its weights lie.
    """
    paths = sorted(folder.refits.glob(f"{pattern}.json"))
    return {path: load_json(Refit, path.read_text(encoding="utf-8")) for path in paths}
