import math

import numpy as np
import pytest

from autokd.surrogate import Noise


def test_seeds_are_pooled_over_what_was_trained_with_several():
    noise = Noise.of_seeds([[0.90, 0.92], [0.50, 0.50, 0.53], [0.7]], n_val=300)
    squares = 2 * 0.01**2 + 2 * 0.01**2 + 0.02**2
    assert noise.seed_std == pytest.approx(math.sqrt(squares / 3))
    assert (noise.degrees, noise.n_val) == (3, 300)
    assert noise.is_told


@pytest.mark.parametrize("groups", [[], [[0.9]], [[0.9, 0.9]]])
def test_single_seeds_and_equal_ones_tell_nothing(groups):
    assert not Noise.of_seeds(groups).is_told


def test_the_estimate_finds_the_deviation_that_was_drawn():
    rng = np.random.default_rng(0)
    groups = [(0.5 + 0.4 * rng.random() + rng.normal(scale=0.01, size=3)) for _ in range(500)]
    assert Noise.of_seeds([group.tolist() for group in groups]).seed_std == pytest.approx(
        0.01, rel=0.1
    )


def test_another_studys_seeds_count_for_little():
    own = Noise.of_seeds([[0.9, 0.91, 0.92]] * 10, n_val=300)
    borrowed = own.borrowed(n_val=1000)
    assert (borrowed.seed_std, borrowed.n_val) == (own.seed_std, 1000)
    assert borrowed.log_spread > own.log_spread


def test_a_share_of_pictures_has_the_noise_of_counting():
    assert Noise(n_val=100).floor_std(np.array([0.9, 0.9])) == pytest.approx(0.03)
    assert Noise(n_val=100).floor_std(np.array([0.5])) == pytest.approx(0.05)
    assert Noise().floor_std(np.array([0.5])) == 0
    assert Noise(n_val=100).floor_std(np.array([1.0])) == 0
