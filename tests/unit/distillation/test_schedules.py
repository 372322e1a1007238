import pytest
from hypothesis import given
from hypothesis import strategies as st

from autokd.distillation import alpha_at, temperature_at
from autokd.types import Recipe

shares = st.floats(0, 1)


@given(shares, shares, shares, st.sampled_from(["linear", "cosine"]))
def test_alpha_stays_between_its_ends_and_meets_them(start, end, progress, schedule):
    recipe = Recipe(alpha=start, alpha_end=end, alpha_schedule=schedule)
    assert alpha_at(recipe, 0.0) == pytest.approx(start)
    assert alpha_at(recipe, 1.0) == pytest.approx(end)
    low, high = sorted((start, end))
    assert low - 1e-9 <= alpha_at(recipe, progress) <= high + 1e-9


@given(shares)
def test_a_constant_alpha_does_not_look_at_its_end(progress):
    assert alpha_at(Recipe(alpha=0.3, alpha_end=0.9), progress) == 0.3


def test_cosine_is_slow_at_both_ends():
    recipe = Recipe(alpha=1.0, alpha_end=0.0, alpha_schedule="cosine")
    assert alpha_at(recipe, 0.1) > 0.95
    assert alpha_at(recipe, 0.5) == pytest.approx(0.5)
    assert alpha_at(recipe, 0.9) < 0.05


@given(st.floats(1, 50), shares)
def test_a_decaying_temperature_ends_at_one(start, progress):
    recipe = Recipe(temperature=start, temperature_schedule="decay")
    assert temperature_at(recipe, 0.0) == pytest.approx(start)
    assert temperature_at(recipe, 1.0) == pytest.approx(1.0)
    assert 1 - 1e-9 <= temperature_at(recipe, progress) <= start + 1e-9


def test_a_constant_temperature_stays():
    assert temperature_at(Recipe(temperature=4.0), 0.7) == 4.0
