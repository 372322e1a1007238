"""Learning curves of all trials in one picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autokd.reports.pictures import QUIET, build_axes, save_picture
from autokd.types import Front, TrialResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_curves"]


def draw_curves(
    results: Sequence[TrialResult], *, folder: Path, front: Front | None = None
) -> Path:
    """Draw the validation accuracy over the epochs, the trials of the front in colour.

    Args:
        results: Trials; those without a curve are left out.
        folder: Where the file goes.
        front: Whose students are highlighted, if it is known.

    Returns:
        `curves.png`.
    """
    from matplotlib.ticker import MaxNLocator

    chosen = [] if front is None else [student.trial for student in front.students]
    drawn = [result for result in results if result.curve]
    study = "" if front is None else f" of {front.study}"
    figure, axes = build_axes(
        f"Learning curves{study}", subtitle=f"{len(drawn)} trials, validation accuracy per epoch"
    )
    axes.set_xlabel("Epoch", fontsize=10.5)
    axes.set_ylabel("Validation accuracy in %", fontsize=10.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    colors = dict(zip(chosen, _shades(len(chosen)), strict=True))
    others = [result for result in drawn if result.trial not in colors]
    for index, result in enumerate(others):
        _draw_curve(axes, result=result, color=QUIET, label="" if index else "other trials")
    for result in sorted(
        (result for result in drawn if result.trial in colors),
        key=lambda result: chosen.index(result.trial),
    ):
        _draw_curve(axes, result=result, color=colors[result.trial], label=f"#{result.trial}")
    if drawn:
        figure.legend(loc="outside right upper", frameon=False, fontsize=9.5, title="trials")
    return save_picture(figure, file=folder / "curves.png")


def _shades(n: int) -> list[str]:
    """Colours from the fastest student's to the slowest's, told apart by lightness too."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["viridis"](0.9 * index / max(n - 1, 1))) for index in range(n)]


def _draw_curve(axes: "Axes", *, result: TrialResult, color: str, label: str) -> None:
    is_quiet = color == QUIET
    axes.plot(
        [row.epoch for row in result.curve],
        [100 * row.val_accuracy for row in result.curve],
        color=color,
        lw=0.8 if is_quiet else 2.0,
        alpha=0.6 if is_quiet else 1.0,
        marker="o",
        ms=2 if is_quiet else 4,
        label=label or "_nolegend_",
        zorder=2 if is_quiet else 3,
    )
