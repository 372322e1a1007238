import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autokd.surrogate import build_frontier, entry_probability, expected_gain

COSTS, ACCURACIES = np.array([0.2, 0.5, 0.4]), [0.6, 0.9, 0.5]


@pytest.fixture
def frontier():
    return build_frontier(COSTS, ACCURACIES, floor=0.3, limit=1.0)


def volume(costs, accuracies, *, floor=0.3, limit=1.0):
    front = build_frontier(np.array(costs), accuracies, floor=floor, limit=limit)
    ends = [*front.costs[1:], limit]
    steps = zip(front.costs, ends, front.accuracies, strict=True)
    return sum((end - begin) * (level - floor) for begin, end, level in steps)


def test_a_beaten_candidate_is_no_stair(frontier):
    assert frontier.costs.tolist() == [0.2, 0.5]
    assert frontier.accuracies.tolist() == [0.6, 0.9]


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_sure_accuracy_gains_what_it_adds_to_the_volume(cost, accuracy):
    frontier = build_frontier(COSTS, ACCURACIES, floor=0.3, limit=1.0)
    gain = expected_gain(
        np.array([accuracy]), np.array([1e-9]), costs=np.array([cost]), frontier=frontier
    )
    more = volume([*COSTS, cost], [*ACCURACIES, accuracy]) - volume(COSTS, ACCURACIES)
    assert gain[0] == pytest.approx(more, abs=1e-6)


def test_the_gain_is_the_mean_over_the_accuracies(frontier):
    mean, std, cost = 0.7, 0.15, 0.3
    drawn = np.random.default_rng(0).normal(mean, std, 20_000)
    sure = expected_gain(
        drawn, np.full_like(drawn, 1e-9), costs=np.full_like(drawn, cost), frontier=frontier
    )
    gain = expected_gain(
        np.array([mean]), np.array([std]), costs=np.array([cost]), frontier=frontier
    )
    assert gain[0] == pytest.approx(sure.mean(), rel=0.03)


def test_more_doubt_is_worth_more_and_more_cost_less(frontier):
    mean, std = np.full(3, 0.5), np.array([0.05, 0.1, 0.1])
    gains = expected_gain(mean, std, costs=np.array([0.3, 0.3, 0.45]), frontier=frontier)
    assert gains[0] < gains[1]
    assert gains[2] < gains[1]


def test_nothing_is_gained_over_the_limit(frontier):
    one = np.array([0.99]), np.array([0.1])
    assert expected_gain(*one, costs=np.array([1.2]), frontier=frontier)[0] == 0
    assert entry_probability(*one, costs=np.array([1.2]), frontier=frontier)[0] == 0


def test_a_candidate_as_good_as_what_is_as_fast_enters_in_half_of_the_cases(frontier):
    chance = entry_probability(
        np.array([0.6, 0.3, 0.95]),
        np.full(3, 0.01),
        costs=np.array([0.3, 0.1, 0.6]),
        frontier=frontier,
    )
    assert chance == pytest.approx([0.5, 0.5, 1.0], abs=1e-4)


def test_without_anything_trained_the_floor_is_what_must_be_beaten():
    empty = build_frontier(np.array([]), [], floor=0.3, limit=1.0)
    gain = expected_gain(np.array([0.8]), np.array([1e-9]), costs=np.array([0.4]), frontier=empty)
    assert gain[0] == pytest.approx(0.5 * 0.6)
