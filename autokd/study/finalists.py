"""Students of the front, as the search left them and as the finals made them."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from scipy import stats

from autokd.spaces import Space
from autokd.study.refits import Refit, name_weights, without_teacher
from autokd.types import Estimate, FrontStudent, TrialResult

__all__ = [
    "build_front_student",
    "choose_best",
    "compare_with_twin",
    "estimate",
    "explain_vanity",
    "fill",
    "fill_student",
    "retime_student",
]


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and half-width of the 95 % t-interval; none of it for a single value."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return Estimate(mean=mean, ci95=None, n=len(values))
    spread = float(stats.sem(values))
    width = float(stats.t.ppf(0.975, len(values) - 1)) * spread
    return Estimate(mean=mean, ci95=width, n=len(values))


def build_front_student(result: TrialResult, *, space: Space, teacher_ms: float) -> FrontStudent:
    """A row of the front from a complete result of the search, without test accuracy.

    Args:
        result: A complete one.
        space: For its architecture.
        teacher_ms: Latency of the teacher.

    Returns:
        The row.

    Raises:
        ValueError: The result is not complete.
    """
    latency, footprint, recipe = result.latency, result.footprint, result.recipe
    if latency is None or footprint is None or recipe is None or result.val_accuracy is None:
        raise ValueError(f"`result` must be complete, got trial {result.trial} {result.state}")
    return FrontStudent(
        trial=result.trial,
        val_accuracy=result.val_accuracy,
        latency_ms=latency.median_ms,
        latency_ci95_ms=(latency.ci95_low_ms, latency.ci95_high_ms),
        speed_up=teacher_ms / latency.median_ms,
        n_params=footprint.n_params,
        macs=footprint.macs,
        size_bytes=footprint.size_bytes,
        architecture=space.architecture_of(result.sample),
        recipe=recipe,
        fp32_latency_ms=None if result.fp32_latency is None else result.fp32_latency.median_ms,
        weights=name_weights(result),
    )


def fill_student(student: FrontStudent, refits: Sequence[Refit]) -> FrontStudent:
    """A student of the search, with what came of its trainings in the finals.

    Args:
        student: As the search left it.
        refits: Its own and those of its twin without distillation, in the order of their seeds.

    Returns:
        The student, or its twin if that is more accurate on validation, mean against mean; either
        with the gain by distillation on the test split, which is negative where it costs something,
        and none where no training of the twin came to its end.
    """
    kept, plain = compare_with_twin(student, refits)
    if plain is not None and plain.val_accuracy > kept.val_accuracy:
        gain = {"kd_gain": kept.kd_gain, "kd_gain_ci95": kept.kd_gain_ci95}
        return dataclasses.replace(plain, **gain, is_twin=True)
    return kept


def compare_with_twin(
    student: FrontStudent, refits: Sequence[Refit]
) -> tuple[FrontStudent, FrontStudent | None]:
    """A student and its twin without distillation, with what came of their trainings.

    Args:
        student: What is known before.
        refits: Of both, in the order of their seeds.

    Returns:
        The student, with the gain on the test split of the seeds that both were trained with; and
        the twin, if any.
    """
    ours = [refit for refit in refits if not refit.is_twin]
    twins = [refit for refit in refits if refit.is_twin]
    kept = fill(student, ours)
    if not student.recipe.is_taught:  # its own twin
        return dataclasses.replace(kept, kd_gain=0.0, kd_gain_ci95=0.0), None
    if not twins:
        return kept, None
    plain = dataclasses.replace(student, recipe=without_teacher(student.recipe))
    plain = dataclasses.replace(fill(plain, twins), kd_gain=0.0, kd_gain_ci95=0.0)
    without = {refit.seed: refit.test_accuracy for refit in twins}
    gains = [one.test_accuracy - without[one.seed] for one in ours if one.seed in without]
    if not gains:
        return kept, plain
    gain = estimate(gains)
    return dataclasses.replace(kept, kd_gain=gain.mean, kd_gain_ci95=gain.ci95), plain


def choose_best(refits: Iterable[Refit]) -> Refit:
    """The training that did best on validation."""
    return max(refits, key=lambda refit: (refit.val_accuracy, -refit.seed))


def fill(student: FrontStudent, refits: Sequence[Refit]) -> FrontStudent:
    """A student, or a twin, with its accuracies over some trainings and the best of them."""
    test = estimate([refit.test_accuracy for refit in refits])
    return dataclasses.replace(
        student,
        weights=choose_best(refits).file,
        val_accuracy=estimate([refit.val_accuracy for refit in refits]).mean,
        test_accuracy=test.mean,
        test_accuracy_ci95=test.ci95,
        n_seeds=test.n,
    )


def retime_student(student: FrontStudent, ratio: float) -> FrontStudent:
    """A student whose file is another one than that which was timed.

    Args:
        student: As it was timed.
        ratio: The time of its file now over that of the one before.

    Returns:
        It, with the time of its file.
    """
    low, high = student.latency_ci95_ms
    return dataclasses.replace(
        student,
        latency_ms=student.latency_ms * ratio,
        latency_ci95_ms=(low * ratio, high * ratio),
        speed_up=student.speed_up / ratio,
    )


def explain_vanity(ratios: Mapping[int, float]) -> str:
    """What is said where no student is faster in INT8.

    Args:
        ratios: By trial, the time in INT8 over that in FP32.

    Returns:
        The rule, the nearest student and the remedy.
    """
    trial = min(ratios, key=lambda one: (ratios[one], one))
    return (
        f"`--precision` must leave a student that is faster than in FP32, got none of "
        f"{len(ratios)}; the nearest, trial {trial}, takes {ratios[trial]:.3g} times as long in "
        "INT8; pass another --study with --precision fp32"
    )
