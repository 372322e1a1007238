"""All dimensions of all trials in one picture: parallel coordinates, a row for each dimension."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autokd.reports.pictures import build_axes, save_picture
from autokd.reports.points import short_ms, short_text
from autokd.types import Dimension, Scalar, TrialResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_coordinates"]

_ROW_IN, _HEAD_IN = 0.42, 1.6
_GREY, _LINE = "#555555", "#c9ccd0"
_SHARE = 0.45  # of a choice's room that the lines through it are spread over


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One coordinate.

    Attributes:
        label: Beside it.
        places: Of the trials, in [0, 1].
        ticks: Places and what is written there.
    """

    label: str
    places: tuple[float, ...]
    ticks: tuple[tuple[float, str], ...]


def draw_coordinates(
    results: Sequence[TrialResult],
    *,
    dimensions: Sequence[Dimension],
    study: str,
    folder: Path,
    order: Sequence[str] = (),
) -> Path:
    """Draw each trial as a line through its values of all dimensions, down to its objectives.

    Args:
        results: Trials; those that were not trained to the end are left out.
        dimensions: That were searched.
        study: Its name.
        folder: Where the file goes.
        order: Labels from the top; what it does not name comes after them.

    Returns:
        `coordinates.png`.
    """
    from matplotlib import colormaps

    trained = sorted(
        (one for one in results if one.state == "complete" and one.latency is not None),
        key=_percent,  # the most accurate are drawn last, above the others
    )
    ranks = {label: rank for rank, label in enumerate(order)}
    ordered = sorted(dimensions, key=lambda one: ranks.get(one.label, len(ranks)))
    rows = [
        _build_row(one, [result.sample[one.label] for result in trained])
        for one in ordered
        if all(one.label in result.sample for result in trained)
    ]
    rows += _build_objectives(trained)
    figure, axes = build_axes(
        f"All dimensions of {study}",
        subtitle=f"{len(trained)} trials that were trained to their end; the darker, the more "
        "accurate",
    )
    figure.set_size_inches(9.6, _HEAD_IN + _ROW_IN * len(rows))
    for number in range(len(trained)):
        rank = (number + 1) / len(trained)  # an accuracy far below the others must not bleach them
        axes.plot(
            [row.places[number] for row in rows],
            range(len(rows)),
            color=colormaps["YlGnBu"](0.2 + 0.8 * rank),
            lw=0.7 + 1.1 * rank,
            alpha=0.4 + 0.5 * rank,
            zorder=2,
        )
    _draw_rows(axes, rows)
    return save_picture(figure, file=folder / "coordinates.png")


def _draw_rows(axes: "Axes", rows: Sequence[_Row]) -> None:
    for number, row in enumerate(rows):
        axes.axhline(number, color=_LINE, lw=0.8, zorder=1)
        for place, text in row.ticks:
            axes.annotate(
                text,
                (place, number),
                xytext=(0, -3),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=7.5,
                color="black",
                bbox={"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.8},
                zorder=3,
            )
    axes.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=9)
    axes.grid(visible=False)
    axes.set(xlim=(-0.04, 1.04), ylim=(len(rows) - 0.3, -0.5), xticks=[])
    axes.tick_params(length=0)
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)


def _build_row(dimension: Dimension, values: Sequence[Scalar]) -> _Row:
    if dimension.choices:
        return _build_choices(dimension.label, dimension.choices, values)
    return _build_numbers(
        dimension.label,
        [float(value) for value in values],
        ends=(float(dimension.low), float(dimension.high)),
        is_log=dimension.is_log,
        write=lambda value: f"{value:.3g}",
    )


def _build_choices(label: str, choices: Sequence[Scalar], values: Sequence[Scalar]) -> _Row:
    """Evenly spaced choices; lines through one are spread, the most accurate to the right."""
    choices, room = _sort(choices), 1 / len(choices)
    places = [
        (choices.index(value) + 0.5 + _SHARE * ((number + 0.5) / len(values) - 0.5)) * room
        for number, value in enumerate(values)
    ]
    ticks = [
        ((place + 0.5) * room, short_text(str(choice))) for place, choice in enumerate(choices)
    ]
    return _Row(label=label, places=tuple(places), ticks=tuple(ticks))


def _sort(choices: Sequence[Scalar]) -> list[Scalar]:
    """Numbers from the smallest; other choices as the space has them."""
    is_numeric = all(isinstance(choice, int | float) for choice in choices)
    return sorted(choices) if is_numeric else list(choices)


def _build_numbers(
    label: str,
    values: Sequence[float],
    *,
    ends: tuple[float, float],
    is_log: bool,
    write: Callable[[float], str],
) -> _Row:
    scale = math.log if is_log else float
    low, high = scale(ends[0]), scale(ends[1])
    width = (high - low) or 1.0
    middle = math.exp((low + high) / 2) if is_log else (low + high) / 2
    return _Row(
        label=label + " (log)" * is_log,
        places=tuple((scale(value) - low) / width for value in values),
        ticks=((0.0, write(ends[0])), (0.5, write(middle)), (1.0, write(ends[1]))),
    )


def _build_objectives(trained: Sequence[TrialResult]) -> list[_Row]:
    times = [result.latency.median_ms for result in trained if result.latency is not None]
    accuracies = [_percent(result) for result in trained]
    return [
        _build_numbers("LATENCY in ms", times, ends=_ends(times), is_log=True, write=short_ms),
        _build_numbers(
            "ACCURACY in %", accuracies, ends=_ends(accuracies), is_log=False, write=_short_percent
        ),
    ]


def _short_percent(value: float) -> str:
    return f"{value:.1f}"


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """The smallest and the largest."""
    return min(values, default=1.0), max(values, default=1.0)


def _percent(result: TrialResult) -> float:
    return 100 * (result.val_accuracy or 0.0)
