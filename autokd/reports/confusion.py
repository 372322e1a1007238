"""Which classes a network takes for which."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import Int64
from torch import Tensor

from autokd.reports.pictures import build_axes, save_picture
from autokd.reports.points import short_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["count_confusions", "draw_confusions", "find_confusions"]

_MOST_NUMBERS, _MOST_NAMES = 20, 60  # classes, of which counts and names can be read


def count_confusions(
    chosen: Int64[Tensor, " n"], labels: Int64[Tensor, " n"], *, n_classes: int
) -> Int64[Tensor, "classes classes"]:
    """How many pictures of each class (rows) are taken for each (columns).

    Args:
        chosen: Classes that a network chooses.
        labels: The right ones.
        n_classes: Of the data.

    Returns:
        Counts; the right ones are on the diagonal.
    """
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    return multiclass_confusion_matrix(chosen, labels, num_classes=n_classes)


def find_confusions(
    counts: Int64[Tensor, "classes classes"], *, classes: Sequence[str], most: int = 5
) -> list[tuple[str, str, int, float]]:
    """The pairs of classes that are mixed up most often.

    Args:
        counts: As `count_confusions` gives them.
        classes: Names in their order.
        most: Pairs.

    Returns:
        The right class, what it is taken for, how many pictures, their share of the right class.
    """
    wrong = counts.clone().fill_diagonal_(0)
    n_pairs = min(most, int((wrong > 0).sum()))
    names: list[str] = list(classes)
    pairs: list[tuple[str, str, int, float]] = []
    for place in wrong.flatten().argsort(descending=True, stable=True)[:n_pairs].tolist():
        right, taken = divmod(place, len(names))
        n = int(wrong[right, taken])
        pairs.append((names[right], names[taken], n, n / int(counts[right].sum())))
    return pairs


def draw_confusions(
    counts: Int64[Tensor, "classes classes"], *, classes: Sequence[str], title: str, folder: Path
) -> Path:
    """Draw the confusion matrix, each row in per cent of its class.

    Args:
        counts: As `count_confusions` gives them.
        classes: Names in their order.
        title: In bold, above the picture.
        folder: Where the file goes.

    Returns:
        `confusion.png`; of many classes without numbers, of very many without names.
    """
    n_right, n = int(counts.diagonal().sum()), int(counts.sum())
    shares = 100 * counts / counts.sum(1, keepdim=True).clamp(min=1)
    figure, axes = build_axes(
        title, subtitle=f"{n_right:,} of {n:,} test pictures are right ({n_right / n:.1%})"
    )
    side = min(max(5.6, 2.6 + 0.5 * len(classes)), 10.5)
    figure.set_size_inches(side + 1.2, side)
    image = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    axes.grid(visible=False)
    axes.set_xlabel("Chosen class", fontsize=10.5)
    axes.set_ylabel("Right class", fontsize=10.5)
    if len(classes) <= _MOST_NAMES:
        names = [short_text(name) for name in classes]
        is_long = max(map(len, names)) > 3
        size = 9 if len(classes) <= 30 else 6
        axes.set_xticks(range(len(classes)), names, fontsize=size, rotation=90 if is_long else 0)
        axes.set_yticks(range(len(classes)), names, fontsize=size)
    if len(classes) <= _MOST_NUMBERS:
        _write_counts(axes, counts, shares=shares)
    figure.colorbar(image, ax=axes, shrink=0.7, label="Share of the right class in %")
    return save_picture(figure, file=folder / "confusion.png")


def _write_counts(axes: "Axes", counts: Tensor, *, shares: Tensor) -> None:
    for row in range(len(counts)):
        for column in range(len(counts)):
            if counts[row, column]:
                color = "white" if shares[row, column] > 55 else "black"
                text = f"{int(counts[row, column])}"
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=color)
