import numpy as np
import pytest

from autokd.surrogate import Trend

X = np.linspace(0, 1, 12)


def test_a_line_is_found_whatever_its_level_and_scale():
    for scale, shift in ((1.0, 0.0), (1e-2, 70.0)):
        trend = Trend()
        trend.fit([X * scale + shift], 0.3 + 0.4 * X)
        assert trend.at([X * scale + shift]) == pytest.approx(0.3 + 0.4 * X, abs=1e-3)


@pytest.mark.parametrize("n_trusted", [0, 1])
def test_it_never_falls(n_trusted):
    trend = Trend()
    trend.fit([-X], X, n_trusted=n_trusted)
    assert trend.at([-X]) == pytest.approx(np.full(12, 0.5))


def test_chance_is_not_believed_unless_it_is_trusted():
    slopes = {0: [], 1: []}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        column, accuracies = rng.normal(size=12), rng.normal(size=12)
        for n_trusted, found in slopes.items():
            trend = Trend()
            trend.fit([column], accuracies, n_trusted=n_trusted)
            found.append(float(np.ptp(trend.at([np.array([0.0, 1.0])]))))
    assert np.mean(slopes[0]) < 0.5 * np.mean(slopes[1])
    assert np.mean(np.array(slopes[0]) == 0) > 0.5


def test_what_is_told_twice_is_believed_once():
    trend = Trend()
    trend.fit([X, X], 0.4 * X, n_trusted=2)
    assert trend.at([X, X]) == pytest.approx(0.4 * X)


def test_without_columns_nothing_is_expected():
    trend = Trend()
    trend.fit([], X)
    assert trend.at([]) == pytest.approx([0.0])
