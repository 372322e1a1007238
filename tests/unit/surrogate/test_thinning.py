import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autokd.surrogate import best_layers, choose_lessons

POINTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40)


def is_beaten(point, others):
    return any(c <= point[0] and a >= point[1] and (c, a) != point for c, a in others)


@given(POINTS, st.integers(0, 50))
def test_the_best_layers_are_as_many_as_were_wanted(points, n):
    costs, accuracies = np.array(points, dtype=float).T
    assert best_layers(costs, accuracies, n=n).sum() == min(n, len(points))


@given(POINTS)
def test_the_first_layer_is_the_front(points):
    costs, accuracies = np.array(points, dtype=float).T
    front = {point for point in points if not is_beaten(point, points)}
    mask = best_layers(costs, accuracies, n=len(front))
    assert {points[row] for row in np.flatnonzero(mask)} == front


def test_few_candidates_are_all_learnt_from():
    assert choose_lessons(np.zeros(5), [(0.5,)] * 5, n_first=[2], most=5).all()


def many(n, *, n_rungs=1, seed=0):
    rng = np.random.default_rng(seed)
    lengths = np.minimum(rng.geometric(0.7, size=n), n_rungs)
    return rng.random(n), [tuple(rng.random(length)) for length in lengths]


@pytest.mark.parametrize(("n_rungs", "n_first"), [(1, [10]), (3, [16, 4, 4])])
def test_no_more_is_learnt_from_than_was_said(n_rungs, n_first):
    costs, curves = many(2000, n_rungs=n_rungs)
    chosen = choose_lessons(costs, curves, n_first=n_first, most=300)
    assert 280 <= chosen.sum() <= 300


def test_the_front_and_the_first_ones_are_learnt_from():
    costs, curves = many(2000)
    chosen = choose_lessons(costs, curves, n_first=[10], most=100)
    ends = np.array([curve[0] for curve in curves])
    assert chosen[:10].all()
    assert chosen[best_layers(costs, ends, n=30)].all()


def test_the_rest_is_spread_over_the_trials():
    costs, curves = many(2000)
    chosen = np.flatnonzero(choose_lessons(costs, curves, n_first=[10], most=200))
    assert np.diff(chosen).max() < 100


def test_each_rung_has_its_lessons():
    costs, curves = many(3000, n_rungs=2)
    chosen = choose_lessons(costs, curves, n_first=[16, 4], most=300)
    lengths = np.array([len(curve) for curve in curves])[chosen]
    assert (lengths == 1).sum() > 100
    assert (lengths == 2).sum() > 100


def test_one_more_trial_changes_few_lessons():
    costs, curves = many(2000)
    masks = [
        choose_lessons(costs[:n], curves[:n], n_first=[10], most=300)[:1999] for n in (1999, 2000)
    ]
    assert (masks[0] != masks[1]).sum() < 10
