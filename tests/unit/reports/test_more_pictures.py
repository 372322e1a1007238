"""Pictures of all dimensions, of gazes, of calibration and confusion."""

import dataclasses

import pytest
import torch
from PIL import Image

from autokd.reports import (
    Importance,
    Look,
    count_confusions,
    draw_calibration,
    draw_confusions,
    draw_coordinates,
    draw_importance,
    draw_looks,
    find_confusions,
    measure_calibration,
)
from autokd.types import Dimension
from tests.unit.reports.fake_study import build_front, build_results

DIMENSIONS = (
    Dimension(label="width", room="architecture", choices=(32, 16, 24), default=16),
    Dimension(label="act", room="architecture", choices=("relu", "hardswish"), default="relu"),
    Dimension(label="lr", room="recipe", low=1e-4, high=1e-1, is_log=True, default=1e-3),
    Dimension(label="alpha", room="recipe", low=0.0, high=1.0, default=0.9),
)


@pytest.fixture
def results():
    found = build_results(build_front())
    return [
        dataclasses.replace(
            one,
            sample={
                "width": (16, 24, 32)[one.trial % 3],
                "act": ("relu", "hardswish")[one.trial % 2],
                "lr": 10 ** (-4 + one.trial % 4),
                "alpha": one.trial % 5 / 4,
            },
        )
        for one in found
    ]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, with what is written in them."""
    figures = []
    monkeypatch.setattr(
        "autokd.reports.coordinates.save_picture",
        lambda figure, *, file: figures.append(figure) or file,
    )
    return figures


def texts_of(figure):
    (axes,) = figure.axes
    return [text.get_text() for text in axes.get_yticklabels()]


def size_of(file):
    with Image.open(file) as image:
        return image.size


def test_every_dimension_and_both_objectives_have_a_row(results, drawn, tmp_path):
    draw_coordinates(results, dimensions=DIMENSIONS, study="s", folder=tmp_path, order=["alpha"])
    rows = texts_of(drawn[0])
    assert rows == ["alpha", "width", "act", "lr (log)", "LATENCY in ms (log)", "ACCURACY in %"]
    lines = [line for line in drawn[0].axes[0].lines if len(line.get_ydata()) == len(rows)]
    assert len(lines) == 50
    for line in lines:
        assert min(line.get_xdata()) >= -1e-9
        assert max(line.get_xdata()) <= 1 + 1e-9


def test_a_better_value_stands_further_to_the_right(results, drawn, tmp_path):
    draw_coordinates(results, dimensions=DIMENSIONS, study="s", folder=tmp_path)
    lines = [line.get_xdata() for line in drawn[0].axes[0].lines if len(line.get_xdata()) == 6]
    accuracies = [line[-1] for line in lines]
    assert accuracies == sorted(accuracies)
    assert (accuracies[0], accuracies[-1]) == (0.0, 1.0)


def test_dimensions_can_be_drawn_of_nothing_and_of_one_trial(results, tmp_path):
    for some in ([], results[:1]):
        file = draw_coordinates(some, dimensions=DIMENSIONS, study="s", folder=tmp_path)
        assert size_of(file)[0] == 1440


def test_importance_is_drawn_with_the_most_important_on_top(tmp_path):
    found = [
        Importance(objective="accuracy", n_trials=20, shares={"a": 0.2, "b": 0.8}),
        Importance(objective="latency", n_trials=50, shares={"c": 1.0}),
    ]
    assert size_of(draw_importance(found, study="s", folder=tmp_path)) == (1440, 510)


def build_look(*, is_agreed, channels=3, similarity=0.5):
    return Look(
        picture=torch.zeros(channels, 8, 12, dtype=torch.uint8),
        label="cat",
        teacher_says="cat",
        student_says="cat" if is_agreed else "a very long name of a class",
        teacher_map=torch.rand(8, 12),
        student_map=torch.zeros(8, 12),
        similarity=similarity,
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_has_a_column_for_each_kind_that_there_is(tmp_path, channels):
    agreed = [build_look(is_agreed=True, channels=channels)] * 3
    apart = [build_look(is_agreed=False, channels=channels, similarity=None)]
    one = draw_looks(agreed, title="t", subtitle="s", file=tmp_path / "one.png")
    both = draw_looks([*agreed, *apart], title="t", subtitle="s", file=tmp_path / "both.png")
    assert size_of(one)[0] < size_of(both)[0]
    assert size_of(one)[1] == size_of(both)[1]


def test_names_of_classes_are_no_formulas(tmp_path):
    classes = ("$", "$$", "$5-$10", "a" * 99 + "$")
    counts = torch.eye(4, dtype=torch.long)
    assert draw_confusions(counts, classes=classes, title="t", folder=tmp_path).exists()
    look = dataclasses.replace(build_look(is_agreed=True, channels=1), label="$$")
    assert draw_looks([look], title="t", subtitle="s", file=tmp_path / "looks.png").exists()


def test_a_network_that_is_as_sure_as_right_has_no_calibration_error():
    logits = torch.tensor([[0.75, 0.25]]).log().repeat(400, 1)
    labels = torch.tensor([0, 0, 0, 1]).repeat(100)
    found = measure_calibration(logits, labels)
    assert found.ece == pytest.approx(0, abs=1e-6)
    (only,) = found.bins
    assert (only.n, only.accuracy) == (400, 0.75)
    assert measure_calibration(logits, torch.zeros(400, dtype=torch.long)).ece == pytest.approx(
        0.25, abs=1e-6
    )


def test_the_error_is_the_mean_gap_of_the_bins():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(500, 7, generator=generator)
    labels = torch.randint(0, 7, (500,), generator=generator)
    found = measure_calibration(logits, labels)
    assert sum(one.n for one in found.bins) == 500
    gap = sum(one.n * abs(one.accuracy - one.confidence) for one in found.bins) / 500
    assert found.ece == pytest.approx(gap, abs=1e-5)
    assert all(one.low <= one.confidence <= one.high for one in found.bins)


def test_calibration_is_drawn(tmp_path):
    found = measure_calibration(torch.eye(3).repeat(5, 1), torch.arange(3).repeat(5))
    assert size_of(draw_calibration(found, title="t", folder=tmp_path)) == (1050, 1110)


def test_confusions_are_counted_from_right_to_chosen():
    labels, chosen = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 1, 1, 0, 0, 2])
    counts = count_confusions(chosen, labels, n_classes=3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [2, 0, 1]]
    worst = find_confusions(counts, classes=("a", "b", "c"))
    assert worst == [("c", "a", 2, pytest.approx(2 / 3)), ("a", "b", 1, 0.5)]
    assert find_confusions(torch.eye(3).long(), classes=("a", "b", "c")) == []


@pytest.mark.parametrize("n_classes", [2, 25, 90])
def test_confusions_are_drawn_of_few_and_of_many_classes(tmp_path, n_classes):
    labels = torch.arange(n_classes).repeat(3)
    counts = count_confusions(labels.roll(1), labels, n_classes=n_classes)
    names = [f"class {number}" for number in range(n_classes)]
    file = draw_confusions(counts, classes=names, title="t", folder=tmp_path)
    assert min(size_of(file)) >= 800


def test_the_error_is_that_of_the_bins_that_are_drawn():
    saturated = torch.tensor([[60.0, 0.0]]).repeat(50, 1)
    high = torch.tensor([[3.0, 0.0]]).repeat(50, 1)
    labels = torch.tensor([0] * 45 + [1] * 5 + [0] * 50)
    found = measure_calibration(torch.cat([saturated, high]), labels)
    (only,) = found.bins
    assert found.ece == pytest.approx(abs(only.confidence - only.accuracy))
