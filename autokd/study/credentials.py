"""What is known of a student of a front before its files are written and timed."""

import dataclasses
from pathlib import Path
from typing import Any

from autokd.candidate import score_file
from autokd.config import Config
from autokd.data import TestData
from autokd.exporters import QuantizedFile
from autokd.latency import device_fingerprint, library_versions
from autokd.study.refits import find_int8, read_refit
from autokd.types import DataCard, Front, FrontStudent

__all__ = ["describe_student", "find_quantized"]

_TIMES = ("latency_ms", "latency_ci95_ms", "fp32_latency_ms", "speed_up")
"""Of the study, and of the card `searched_...`: the card's own are measured now, together."""


def describe_student(
    student: FrontStudent, *, front: Front, config: Config, data: DataCard
) -> dict[str, Any]:
    """What its card tells.

    Args:
        student: On the front.
        front: Of the study.
        config: Of the study.
        data: What it learnt from.

    Returns:
        Facts; its times are those of the study and are called so.
    """
    facts = dataclasses.asdict(student)
    times = {f"searched_{name}": facts.pop(name) for name in _TIMES}
    return {
        "study": front.study,
        **facts,
        "is_searched": config.student is None,
        "is_distilled": student.recipe.is_distilled,
        "mean_test_accuracy": student.test_accuracy,
        **{name: value for name, value in times.items() if value is not None},
        "teacher": dataclasses.asdict(front.teacher),
        "data": _describe_data(data),
        "made_with": {**library_versions(), "device": device_fingerprint(), "seed": config.seed},
    }


def find_quantized(student: FrontStudent, weights: Path, *, test: TestData) -> QuantizedFile | None:
    """The INT8 file of a student and the accuracy that it had; none of one in FP32."""
    if student.recipe.precision == "fp32":
        return None
    path, refit = find_int8(weights), read_refit(weights)
    accuracy = student.test_accuracy if refit is None else refit.test_accuracy
    if accuracy is None:  # a study that was interrupted before its finals has no table
        accuracy = score_file(path, test.images, test.labels)
    return QuantizedFile(
        path=path, test_accuracy=accuracy, is_aware=refit is not None and refit.is_aware
    )


def _describe_data(card: DataCard) -> dict[str, object]:
    """Which pictures it was taught on."""
    bare = {"n_unlabelled": card.n_unlabelled, "unlabelled_digest": card.unlabelled_digest}
    return {
        "name": card.name,
        "digest": card.digest,
        "n_train": card.n_train,
        **(bare if card.n_unlabelled else {}),
    }
