"""How much dimensions matter."""

import dataclasses

import pytest

from autokd.study.importance import measure_importance
from autokd.types import Dimension
from tests.unit.reports.fake_study import build_front, build_results

DIMENSIONS = (
    Dimension(label="width", room="architecture", choices=(8, 16, 32), default=16),
    Dimension(label="depth", room="architecture", low=1.0, high=4.0, step=1.0, default=1),
    Dimension(label="lr", room="recipe", low=1e-4, high=1e-1, is_log=True, default=1e-3),
)


@pytest.fixture
def results():
    """The accuracy follows the learning rate, the latency the width."""
    made = []
    for one in build_results(build_front())[:40]:
        sample = {
            "width": (8, 16, 32)[one.trial * 7 % 3],
            "depth": 1 + one.trial * 5 % 4,
            "lr": 10 ** (-4 + 3 * (one.trial * 11 % 40) / 40),
        }
        latency = dataclasses.replace(one.latency, median_ms=0.01 * sample["width"] + 1e-4)
        accuracy = 0.5 + 0.4 * (one.trial * 11 % 40) / 40
        made.append(dataclasses.replace(one, sample=sample, latency=latency, val_accuracy=accuracy))
    return made


def test_what_an_objective_follows_matters_most(results):
    accuracy, latency = measure_importance(results, dimensions=DIMENSIONS, seed=0)
    assert (accuracy.objective, latency.objective) == ("accuracy", "latency")
    assert accuracy.n_trials == latency.n_trials == 40
    assert accuracy.shares["lr"] > 0.9
    assert latency.shares["width"] > 0.9
    for one in (accuracy, latency):
        assert sum(one.shares.values()) == pytest.approx(1)


def test_a_recipe_is_no_reason_for_a_latency(results):
    _, latency = measure_importance(results, dimensions=DIMENSIONS, seed=0)
    assert set(latency.shares) == {"width", "depth"}


def test_accuracies_of_stopped_trials_do_not_count_but_their_latencies_do(results):
    some = [dataclasses.replace(one, state="stopped") if one.trial % 4 else one for one in results]
    accuracy, latency = measure_importance(some, dimensions=DIMENSIONS, seed=0)
    assert (accuracy.n_trials, latency.n_trials) == (10, 40)


def test_of_few_trials_and_of_equal_ones_nothing_is_told(results):
    assert measure_importance(results[:5], dimensions=DIMENSIONS, seed=0) == []
    assert measure_importance([], dimensions=DIMENSIONS, seed=0) == []
    equal = [dataclasses.replace(one, val_accuracy=0.5) for one in results]
    (only,) = measure_importance(equal, dimensions=DIMENSIONS, seed=0)
    assert only.objective == "latency"


def test_nothing_is_told_where_no_dimension_is_left(results):
    assert measure_importance(results, dimensions=(), seed=0) == []
