"""Which assistants stand between a teacher and a student, and how large they are."""

from collections.abc import Callable, Sequence

from autokd.errors import TeacherError
from autokd.teachers.requests import TeacherRequest

__all__ = ["LARGE_GAP", "LARGE_LAG", "plan_assistants"]

LARGE_GAP = 10
"""Times the student's parameters, up to which a teacher needs no assistant of its own making.

An assistant halves the gap in its logarithm. Over ten times that leaves two steps of more than
three, about 1.8 times the width each; under it the assistant would be little else than a student.
That a student learns worse from a teacher far above it, and where from is a matter of both, is
found by Mirzadeh et al., "Improved Knowledge Distillation via Teacher Assistant", AAAI 2020.
https://arxiv.org/abs/1902.03393
"""
LARGE_LAG = 0.01
"""Accuracy that the student must lack without a teacher for one of that size to need an assistant.

A student that labels alone bring this near to its teacher has no gap that somebody could bridge.
"""


def plan_assistants(
    requests: Sequence[TeacherRequest],
    *,
    teacher: str,
    n_teacher: int | None,
    n_student: int,
    find_lag: Callable[[], float],
) -> tuple[tuple[TeacherRequest, int | None], ...]:
    """The assistants that are worth having, in the order in which they are taught.

    `auto` assistants are left out where the gap is small, in parameters or in accuracy. Where it
    is large, the sizes go down from the teacher to the student in equal steps of their logarithm;
    a single one has the geometric mean of both.

    Args:
        requests: What the user asked for, the one next to the teacher first.
        teacher: Its name, for messages.
        n_teacher: Its parameters; none where it does not tell.
        n_student: Parameters of the space's default student.
        find_lag: How far the accuracy of that student stays behind the teacher's where labels
            alone teach it; asked only where the gap of parameters is large.

    Returns:
        Each with the number of parameters that it should have; none where its name says it.

    Raises:
        TeacherError: One should be made, and the teacher's size is not known.
    """
    if all(request.kind != "auto" for request in requests):
        return tuple((request, None) for request in requests)
    if n_teacher is None:
        raise TeacherError(
            f"`--assistant auto` must know the teacher's parameters, got {teacher}, which does "
            "not tell; name the assistant, as in --assistant timm:NAME"
        )
    if n_teacher <= LARGE_GAP * n_student or find_lag() <= LARGE_LAG:
        return tuple((request, None) for request in requests if request.kind != "auto")
    step = (n_student / n_teacher) ** (1 / (len(requests) + 1))
    return tuple(
        (request, round(n_teacher * step**place) if request.kind == "auto" else None)
        for place, request in enumerate(requests, start=1)
    )
