"""Pictures beside what a teacher and a student look at in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from autokd.reports.pictures import BASELINE, FRONT, save_picture
from autokd.reports.points import short_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["Look", "draw_looks"]

_GREY = "#555555"
_PANELS = ("picture", "teacher", "student")
_SIDE_IN, _TITLE_IN, _HEAD_IN = 1.2, 0.3, 0.95  # of a panel, above a row, above the sheet


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """One picture, and what two networks see in it.

    Attributes:
        picture: Pixels in 0..255.
        label: Name of its class.
        teacher_says: Name of the class that the teacher chooses.
        student_says: Name of the class that the student chooses.
        teacher_map: What speaks for its choice, in [0, 1].
        student_map: The same of the student.
        similarity: Of both maps; none where one of them is the same everywhere.
    """

    picture: UInt8[Tensor, "channels height width"]
    label: str
    teacher_says: str
    student_says: str
    teacher_map: Float[Tensor, "height width"]
    student_map: Float[Tensor, "height width"]
    similarity: float | None

    @property
    def is_agreed(self) -> bool:
        """Whether both choose the same class."""
        return self.teacher_says == self.student_says


def draw_looks(looks: Sequence[Look], *, title: str, subtitle: str, file: Path) -> Path:
    """Draw where teacher and student look: left where they agree, right where they do not.

    Args:
        looks: In the order in which they are shown; one column where all are of one kind.
        title: In bold, above the sheet.
        subtitle: In grey, below the title.
        file: Where it goes.

    Returns:
        The file.
    """
    from matplotlib.figure import Figure

    sides = [
        (name, color, shown)
        for name, color, shown in (
            ("They agree", FRONT, [look for look in looks if look.is_agreed]),
            ("They disagree", BASELINE, [look for look in looks if not look.is_agreed]),
        )
        if shown
    ]
    n_rows = max((len(shown) for _, _, shown in sides), default=1)
    width = max(4.2 * len(sides), 6.4)
    height = _HEAD_IN + n_rows * (_SIDE_IN + _TITLE_IN) + 0.95
    figure = Figure(figsize=(width, height), dpi=150)
    size = min(15.0, 105 * width / max(len(title), 1))  # of a bold letter, so that all fit
    figure.text(0.5, 1 - 0.32 / height, title, ha="center", fontsize=size, fontweight="bold")
    figure.text(0.5, 1 - 0.58 / height, subtitle, ha="center", fontsize=9.5, color=_GREY)
    halves = figure.subfigures(1, max(len(sides), 1), squeeze=False)[0]
    for half, (name, color, shown) in zip(halves, sides, strict=False):
        top = 1 - _HEAD_IN / height
        half.text(0.5, top, name, ha="center", fontsize=11.5, fontweight="bold", color=color)
        _draw_half(half, shown, n_rows=n_rows, color=color, height=height)
    _draw_scale(figure, height=height)
    return save_picture(figure, file=file)


def _draw_half(
    half: "SubFigure", looks: Sequence[Look], *, n_rows: int, color: str, height: float
) -> None:
    grid = half.add_gridspec(
        n_rows,
        3,
        left=0.05,
        right=0.95,
        top=1 - (_HEAD_IN + 0.5) / height,
        bottom=0.62 / height,
        wspace=0.05,
        hspace=0.26,
    )
    for row, look in enumerate(looks):
        panels: list[Axes] = [half.add_subplot(grid[row, column]) for column in range(3)]
        _draw_picture(panels[0], look.picture)
        _draw_map(panels[1], look.picture, look.teacher_map)
        _draw_map(panels[2], look.picture, look.student_map)
        similarity = "no r" if look.similarity is None else f"r = {look.similarity:+.2f}"
        texts = map(short_text, (look.label, look.teacher_says, look.student_says))
        for axes, name, text in zip(panels, _PANELS, texts, strict=True):
            axes.set_title(text, fontsize=8, pad=3)
            if row == 0:
                _write_head(axes, name)
        panels[2].annotate(
            similarity,
            (0.97, 0.04),
            xycoords="axes fraction",
            ha="right",
            fontsize=8,
            color="black",
            bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": color, "lw": 0.8},
        )


def _write_head(axes: "Axes", text: str) -> None:
    """What stands in a column."""
    axes.annotate(
        text,
        (0.5, 1.0),
        xytext=(0, 16),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="center",
        fontsize=9,
        color=_GREY,
    )


def _draw_picture(axes: "Axes", picture: UInt8[Tensor, "channels height width"]) -> None:
    pixels = picture.permute(1, 2, 0).numpy()
    if pixels.shape[2] == 1:
        axes.imshow(pixels[..., 0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    else:
        axes.imshow(pixels[..., :3], interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def _draw_map(
    axes: "Axes",
    picture: UInt8[Tensor, "channels height width"],
    values: Float[Tensor, "height width"],
) -> None:
    """The map in colours that are told apart by lightness too, over the picture in greys."""
    grey = picture[:3].float().mean(0).numpy()
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.imshow(values.numpy(), cmap="viridis", vmin=0, vmax=1, alpha=0.6, interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def _draw_scale(figure: "Figure", *, height: float) -> None:
    axes = figure.add_axes((0.3, 0.34 / height, 0.4, 0.1 / height))
    axes.imshow(np.linspace(0, 1, 256)[None], cmap="viridis", aspect="auto", extent=(0, 1, 0, 1))
    axes.set(yticks=[], xticks=[0, 1])
    axes.set_xticklabels(["nothing speaks for the choice", "most in this picture"], fontsize=8)
    axes.tick_params(length=0)
