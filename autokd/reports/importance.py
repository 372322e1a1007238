"""How much each dimension matters, in one picture."""

from collections.abc import Mapping
from pathlib import Path

from autokd.reports.pictures import FRONT, TEACHER, build_axes, save_picture

__all__ = ["draw_importance"]

_BAR_IN = 0.3  # of a dimension
_COLORS = {"accuracy": FRONT, "latency": TEACHER}
_SPLITS = {"accuracy": "validation accuracy", "latency": "latency (log)"}


def draw_importance(
    shares: Mapping[str, Mapping[str, float]], *, study: str, n_trials: int, folder: Path
) -> Path:
    """Draw the share of each dimension in the variance of each objective.

    Args:
        shares: Objective to label to a share in [0, 1].
        study: Its name.
        n_trials: That the shares are of, at the most.
        folder: Where the file goes.

    Returns:
        `importance.png`, the dimension that matters most at its top.
    """
    labels = sorted(
        {label for one in shares.values() for label in one},
        key=lambda label: -max(one.get(label, 0.0) for one in shares.values()),
    )
    figure, axes = build_axes(
        f"Importance of the dimensions of {study}",
        subtitle=f"functional ANOVA of {n_trials} trials; the shares of an objective add up to 1",
    )
    figure.set_size_inches(9.6, max(3.4, 1.9 + _BAR_IN * len(labels)))
    height = 0.8 / max(len(shares), 1)
    for place, (objective, one) in enumerate(shares.items()):
        rows = [row + (place - (len(shares) - 1) / 2) * height for row in range(len(labels))]
        bars = axes.barh(
            rows,
            [100 * one.get(label, 0.0) for label in labels],
            height=height,
            color=_COLORS.get(objective),
            label=_SPLITS.get(objective, objective),
        )
        texts = [
            f"{100 * one[label]:.0f}" if one.get(label, 0) >= 0.005 else "" for label in labels
        ]
        axes.bar_label(bars, labels=texts, fontsize=7.5, padding=2, color="#555555")
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlabel("Share of the variance in %", fontsize=10.5)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.06)
    if shares:
        axes.legend(loc="lower right", frameon=False, fontsize=9.5)
    return save_picture(figure, file=folder / "importance.png")
