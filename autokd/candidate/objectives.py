"""What is known of a teacher, and the loss on features between it and a student."""

import contextlib
from dataclasses import dataclass

from torch import Tensor, nn

from autokd.data import N_VIEWS
from autokd.distillation import (
    FeatureKind,
    FeatureObjective,
    Student,
    build_feature_objective,
)
from autokd.errors import BuildError, TeacherError
from autokd.teachers import KnowledgeBank, Teacher

__all__ = ["KnownTeacher", "build_objective", "check_objective"]


@dataclass(frozen=True, kw_only=True)
class KnownTeacher:
    """A teacher, and what is remembered of it.

    Attributes:
        network: Views in [0, 1] to logits, frozen.
        name: For messages.
        has_features: Whether one network can be looked into.
        bank: Its answers; it is asked again and again if none.
        n_views: Of each picture.
        student_taps: Modules of the student to read features from; found where there are none.
        teacher_taps: The same of the teacher.
    """

    network: nn.Module
    name: str = "teacher"
    has_features: bool = True
    bank: KnowledgeBank | None = None
    n_views: int = N_VIEWS
    student_taps: tuple[str, ...] = ()
    teacher_taps: tuple[str, ...] = ()


def build_objective(
    student: Student, kind: FeatureKind, *, teacher: KnownTeacher, views: Tensor, seed: int
) -> tuple[FeatureObjective, nn.Module]:
    """The loss on features of a student and a teacher, each of which is run a few times.

    A path that is wrong or of no use to the loss is a `ConfigError`, whichever side it is on; a
    student that cannot be looked into a `BuildError`.

    Args:
        student: On the CPU.
        kind: Which loss.
        teacher: On its device.
        views: A few, on the teacher's device.
        seed: Of the projectors.

    Returns:
        The objective, on the CPU, and the network of the teacher that its taps are paths in.

    Raises:
        TeacherError: The teacher cannot be looked into.
    """
    inner, wanted = teacher.network, views
    if not teacher.has_features:
        raise TeacherError(
            f"`--loss {kind}` needs the features of one teacher made of modules, got "
            f"{teacher.name}; use a loss on logits"
        )
    if isinstance(inner, Teacher):
        inner, wanted = inner.network, inner.prepare(views)
    objective = build_feature_objective(
        kind,
        student=student.network,
        teacher_network=inner,
        student_example=views.cpu(),
        teacher_example=wanted,
        student_paths=teacher.student_taps,
        teacher_paths=teacher.teacher_taps,
        seed=seed,
    )
    return objective, inner


def check_objective(
    student: Student, kind: FeatureKind, *, teacher: KnownTeacher, views: Tensor
) -> None:
    """Refuses a loss on features that a teacher cannot serve, or not with the modules named.

    What is wrong is a `ConfigError` or a `TeacherError`; where only this student cannot be looked
    into, others may.

    Args:
        student: On the CPU.
        kind: Which loss.
        teacher: On its device.
        views: A few, on the teacher's device.
    """
    with contextlib.suppress(BuildError):
        build_objective(student, kind, teacher=teacher, views=views, seed=0)
