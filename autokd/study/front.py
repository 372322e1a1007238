"""The Pareto front, its hypervolume, and which student to take from it."""

import math
from collections.abc import Iterable, Sequence

from autokd.errors import StudyError
from autokd.types import FrontStudent, Latency, TrialResult

__all__ = ["PICKS", "hypervolume", "layers", "near_front", "pareto", "pick_student"]

PICKS = ("fastest", "knee", "most-accurate")
"""What a student of a front can be picked by, besides the number of its trial."""

_LEAST_LATENCY = 1e-3  # of the teacher's: the far corner of the box


def pareto(results: Iterable[TrialResult], *, min_accuracy: float | None) -> list[TrialResult]:
    """The complete results that no other beats in accuracy and latency.

    Latencies that differ by less than their intervals leave open are ties: a student that is
    not surely faster than a more accurate one of the front is not on it.

    Args:
        results: Of any state.
        min_accuracy: Worse ones are left out; in [0, 1].

    Returns:
        Sorted by latency, fastest first; of equal ones the earlier trial.
    """
    able = [
        (-result.val_accuracy, result.latency.median_ms, result.trial, result.latency, result)
        for result in results
        if result.state == "complete"
        and result.latency is not None
        and result.val_accuracy is not None
        and result.val_accuracy >= (min_accuracy or 0.0)
    ]
    front: list[TrialResult] = []
    fastest: Latency | None = None
    for _, _, _, latency, result in sorted(able, key=lambda row: row[:3]):
        if fastest is None or latency.is_faster_than(fastest):
            fastest = latency
            front.append(result)
    return front[::-1]


def layers(
    results: Iterable[TrialResult], *, min_accuracy: float | None, n: int
) -> list[TrialResult]:
    """The front, the front of what is left without it, and so on.

    Args:
        results: Of any state.
        min_accuracy: Worse ones are left out; in [0, 1].
        n: How many are wanted at the least; the last layer is taken whole.

    Returns:
        Layer by layer, each fastest first; fewer than `n` where there are no more.

    References:
        Goldberg, "Genetic Algorithms in Search, Optimization and Machine Learning", 1989
        (nondominated sorting).
    """
    rest, chosen = list(results), list[TrialResult]()
    while len(chosen) < n and (layer := pareto(rest, min_accuracy=min_accuracy)):
        chosen += layer
        taken = {one.trial for one in layer}
        rest = [one for one in rest if one.trial not in taken]
    return chosen


def near_front(
    results: Iterable[TrialResult], *, front: Sequence[TrialResult], n_val: int
) -> list[TrialResult]:
    """Complete results that the front beats by no more than the noise of the validation split.

    Args:
        results: Of any state; those on the front and shared ones are left out.
        front: As `pareto` gave it.
        n_val: Pictures of the validation split, which set the noise.

    Returns:
        Those within one binomial standard error of the front at their latency, the nearest
        first.
    """
    on_front = {one.trial for one in front}
    near: list[tuple[float, int, TrialResult]] = []
    for result in results:
        latency, accuracy = result.latency, result.val_accuracy
        if result.state != "complete" or latency is None or accuracy is None:
            continue
        if result.trial in on_front or result.same_as is not None:
            continue
        as_fast = (
            one.val_accuracy or 0.0
            for one in front
            if one.latency is not None and not latency.is_faster_than(one.latency)
        )
        best = max(as_fast, default=1.0)
        if best - accuracy <= math.sqrt(max(best * (1 - best), 1 / n_val) / n_val):
            near.append((best - accuracy, result.trial, result))
    return [result for _, _, result in sorted(near, key=lambda row: row[:2])]


def hypervolume(
    points: Iterable[tuple[float, float]], *, chance: float, teacher_ms: float
) -> float:
    """Share of the box that the points dominate, accuracy against log latency.

    The box lies between (chance, the teacher's latency) and (1, a thousandth of it).

    Args:
        points: Accuracy in [0, 1] and latency in ms.
        chance: Accuracy of guessing.
        teacher_ms: Latency of the teacher.

    Returns:
        A number in [0, 1]; a point slower than the teacher or below chance adds nothing.
    """
    scaled = [
        (
            min(1.0, (accuracy - chance) / (1 - chance)),
            min(1.0, math.log(latency_ms / teacher_ms) / math.log(_LEAST_LATENCY)),
        )
        for accuracy, latency_ms in points
    ]
    inside = [(gain, speed) for gain, speed in scaled if gain > 0 and speed > 0]
    volume = best = 0.0
    for gain, speed in sorted(inside, key=lambda point: (-point[1], -point[0])):
        if gain > best:
            volume += (gain - best) * speed
            best = gain
    return volume


def pick_student(
    students: Sequence[FrontStudent], *, pick: str, max_latency_ms: float | None
) -> FrontStudent:
    """The student that the user means.

    Args:
        students: The front.
        pick: `knee` (furthest above the line between the ends of the front, accuracy against
            log latency; where none is above it, the more accurate end), `fastest`,
            `most-accurate`, or a trial's number.
        max_latency_ms: Only students under it.

    Returns:
        One of the students.

    Raises:
        StudyError: There is none.
    """
    if not students:
        raise StudyError(
            "the study must have a student on its front, got none; go on with `autokd search`, "
            "or loosen its limits"
        )
    if max_latency_ms is not None and not math.isfinite(max_latency_ms):
        raise StudyError(
            f"`--max-latency-ms` must be a number of milliseconds, got {max_latency_ms}; leave it "
            "out for none"
        )
    able = [s for s in students if max_latency_ms is None or s.latency_ms <= max_latency_ms]
    if not able:
        fastest = min(s.latency_ms for s in students)
        raise StudyError(
            f"`--max-latency-ms` must leave a student of the front, got {max_latency_ms}; "
            f"the fastest takes {fastest:.4g} ms"
        )
    if pick.isdecimal():
        for student in able:
            if student.trial == int(pick):
                return student
        known = ", ".join(str(student.trial) for student in able)
        raise StudyError(f"`--pick` must be a trial on the front ({known}), got {pick}")
    if pick == "fastest":
        return min(able, key=lambda student: student.latency_ms)
    if pick == "most-accurate":
        return max(able, key=lambda student: (student.val_accuracy, -student.latency_ms))
    if pick == "knee":
        return _knee(able)
    raise StudyError(
        f"`--pick` must be knee, fastest, most-accurate or a trial's number, got {pick}"
    )


def _knee(students: Sequence[FrontStudent]) -> FrontStudent:
    """The student furthest above the line between the ends (Das, 1999), axes in [0, 1]."""
    ordered = sorted(students, key=lambda student: student.latency_ms)
    first, last = ordered[0], ordered[-1]
    width = math.log(last.latency_ms / first.latency_ms) or 1.0
    height = (last.val_accuracy - first.val_accuracy) or 1.0

    def gain(student: FrontStudent) -> tuple[float, float]:
        across = math.log(student.latency_ms / first.latency_ms) / width
        above = (student.val_accuracy - first.val_accuracy) / height - across
        return round(above, 9), student.val_accuracy

    return max(ordered, key=gain)
