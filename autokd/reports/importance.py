"""How much each dimension matters, in one picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autokd.reports.pictures import FRONT, TEACHER, build_axes, save_picture

__all__ = ["Importance", "draw_importance"]

_ROW_IN, _HEAD_IN = 0.3, 1.9  # of a dimension, of title and scale
_COLORS = {"accuracy": FRONT, "latency": TEACHER}
_NAMES = {"accuracy": "validation accuracy", "latency": "latency (log)"}


@dataclass(frozen=True, kw_only=True)
class Importance:
    """How much each dimension matters for one objective.

    Attributes:
        objective: `accuracy` or `latency`.
        n_trials: Of which it is known.
        shares: Label to a share of the objective's variance, in [0, 1]; they add up to 1.
    """

    objective: Literal["accuracy", "latency"]
    n_trials: int
    shares: Mapping[str, float]


def draw_importance(found: Sequence[Importance], *, study: str, folder: Path) -> Path:
    """Draw the share of each dimension in the variance of each objective.

    Args:
        found: For each objective.
        study: Its name.
        folder: Where the file goes.

    Returns:
        `importance.png`, the dimension that matters most at its top.
    """
    labels = sorted(
        {label for one in found for label in one.shares},
        key=lambda label: (-max(one.shares.get(label, 0.0) for one in found), label),
    )
    figure, axes = build_axes(
        f"Importance of the dimensions of {study}",
        subtitle="functional ANOVA; the shares of an objective add up to 100 %",
    )
    figure.set_size_inches(9.6, max(3.4, _HEAD_IN + _ROW_IN * len(labels)))
    height = 0.8 / max(len(found), 1)
    for place, one in enumerate(found):
        shares = [100 * one.shares.get(label, 0.0) for label in labels]
        bars = axes.barh(
            [row + (place - (len(found) - 1) / 2) * height for row in range(len(labels))],
            shares,
            height=height,
            color=_COLORS[one.objective],
            label=f"{_NAMES[one.objective]}, {one.n_trials} trials",
        )
        texts = [f"{share:.0f}" if share >= 0.5 else "" for share in shares]
        axes.bar_label(bars, labels=texts, fontsize=7.5, padding=2, color="#555555")
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlabel("Share of the variance in %", fontsize=10.5)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.06)
    axes.legend(loc="lower right", frameon=False, fontsize=9.5)
    return save_picture(figure, file=folder / "importance.png")
