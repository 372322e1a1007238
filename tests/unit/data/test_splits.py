import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autokd.data.pictures import TEST, TRAIN, VAL
from autokd.data.splits import build_splits
from autokd.errors import DataError


def split(labels, roles=None, *, val_ratio=0.2, train_limit=None, seed=0):
    labels = np.asarray(labels)
    return build_splits(
        labels,
        np.full(len(labels), TRAIN) if roles is None else np.asarray(roles),
        classes=tuple(f"c{each}" for each in range(labels.max() + 1)),
        val_ratio=val_ratio,
        train_limit=train_limit,
        seed=seed,
    )


def parts(splits):
    return splits.train, splits.val, splits.test


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(20, 60), min_size=2, max_size=4),
    val_ratio=st.floats(0.15, 0.5),
    seed=st.integers(0, 2**31 - 1),
)
def test_splits_are_disjoint_complete_and_stratified(counts, val_ratio, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    splits = split(labels, val_ratio=val_ratio, seed=seed)
    together = np.concatenate(parts(splits))
    assert sorted(together.tolist()) == list(range(len(labels)))
    for each in parts(splits):
        expected = np.array(counts) * len(each) / len(labels)
        assert (abs(np.bincount(labels[each]) - expected) <= 2).all()


def test_the_seed_decides_the_splits():
    labels = np.arange(100) % 4
    first, same, other = split(labels), split(labels), split(labels, seed=1)
    for one, two in zip(parts(first), parts(same), strict=True):
        assert (one == two).all()
    assert (first.train != other.train).any()
    assert (first.test != other.test).any()


def test_the_validation_share_does_not_move_the_test_split():
    labels = np.arange(100) % 4
    assert (split(labels).test == split(labels, val_ratio=0.4).test).all()


def test_splits_that_are_given_are_kept():
    roles = np.repeat([TRAIN, VAL, TEST], [20, 8, 4])
    splits = split(np.arange(32) % 2, roles)
    for role, each in zip((TRAIN, VAL, TEST), parts(splits), strict=True):
        assert (each == np.flatnonzero(roles == role)).all()


def test_a_given_validation_split_stays_whole_when_a_test_split_is_cut():
    roles = np.repeat([TRAIN, VAL], [20, 8])
    splits = split(np.arange(28) % 2, roles)
    assert splits.val.tolist() == list(range(20, 28))
    assert (len(splits.train), len(splits.test)) == (16, 4)


@pytest.mark.parametrize("limit", [10, 31, 79, 80, 500])
def test_a_limit_bounds_training_and_validation_together_and_keeps_shares(limit):
    labels = np.repeat([0, 1], [75, 25])
    splits = split(labels, train_limit=limit)
    used = np.concatenate([splits.train, splits.val])
    assert len(used) == min(limit, 80)
    assert np.bincount(labels[used])[1] == pytest.approx(len(used) / 4, abs=1)
    assert len(splits.test) == 20


def test_a_larger_limit_keeps_what_a_smaller_one_kept():
    labels = np.arange(200) % 4
    small, large = (split(labels, train_limit=limit) for limit in (40, 80))
    union = [np.concatenate([each.train, each.val]) for each in (small, large)]
    assert set(union[0].tolist()) <= set(union[1].tolist())


def test_a_limit_shrinks_a_given_validation_split_in_proportion():
    roles = np.repeat([TRAIN, VAL, TEST], [60, 20, 10])
    splits = split(np.arange(90) % 2, roles, train_limit=40)
    assert [len(each) for each in parts(splits)] == [30, 10, 10]
    assert set(splits.val.tolist()) <= set(range(60, 80))


def test_a_limit_below_the_number_of_classes_is_refused():
    with pytest.raises(DataError, match="`--train-limit` must leave a picture for each of 4"):
        split(np.arange(100) % 4, train_limit=3)


def test_a_class_with_one_picture_is_named():
    with pytest.raises(DataError, match=r"class `c1` must have enough .* got 1 of 11"):
        split([0] * 10 + [1])


def test_a_validation_split_smaller_than_the_classes_is_refused():
    with pytest.raises(DataError, match="enough pictures to cut a validation split off"):
        split(np.repeat(np.arange(5), 6), val_ratio=0.1)


def test_one_class_is_refused():
    with pytest.raises(DataError, match="at least 2 classes, got 1"):
        split([0] * 10)


def test_a_class_that_is_only_in_the_test_split_is_named():
    roles = np.repeat([TRAIN, VAL, TEST], [4, 4, 3])
    with pytest.raises(DataError, match="class `c2` must have a training picture"):
        split([0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 2], roles)


def test_a_limit_leaves_a_rare_class_two_pictures():
    labels = np.repeat([0, 1], [1000, 10])
    splits = split(labels, train_limit=100)
    assert len(splits.train) + len(splits.val) == 100
    assert sum((labels[part] == 1).sum() for part in (splits.train, splits.val)) == 2
