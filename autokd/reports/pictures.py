"""How the house's pictures look."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BASELINE", "FRONT", "QUIET", "TEACHER", "build_axes", "place_labels", "save_picture"]

FRONT = "#1f5fa8"
TEACHER = "#e08a00"
BASELINE = "#b3322b"
QUIET = "#a9adb2"

Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, low, right, high, in pixels."""

_OFFSETS = [(-5.0, 4.0), (-5.0, 16.0), (6.0, -14.0), (6.0, -26.0), (-5.0, 28.0), (-5.0, 40.0)]
"""Of a label from its point, in typographic points, the best first."""


def build_axes(title: str, *, subtitle: str = "") -> "tuple[Figure, Axes]":
    """An empty picture of 16:10, apart from pyplot's global state.

    Args:
        title: In bold, above the picture.
        subtitle: In grey, below the title.

    Returns:
        The figure and its axes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 6.0), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=15, fontweight="bold", pad=26)
    axes.annotate(
        subtitle,
        (0.5, 1.0),
        xytext=(0, 9),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="center",
        fontsize=10,
        color="#555555",
    )
    axes.grid(visible=True, which="major", color="#e6e8ea", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def save_picture(figure: "Figure", *, file: Path) -> Path:
    """Draw the figure with the Agg renderer and write it as PNG.

    Args:
        figure: Of `build_axes`.
        file: Where it goes; its folder is created.

    Returns:
        The file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    file.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(str(file))
    return file


def place_labels(axes: "Axes", *, labels: Iterable[tuple[float, float, str]], color: str) -> None:
    """Write a label beside each point, where no other label or point is.

    The corner above and to the left of a Pareto front's point is free of other points, so
    it is tried first, ever farther away, and then the corner below and to the right.

    Args:
        axes: With its limits set and drawn once, so that pixels are known.
        labels: Place in the data, and text.
        color: Of the texts.
    """
    labels = list(labels)
    scale = axes.figure.dpi / 72  # pixels of a typographic point
    dots = [axes.transData.transform((x, y)) for x, y, _ in labels]
    taken: list[Box] = [(px - 5, py - 5, px + 5, py + 5) for px, py in dots]
    for (x, y, text), (px, py) in zip(labels, dots, strict=True):
        size = 6.2 * len(text) * scale, 11 * scale
        boxes = {
            (right, up): _box((px + right * scale, py + up * scale), size=size, is_left=right < 0)
            for right, up in _OFFSETS
        }
        free = [offset for offset in _OFFSETS if _is_free(boxes[offset], taken=taken)]
        right, up = (free or _OFFSETS)[0]
        taken.append(boxes[right, up])
        axes.annotate(
            text,
            (x, y),
            xytext=(right, up),
            textcoords="offset points",
            ha="right" if right < 0 else "left",
            va="bottom",
            fontsize=9,
            color=color,
            arrowprops={"arrowstyle": "-", "color": QUIET, "lw": 0.6} if abs(up) > 15 else None,
        )


def _box(anchor: Point, *, size: Point, is_left: bool) -> Box:
    """The box of a text that stands on the anchor, or ends there if it is left of its point."""
    left, low = anchor[0] - (size[0] if is_left else 0), anchor[1]
    return left, low, left + size[0], low + size[1]


def _is_free(box: Box, *, taken: list[Box]) -> bool:
    """Whether no other box shares a pixel with this one."""
    left, low, right, high = box
    return not any(left < b[2] and b[0] < right and low < b[3] and b[1] < high for b in taken)
