"""Whether a network is as often right as it says."""

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float, Int64
from torch import Tensor

from autokd.reports.pictures import BASELINE, FRONT, QUIET, build_axes, save_picture

__all__ = ["Calibration", "ConfidenceBin", "draw_calibration", "measure_calibration"]


@dataclass(frozen=True, kw_only=True)
class ConfidenceBin:
    """Pictures of which a network is about equally sure.

    Attributes:
        low: Lower end of the confidences, in [0, 1].
        high: Upper end of them.
        confidence: Their mean.
        accuracy: Share of the pictures on which the network is right.
        n: Pictures.
    """

    low: float
    high: float
    confidence: float
    accuracy: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How confidence and accuracy of a network go together.

    Attributes:
        ece: Expected calibration error: the mean over pictures of the gap between confidence and
            accuracy of their bin, in [0, 1].
        n_bins: Of equal width, empty ones among them.
        bins: Those with pictures in them.
    """

    ece: float
    n_bins: int
    bins: tuple[ConfidenceBin, ...]


def measure_calibration(
    logits: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"], *, n_bins: int = 15
) -> Calibration:
    """The expected calibration error and the bins that it is made of.

    Args:
        logits: Unnormalised scores.
        labels: The right classes.
        n_bins: Of equal width over [0, 1].

    Returns:
        Both.

    References:
        Guo, Pleiss, Sun & Weinberger, "On Calibration of Modern Neural Networks", ICML 2017,
        section 2, equation 3. https://arxiv.org/abs/1706.04599
    """
    probabilities = logits.double().softmax(1)
    confidences, chosen = probabilities.max(1)
    is_right = chosen == labels
    places = (confidences * n_bins).ceil().long().clamp(1, n_bins) - 1  # a bin holds its upper end
    bins: list[ConfidenceBin] = []
    for place in range(n_bins):
        inside = places == place
        if inside.any():
            bins.append(
                ConfidenceBin(
                    low=place / n_bins,
                    high=(place + 1) / n_bins,
                    confidence=float(confidences[inside].mean()),
                    accuracy=float(is_right[inside].double().mean()),
                    n=int(inside.sum()),
                )
            )
    ece = sum(one.n * abs(one.confidence - one.accuracy) for one in bins) / max(1, len(labels))
    return Calibration(ece=ece, n_bins=n_bins, bins=tuple(bins))


def draw_calibration(calibration: Calibration, *, title: str, folder: Path) -> Path:
    """Draw the reliability diagram, above it how many pictures there are of each confidence.

    Args:
        calibration: Of a network.
        title: In bold, above the picture.
        folder: Where the file goes.

    Returns:
        `calibration.png`.
    """
    from scipy.stats import binomtest

    bins, n = calibration.bins, sum(one.n for one in calibration.bins)
    figure, axes = build_axes(
        title,
        subtitle=f"expected calibration error {100 * calibration.ece:.1f} % over {n:,} test "
        f"pictures in {calibration.n_bins} bins",
    )
    figure.set_size_inches(7.0, 7.4)
    axes.plot([0, 100], [0, 100], color=QUIET, lw=1.2, ls="--", label="as sure as right", zorder=2)
    axes.bar(
        [50 * (one.low + one.high) for one in bins],
        [100 * one.n / n for one in bins],
        width=90 / calibration.n_bins,
        color=QUIET,
        alpha=0.45,
        label="share of the pictures",
        zorder=1,
    )
    intervals = [
        binomtest(round(one.accuracy * one.n), one.n).proportion_ci(method="wilson") for one in bins
    ]
    below = [100 * max(one.accuracy - i.low, 0.0) for one, i in zip(bins, intervals, strict=True)]
    above = [100 * max(i.high - one.accuracy, 0.0) for one, i in zip(bins, intervals, strict=True)]
    axes.errorbar(
        [100 * one.confidence for one in bins],
        [100 * one.accuracy for one in bins],
        yerr=[below, above],
        color=FRONT,
        marker="o",
        ms=6,
        lw=1.6,
        elinewidth=1.0,
        capsize=2.5,
        label="accuracy, 95 % intervals",
        zorder=4,
    )
    for one in bins:
        middle = 100 * one.confidence
        axes.plot([middle, middle], [middle, 100 * one.accuracy], color=BASELINE, lw=1.0, zorder=3)
    axes.set_xlabel("Confidence, probability of the chosen class in %", fontsize=10.5)
    axes.set_ylabel("Accuracy, and share of the pictures, in %", fontsize=10.5)
    axes.set(xlim=(0, 100.5), ylim=(0, 102), aspect="equal")
    axes.plot([], [], color=BASELINE, lw=1.0, label="gap")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9.5)
    return save_picture(figure, file=folder / "calibration.png")
