"""Whose turn it is to go beyond a rung."""

import pytest

from autokd.surrogate.observation import Observation
from autokd.surrogate.turns import Turns


def seen(*epochs_s, state="stopped", key=0):
    return [
        Observation(key=key + n, sample={}, state=state, curve=(0.5,), epoch_s=epoch_s)
        for n, epoch_s in enumerate(epochs_s)
    ]


def count(observations, *, n_first=4, n_unstopped=1):
    return Turns(observations, n_first=[n_first], reduction=4, n_unstopped=n_unstopped)


@pytest.mark.parametrize(
    ("n_waiting", "n_beyond", "expected"),
    [(3, 0, False), (4, 0, True), (6, 1, False), (7, 1, True)],
)
def test_of_four_one_goes_on_however_unlikely(n_waiting, n_beyond, expected):
    waiting = seen(*[None] * n_waiting)
    gone = seen(*[None] * n_beyond, state="running", key=100)
    turns = count([*waiting, *gone])
    assert turns.has_turn(waiting[0], probability=0.0) is expected
    assert turns.may_be_any is expected


def test_a_short_training_need_not_wait_for_long_ones():
    waiting = seen(20.0, 28.0, 2.0)
    turns = count(waiting, n_first=10)
    assert turns.has_turn(waiting[2], probability=1.0)
    assert not turns.has_turn(waiting[2], probability=0.1), "it is not worth it"
    assert not turns.has_turn(waiting[1], probability=1.0)
    assert not count(seen(2.0, 2.0, 2.0), n_first=10).has_turn(waiting[2], probability=1.0)


def test_what_goes_on_takes_no_more_than_its_share_of_the_time():
    waiting, short = seen(20.0, 28.0, 2.0, 2.0), 2.0
    gone = seen(*[short] * 8, state="running", key=100)
    assert count([*waiting, *gone[:7]], n_first=10).has_turn(waiting[2], probability=1.0)
    assert not count([*waiting, *gone], n_first=10).has_turn(waiting[2], probability=1.0)


def test_the_time_of_who_is_never_stopped_is_nobodys_share():
    first = seen(40.0, state="running")
    waiting = seen(8.0, 2.0, key=1)
    assert count([*first, *waiting]).has_turn(waiting[1], probability=1.0)
    assert not count([*first, *waiting], n_unstopped=0).has_turn(waiting[1], probability=1.0)
