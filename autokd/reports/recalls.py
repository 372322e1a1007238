"""Recalls of a dual tower and of its twin over the epochs, beside the teacher's."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from autokd.reports.pictures import BASELINE, FRONT, TEACHER, build_axes, save_picture
from autokd.types import EpochLog

__all__ = ["draw_recalls"]


def draw_recalls(
    curves: Mapping[str, Sequence[Sequence[EpochLog]]], *, teacher: float, title: str, file: Path
) -> Path:
    """Draw the mean recall at 1 on the validation split, a line a seed.

    Args:
        curves: Of the student, then of its twin if there is one, by what they are called.
        teacher: Its own recall on that split, in [0, 1].
        title: Above the picture.
        file: Where it goes.

    Returns:
        The file.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = build_axes(
        title, subtitle="mean recall at 1 of both directions on the validation split, a line a seed"
    )
    for (name, seeds), color in zip(curves.items(), (FRONT, BASELINE), strict=False):
        for number, curve in enumerate(seeds):
            axes.plot(
                [row.epoch for row in curve],
                [100 * row.val_accuracy for row in curve],
                color=color,
                lw=1.8,
                marker="o",
                ms=3.5,
                label="_nolegend_" if number else name,
            )
    axes.axhline(100 * teacher, color=TEACHER, lw=1.6, ls="--", label="teacher")
    axes.set_xlabel("Epoch", fontsize=10.5)
    axes.set_ylabel("Recall in %", fontsize=10.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside right upper", frameon=False, fontsize=9.5)
    return save_picture(figure, file=file)
