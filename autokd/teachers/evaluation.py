"""How good a teacher is, and whether that is good enough to learn from."""

from collections.abc import Sequence

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from autokd.errors import TeacherError
from autokd.teachers.committee import AnyTeacher

__all__ = ["check_teacher", "evaluate_teacher"]


def evaluate_teacher(
    teacher: AnyTeacher,
    *,
    images: UInt8[Tensor, "pictures channels height width"],
    labels: Int64[Tensor, " pictures"],
    batch_size: int = 512,
) -> float:
    """Top-1 accuracy of a teacher.

    Args:
        teacher: Who is asked, where it lies.
        images: Pictures as the data has them.
        labels: Their classes.
        batch_size: Pictures asked at once.

    Returns:
        The share of right answers, in [0, 1].

    Raises:
        ValueError: There are no pictures.
    """
    if len(images) == 0:
        raise ValueError("`images` must not be empty")
    device = teacher.device
    n_right = 0
    for batch, truth in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        logits = teacher(batch.to(device).float() / 255)
        n_right += int((logits.argmax(1) == truth.to(device)).sum())
    return n_right / len(images)


def check_teacher(
    accuracy: float, *, labels: Int64[Tensor, " pictures"], classes: Sequence[str]
) -> None:
    """Refuses a teacher that is no better than always giving the same answer.

    Args:
        accuracy: Its top-1 on the validation split, in [0, 1].
        labels: The validation split's classes.
        classes: Their names in the order of the labels.

    Raises:
        TeacherError: The most frequent class alone gives as much.
    """
    counts = torch.bincount(labels)
    majority = int(counts.argmax())
    share = int(counts[majority]) / len(labels)
    if accuracy > share:
        return
    raise TeacherError(
        f"`--teacher` must beat the majority class, got {100 * accuracy:.1f} % on the "
        f"validation split where always saying {classes[majority]!r} gives {100 * share:.1f} %; "
        "check --teacher-mean, --teacher-std and the order of its classes, "
        "or pass --teacher-finetune"
    )
