"""What the reports show of a student: an accuracy with its interval, and short texts."""

from collections.abc import Sequence
from dataclasses import dataclass

from autokd.types import Front, FrontStudent, TrialResult

__all__ = [
    "NOTHING",
    "Accuracy",
    "Point",
    "build_accuracy",
    "gain_of",
    "is_quantized",
    "is_tested",
    "label_of",
    "latency_errors",
    "of_validation",
    "short_count",
    "short_ms",
    "short_text",
    "shown_students",
    "signed_points",
    "split_name",
    "summary",
    "trial_points",
]

Point = tuple[float, float]
"""A latency in ms and an accuracy in per cent."""

NOTHING = "–"  # noqa: RUF001 - a dash


_LONGEST = 16  # characters of a name


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """An accuracy as it is shown, in per cent.

    Attributes:
        percent: The mean.
        ci95: Half the width of the 95 % interval; none where it is not known.
    """

    percent: float
    ci95: float | None = None

    def __str__(self) -> str:
        return f"{self.percent:.1f}" + ("" if self.ci95 is None else f" ± {self.ci95:.1f}")


def short_text(text: str) -> str:
    """A name of a class or a choice for a picture, cut where it is long; `$` begins no formula."""
    short = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return short.replace("$", r"\$")


def is_tested(front: Front) -> bool:
    """Whether there is a test accuracy of every student, so that the reports can show it."""
    return bool(front.students) and all(s.test_accuracy is not None for s in front.students)


def is_quantized(front: Front) -> bool:
    """Whether a student of the front is in INT8, so that the reports must tell precisions."""
    return any(student.recipe.precision == "int8" for student in front.students)


def label_of(student: FrontStudent) -> str:
    """What a student is called in a picture."""
    return f"#{student.trial}" + (" int8" if student.recipe.precision == "int8" else "")


def build_accuracy(student: FrontStudent, *, is_test: bool) -> Accuracy | None:
    """The accuracy of a student on the split that is shown.

    Args:
        student: Of the front, or the baseline.
        is_test: Whether the test split is shown, rather than the validation split.

    Returns:
        The accuracy, or none where it was not measured.
    """
    if not is_test:
        return Accuracy(percent=100 * student.val_accuracy)
    if student.test_accuracy is None:
        return None
    ci95 = student.test_accuracy_ci95
    return Accuracy(percent=100 * student.test_accuracy, ci95=None if ci95 is None else 100 * ci95)


def signed_points(gain: float | None, *, ci95: float | None) -> str:
    """A difference of accuracies, in percentage points; a dash where there is none."""
    if gain is None:
        return NOTHING
    return f"{100 * gain:+.1f}" + ("" if ci95 is None else f" ± {100 * ci95:.1f}")


def gain_of(student: FrontStudent) -> str:
    """The gain by distillation in points; a dash where nobody was distilled."""
    if not (student.recipe.is_taught or student.is_twin):
        return NOTHING
    return signed_points(student.kd_gain, ci95=student.kd_gain_ci95)


def short_count(number: int | None) -> str:
    """A count in three digits and a unit: 950, 12.3k, 4.56M; a dash where there is none."""
    if number is None:
        return NOTHING
    size = float(number)
    for unit in ("", "k", "M"):
        if size < 999.5:
            return f"{size:.3g}{unit}"
        size /= 1000
    return f"{size:.3g}G"


def short_ms(latency_ms: float) -> str:
    """A latency in three digits, in milliseconds."""
    return f"{latency_ms:#.3g}" if latency_ms < 99.5 else f"{latency_ms:.0f}"


def trial_points(results: Sequence[TrialResult]) -> dict[int, Point]:
    """Number of a trial to its latency in ms and its validation accuracy in per cent.

    Args:
        results: Of trials; one that was stopped early is left out, since its accuracy after
            fewer epochs compares with nothing.

    Returns:
        The points that can be drawn.
    """
    return {
        result.trial: (result.latency.median_ms, 100 * result.val_accuracy)
        for result in results
        if result.state == "complete"
        and result.latency is not None
        and result.val_accuracy is not None
    }


def shown_students(front: Front) -> list[tuple[FrontStudent, Accuracy]]:
    """The students in the order of the front, with the accuracy that is drawn."""
    pairs = ((s, build_accuracy(s, is_test=is_tested(front))) for s in front.students)
    return [(student, accuracy) for student, accuracy in pairs if accuracy is not None]


def split_name(front: Front) -> str:
    """The split whose accuracy is shown."""
    return "Test" if is_tested(front) else "Validation"


def of_validation(front: Front) -> str:
    """What is said of points that are not of the split of the axis."""
    return " (validation)" if is_tested(front) else ""


def summary(front: Front) -> str:
    """The study in a line."""
    trials = f"{front.n_trials} trials, {len(front.students)} students on the front"
    return f"{trials}, hypervolume {front.hypervolume:.3f}"


def latency_errors(students: Sequence[FrontStudent]) -> list[list[float]]:
    """Below and above the latency; one outside its own interval has none."""
    low = [max(0.0, s.latency_ms - s.latency_ci95_ms[0]) for s in students]
    high = [max(0.0, s.latency_ci95_ms[1] - s.latency_ms) for s in students]
    return [low, high]
