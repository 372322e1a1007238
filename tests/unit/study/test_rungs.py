import pytest

from autokd.study.rungs import Rungs, choose_rungs
from autokd.surrogate import Standing


@pytest.mark.parametrize(
    ("epochs", "rungs"),
    [
        (1, ()), (2, ()), (3, (1,)), (5, (1,)), (8, (2,)), (16, (1, 4)), (30, (2, 8)),
        (200, (1, 3, 12, 50)),
    ],
)  # fmt: skip
def test_rungs_are_quarters_of_quarters(epochs, rungs):
    assert choose_rungs(epochs, budget=50) == rungs


def test_a_small_study_stops_nobody():
    assert choose_rungs(30, budget=11) == ()


def standing(key, *, probability=0.5, is_foreseen=True, is_turn=True):
    return Standing(
        key=key, gain=1.0, probability=probability, is_foreseen=is_foreseen, is_turn=is_turn
    )


def test_the_best_whose_turn_it_is_goes_on():
    rungs = Rungs((1,), standings=lambda: [standing(3, is_turn=False), standing(5)])
    assert rungs.next().key == 5
    assert rungs.next(is_last_call=True).key == 3
    assert rungs.next(is_last_call=True, among=[5]).key == 5
    assert rungs.next(among=[]) is None


def test_who_is_unlikely_to_enter_the_front_never_goes_on():
    rungs = Rungs((1,), standings=lambda: [standing(3, probability=0.01)])
    assert rungs.next() is None
    assert rungs.next(is_last_call=True) is None
    early = standing(3, probability=0.0, is_foreseen=False)
    assert Rungs((1,), standings=lambda: [early]).next().key == 3


def test_at_the_last_call_it_takes_more_than_not_being_unlikely():
    rungs = Rungs((1,), standings=lambda: [standing(3, probability=0.1, is_turn=False)])
    assert rungs.next(is_last_call=True) is None


def test_the_first_trial_is_never_stopped():
    rungs = Rungs((2, 8), standings=list)
    assert rungs.stops(0) == ()
    assert rungs.stops(1) == (2, 8)


def test_the_reason_tells_the_chance_where_it_is_known():
    some = [standing(3, probability=0.03), standing(5, probability=0.9, is_turn=False)]
    rungs = Rungs((1,), standings=lambda: [*some, standing(4, is_foreseen=False)])
    assert rungs.explain(3, epoch=1, epochs=5) == (
        "stopped after epoch 1 of 5: 3% likely to enter the front"
    )
    assert rungs.explain(5, epoch=1, epochs=5) == (
        "stopped after epoch 1 of 5 until its turn comes: 90% likely to enter the front"
    )
    assert "others are better there" in rungs.explain(4, epoch=1, epochs=5)
