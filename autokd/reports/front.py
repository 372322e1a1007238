"""The front as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autokd.reports.pages import draw_page
from autokd.reports.pictures import (
    BASELINE,
    FRONT,
    QUIET,
    TEACHER,
    build_axes,
    place_labels,
    save_picture,
)
from autokd.reports.points import (
    Point,
    build_accuracy,
    is_tested,
    label_of,
    latency_errors,
    of_validation,
    shown_students,
    split_name,
    summary,
    trial_points,
)
from autokd.types import Front, TrialResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_front"]


def draw_front(front: Front, *, results: Sequence[TrialResult], folder: Path) -> tuple[Path, Path]:
    """Draw accuracy against latency: every trial, the front, the teacher, the baseline.

    Args:
        front: What a study has found.
        results: Its trials; those that were not trained to the end are left out.
        folder: Where the files go.

    Returns:
        `front.png`, and `front.html`, which needs no network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trials = trial_points(results)
    return (
        _draw_picture(front, trials=trials, file=folder / "front.png"),
        draw_page(front, trials=trials, file=folder / "front.html"),
    )


def _limits(front: Front, *, trials: Mapping[int, Point]) -> tuple[float, float]:
    """The accuracies that are shown: the worst quarter of the trials must not flatten the front."""
    shown = [accuracy.percent - (accuracy.ci95 or 0.0) for _, accuracy in shown_students(front)]
    shown += [accuracy.percent + (accuracy.ci95 or 0.0) for _, accuracy in shown_students(front)]
    shown.append(100 * front.teacher.val_accuracy)
    if front.baseline is not None:
        plain = build_accuracy(front.baseline, is_test=is_tested(front))
        percent = 100 * front.baseline.val_accuracy if plain is None else plain.percent
        ci95 = (plain and plain.ci95) or 0.0
        shown += [percent - ci95, percent + ci95]
    ranked = sorted(accuracy for _, accuracy in trials.values())
    shown += [*ranked[len(ranked) // 4 :][:1], *ranked[-1:]]
    margin = max(0.1 * (max(shown) - min(shown)), 1.0)
    return max(min(shown) - margin, 0.0), min(max(shown) + margin, 100.5)


def _draw_picture(front: Front, *, trials: Mapping[int, Point], file: Path) -> Path:
    figure, axes = build_axes(f"Front of {front.study}", subtitle=summary(front))
    axes.set_xscale("log")
    _set_labels(axes, split=split_name(front))
    _draw_trials(axes, front=front, trials=trials)
    _draw_students(axes, front=front)
    _draw_references(axes, front=front)
    axes.margins(x=0.08)
    axes.set_ylim(_limits(front, trials=trials))
    _set_ticks(axes)
    handles, texts = axes.get_legend_handles_labels()
    figure.legend(
        handles=[
            handles[place] for place in sorted(range(len(texts)), key=lambda n: _rank(texts[n]))
        ],
        loc="outside lower center",
        ncols=4,
        columnspacing=1.4,
        frameon=False,
        fontsize=9.5,
    )
    figure.draw_without_rendering()  # settles the layout, so that pixels are known
    labels = [(s.latency_ms, a.percent, label_of(s)) for s, a in shown_students(front)]
    place_labels(axes, labels=labels, color=FRONT)
    return save_picture(figure, file=file)


def _rank(text: str) -> int:
    """Of an entry of the legend."""
    return next(n for n, word in enumerate(("front", "trials", "teacher", "")) if word in text)


def _set_labels(axes: "Axes", *, split: str) -> None:
    axes.set_xlabel("Latency of one forward pass in ms (log)", fontsize=10.5)
    axes.set_ylabel(f"{split} accuracy in %", fontsize=10.5)


def _set_ticks(axes: "Axes") -> None:
    """Latencies as plain numbers: 0.2, 0.5, 1, 2, ... rather than powers of ten."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw_trials(axes: "Axes", *, front: Front, trials: Mapping[int, Point]) -> None:
    if not trials:
        return
    floor, _ = _limits(front, trials=trials)
    n_below = sum(accuracy < floor for _, accuracy in trials.values())
    below = f", {n_below} below" if n_below else ""
    latencies, accuracies = zip(*trials.values(), strict=True)
    label = f"trials{of_validation(front)}{below}"
    axes.scatter(latencies, accuracies, s=14, color=QUIET, alpha=0.8, lw=0, label=label, zorder=2)


def _draw_students(axes: "Axes", *, front: Front) -> None:
    shown = shown_students(front)
    if not shown:
        return
    is_refitted = any(accuracy.ci95 is not None for _, accuracy in shown)
    axes.errorbar(
        [student.latency_ms for student, _ in shown],
        [accuracy.percent for _, accuracy in shown],
        yerr=[accuracy.ci95 or 0.0 for _, accuracy in shown] if is_refitted else None,
        xerr=latency_errors([student for student, _ in shown]),
        color=FRONT,
        marker="o",
        ms=7,
        lw=1.6,
        elinewidth=1.1,
        capsize=2.5,
        label="front, 95 % intervals",
        zorder=4,
    )


def _draw_references(axes: "Axes", *, front: Front) -> None:
    teacher = front.teacher
    axes.scatter(
        [teacher.latency_ms],
        [100 * teacher.val_accuracy],
        s=260,
        marker="*",
        color=TEACHER,
        edgecolors="white",
        label=f"teacher{of_validation(front)}",
        zorder=5,
    )
    if front.baseline is None:
        return
    accuracy = build_accuracy(front.baseline, is_test=is_tested(front))
    split = of_validation(front) if accuracy is None else ""
    percent = 100 * front.baseline.val_accuracy if accuracy is None else accuracy.percent
    ci95 = None if accuracy is None else accuracy.ci95
    axes.errorbar(
        [front.baseline.latency_ms],
        [percent],
        yerr=None if ci95 is None else [ci95],
        xerr=latency_errors([front.baseline]),
        color=BASELINE,
        marker="s",
        ms=7,
        mfc="white",
        mew=1.6,
        ls="none",
        elinewidth=1.1,
        capsize=2.5,
        capthick=1.1,
        label=f"no distillation{split}",
        zorder=5,
    )
