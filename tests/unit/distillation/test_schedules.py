import pytest
from hypothesis import given
from hypothesis import strategies as st

from autokd.distillation import alpha_at, feature_weight_at, scale_at, temperature_at
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


def test_a_step_is_the_start_until_half_of_the_training():
    recipe = Recipe(alpha=0.9, alpha_end=0.2, alpha_schedule="step")
    assert [alpha_at(recipe, progress) for progress in (0.0, 0.49, 0.5, 1.0)] == [
        0.9,
        0.9,
        0.2,
        0.2,
    ]


def test_a_warm_up_rises_over_the_first_fifth_and_stays():
    recipe = Recipe(
        alpha=0.8, alpha_end=0.1, alpha_schedule="warm_up",
        temperature=5.0, temperature_end=2.0, temperature_schedule="warm_up",
    )  # fmt: skip
    progress = (0.0, 0.1, 0.2, 1.0)
    assert [alpha_at(recipe, at) for at in progress] == pytest.approx([0, 0.4, 0.8, 0.8])
    assert [temperature_at(recipe, at) for at in progress] == pytest.approx([1, 3, 5, 5])


@given(
    st.floats(0.5, 20), st.floats(0.5, 20), shares, st.sampled_from(["linear", "cosine", "step"])
)
def test_a_temperature_stays_between_its_ends_and_meets_them(start, end, progress, schedule):
    recipe = Recipe(temperature=start, temperature_end=end, temperature_schedule=schedule)
    assert temperature_at(recipe, 0.0) == pytest.approx(start)
    assert temperature_at(recipe, 1.0) == pytest.approx(end)
    low, high = sorted((start, end))
    assert low - 1e-9 <= temperature_at(recipe, progress) <= high + 1e-9


@given(st.floats(1, 20), st.floats(1, 20), shares)
def test_a_decaying_temperature_does_not_look_at_its_end(start, end, progress):
    recipe = Recipe(temperature=start, temperature_end=end, temperature_schedule="decay")
    line = Recipe(temperature=start, temperature_end=1.0, temperature_schedule="linear")
    assert temperature_at(recipe, progress) == temperature_at(line, progress)


@given(st.floats(0, 10), st.floats(0, 10), shares)
def test_the_weight_of_features_moves_as_alpha_does(start, end, progress):
    recipe = Recipe(
        feature_loss="hint", feature_weight=start, feature_weight_end=end,
        feature_schedule="linear",
    )  # fmt: skip
    by_hand = start * (1 - progress) + end * progress
    assert feature_weight_at(recipe, progress) == pytest.approx(by_hand)


@given(shares)
def test_what_is_not_listened_to_has_no_weight(progress):
    assert alpha_at(Recipe(loss="cross_entropy"), progress) == 0
    assert feature_weight_at(Recipe(), progress) == 0
    assert feature_weight_at(Recipe(loss="cross_entropy", feature_loss="rkd"), progress) == 0


def test_progressive_resizing_grows_to_the_whole_picture():
    recipe = Recipe(resizing="progressive")
    scales = [scale_at(recipe, progress / 10) for progress in range(11)]
    assert scales == [0.5] * 4 + [0.75] * 3 + [1.0] * 4
    assert scale_at(Recipe(), 0.0) == 1.0
