"""Whether losses on features can look into the teachers of a study, found before it begins."""

from typing import Any

from autokd.candidate import KnownTeacher, build_student, check_objective
from autokd.config import Config
from autokd.data import SearchData
from autokd.distillation import check_paths
from autokd.errors import ConfigError, TeacherError
from autokd.spaces import Space
from autokd.study.teaching import Faculty
from autokd.types import Sample

__all__ = ["check_features", "check_objectives", "check_taps"]


def check_features(faculty: Faculty, *, space: Space, sample: Sample | None = None) -> None:
    """Refuses a study that may ask for features of a teacher that shows none.

    Args:
        faculty: Who teaches.
        space: Whose recipes may have a loss on features.
        sample: The only one that will be trained; all of the space if none.

    Raises:
        TeacherError: A teacher is a file without modules, or several that speak as one.
    """
    losses = sorted(_find(space, "feature_loss", sample=sample) - {"none"})
    if not losses:
        return
    for teacher in _heard(faculty, space=space, sample=sample):
        if not teacher.has_features:
            raise TeacherError(
                f"`--loss {losses[0]}` needs the features of one teacher made of modules, got "
                f"{teacher.name}; use a loss on logits, a teacher of timm:, torchvision: or "
                "python:, or pass --fix taught_by=teacher where both speak"
            )


def check_objectives(
    faculty: Faculty, *, space: Space, data: SearchData, seed: int, sample: Sample | None = None
) -> None:
    """Looks into each teacher once, as every loss on features will that may be trained with.

    A teacher that cannot serve a loss is a `TeacherError`, a module that is not there or cannot be
    read a `ConfigError`: trial after trial would fail of it.

    Args:
        faculty: Who teaches.
        space: Whose recipes may have a loss on features.
        data: Pictures to show.
        seed: Of the default student, which is the other side.
        sample: The only one that will be trained; all of the space if none.
    """
    losses = sorted(_find(space, "feature_loss", sample=sample) - {"none"})
    if not losses:
        return
    student, _ = build_student(space, sample or {}, data=data.card, seed=seed)
    example = data.train_images[:2].float() / 255
    for teacher in _heard(faculty, space=space, sample=sample):
        device = next((value.device for value in teacher.network.parameters()), example.device)
        for loss in losses:
            check_objective(student, loss, teacher=teacher, views=example.to(device))


def check_taps(config: Config, *, space: Space, sample: Sample | None = None) -> None:
    """Refuses modules to read features from that no loss reads, or that one cannot do with.

    A loss that has no use for those that are named, or wants more of them, is a `ConfigError` too.

    Args:
        config: Its `student_tap` and `teacher_tap`.
        space: Whose recipes may have a loss on features.
        sample: The only one that will be trained; all of the space if none.

    Raises:
        ConfigError: There are some.
    """
    losses = sorted(_find(space, "feature_loss", sample=sample) - {"none"})
    for loss in losses:
        check_paths(loss, student_paths=config.student_tap, teacher_paths=config.teacher_tap)
    if losses:
        return
    for option, taps in (("student", config.student_tap), ("teacher", config.teacher_tap)):
        if taps:
            raise ConfigError(
                f"`--{option}-tap` must go with a loss on features, got {', '.join(taps)} where "
                "none is trained with; pass --loss such as soft_targets+hint, or leave it out"
            )


def _heard(faculty: Faculty, *, space: Space, sample: Sample | None) -> list[KnownTeacher]:
    """The teachers that a student can have."""
    heard = _find(space, "taught_by", sample=sample) or {"teacher"}
    return [one for role, one in faculty.teachers.items() if role in heard]


def _find(space: Space, field: str, *, sample: Sample | None) -> set[Any]:
    """What a field of the recipe can be, in a sample or in the whole space."""
    return {sample[field]} if sample and field in sample else space.values_of(field)
