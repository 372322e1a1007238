import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autokd.surrogate import Encoding
from autokd.types import Dimension

DIMENSIONS = (
    Dimension(label="kind", room="architecture", choices=("a", "b", "c"), default="a"),
    Dimension(label="width", room="architecture", choices=(16, 64, 32), default=16),
    Dimension(label="flag", room="recipe", choices=(False, True), default=False),
    Dimension(label="rate", room="recipe", low=1e-4, high=1e-1, is_log=True, default=1e-2),
    Dimension(label="count", room="recipe", low=1.0, high=9.0, step=2.0, default=1),
)  # fmt: skip


@pytest.fixture(scope="module")
def encoding():
    return Encoding(DIMENSIONS)


def test_unordered_choices_are_at_distance_1_and_ordered_ones_by_rank(encoding):
    sample = {"kind": "a", "width": 16, "flag": False, "rate": 1e-4, "count": 1}
    rows = encoding.encode([
        sample, {**sample, "kind": "b"}, {**sample, "width": 32}, {**sample, "width": 64}
    ])  # fmt: skip
    distances = np.linalg.norm(rows[1:] - rows[0], axis=1)
    assert distances == pytest.approx([1.0, 0.5, 1.0])


def test_a_logarithmic_range_is_even_in_its_logarithm(encoding):
    sample = {"kind": "a", "width": 16, "flag": True, "rate": 1e-2, "count": 9}
    assert encoding.encode([sample])[0, -3:] == pytest.approx([1.0, 2 / 3, 1.0])


def test_columns_belong_to_a_half(encoding):
    assert encoding.architecture_columns == (0, 1, 2, 3)
    assert encoding.recipe_columns == (4, 5, 6)


@given(st.integers(0, 2**31))
def test_what_is_drawn_or_changed_lies_in_the_space(seed):
    encoding, rng = Encoding(DIMENSIONS), np.random.default_rng(seed)
    drawn = encoding.random(rng)
    for sample in (drawn, encoding.mutate(drawn, rng)):
        assert sample["kind"] in ("a", "b", "c")
        assert sample["width"] in (16, 32, 64)
        assert 1e-4 <= sample["rate"] <= 1e-1
        assert sample["count"] in (1, 3, 5, 7, 9)
        assert isinstance(sample["count"], int)
        columns = encoding.encode([sample])
        assert columns.min() >= 0
        assert columns.max() <= 1


def test_a_neighbour_differs(encoding):
    rng = np.random.default_rng(0)
    drawn = encoding.random(rng)
    assert all(encoding.mutate(drawn, rng) != drawn for _ in range(20))


def test_a_grafted_sample_has_one_half_of_each(encoding):
    rng = np.random.default_rng(0)
    one, other = encoding.random(rng), encoding.random(rng)
    both = encoding.graft(one, other)
    assert encoding.network_of(both) == encoding.network_of(one)
    assert both["rate"] == other["rate"]


def test_what_is_not_searched_is_left_out(encoding):
    drawn = encoding.random(np.random.default_rng(0))
    assert encoding.narrow({**drawn, "other": 1}) == drawn


def test_a_space_must_have_a_dimension():
    with pytest.raises(ValueError, match="`dimensions` must hold a dimension"):
        Encoding([])


def test_precision_belongs_to_the_network_and_not_to_the_architecture():
    precision = Dimension(
        label="precision", room="precision", choices=("fp32", "int8"), default="fp32"
    )
    encoding = Encoding((*DIMENSIONS, precision))
    assert encoding.architecture_columns == (0, 1, 2, 3)
    assert encoding.recipe_columns == (4, 5, 6, 7)
    assert encoding.network_columns == (0, 1, 2, 3, 7)
    one = {**encoding.random(np.random.default_rng(0)), "precision": "fp32"}
    other = {**one, "precision": "int8", "rate": 1e-3}
    assert encoding.network_of(one) != encoding.network_of(other)
    both = encoding.graft(one, other)
    assert (both["precision"], both["rate"]) == ("fp32", 1e-3)
