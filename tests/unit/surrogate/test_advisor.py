import dataclasses
import math

import numpy as np
import pytest

from autokd.surrogate import Advice, Advisor, Observation
from autokd.testing import FakeSurveyor
from autokd.types import Dimension

LABELS = ("depth", "width")
DIMENSIONS = (
    Dimension(label="depth", room="architecture", choices=tuple(range(8)), default=0),
    Dimension(label="width", room="architecture", choices=tuple(range(8)), default=0),
    Dimension(label="rate", room="recipe", low=0.0, high=1.0, default=0.5),
)


def accuracy_of(sample):
    """Depth helps more than width, at the same latency; the rate should be 0.3."""
    size = 2 * math.log(1 + sample["depth"]) + math.log(1 + sample["width"])
    return 0.9 - 0.5 * math.exp(-0.6 * size) - 0.3 * (sample["rate"] - 0.3) ** 2


def complete(key, sample, **changes):
    known = {"state": "complete", "curve": (accuracy_of(sample),), **changes}
    return Observation(key=key, sample=sample, **known)


def search(n, *, surveyor=None, **advice):
    surveyor = surveyor or FakeSurveyor(LABELS)
    advisor = Advisor(DIMENSIONS, surveyor, advice=Advice(n_initial=6, **advice))
    seen = []
    while len(seen) < n:
        seen.append(complete(len(seen), advisor.suggest(seen)))
    return advisor, seen


def test_the_first_candidates_are_spread_over_the_latencies():
    _, seen = search(6)
    logs = sorted(math.log((1 + o.sample["depth"]) * (1 + o.sample["width"])) for o in seen)
    assert logs[0] < 0.2 * logs[-1]
    assert max(np.diff(logs)) < 0.6 * (logs[-1] - logs[0])


def test_after_them_it_finds_what_is_best_at_each_latency():
    _, seen = search(30)
    late = [o.sample for o in seen[15:]]
    rates = [sample["rate"] for sample in late]
    assert abs(np.median(rates) - 0.3) < 0.15
    better = sum(sample["depth"] >= sample["width"] for sample in late)
    assert better > 0.7 * len(late)


def test_nothing_is_proposed_twice():
    _, seen = search(25)
    assert len({tuple(o.sample.values()) for o in seen}) == 25


def test_what_is_trained_in_the_same_way_is_not_proposed_twice():
    def identify(sample):  # a rate matters to one digit
        return sample["depth"], sample["width"], round(sample["rate"], 1)

    advisor = Advisor(
        DIMENSIONS, FakeSurveyor(LABELS), advice=Advice(n_initial=6), identify=identify
    )
    seen = []
    while len(seen) < 25:
        seen.append(complete(len(seen), advisor.suggest(seen)))
    late = [identify(one.sample) for one in seen[6:]]
    assert len(set(late)) == len(late)


def test_the_same_seed_proposes_the_same():
    assert [o.sample for o in search(12)[1]] == [o.sample for o in search(12)[1]]
    assert [o.sample for o in search(12, seed=1)[1]] != [o.sample for o in search(12)[1]]


def test_no_more_is_looked_at_than_was_said():
    surveyor = FakeSurveyor(LABELS)
    advisor, seen = search(10, surveyor=surveyor, n_surveyed=2)
    before = len(surveyor.surveyed)
    advisor.suggest(seen)
    assert len(surveyor.surveyed) - before <= 2


def test_a_surveyor_without_time_is_enough():
    _, seen = search(12, surveyor=FakeSurveyor(LABELS, n_at_once=1))
    assert len(seen) == 12


def test_a_network_that_cannot_be_built_is_not_proposed():
    _, seen = search(20, surveyor=FakeSurveyor(LABELS, broken=3.0))
    assert all(3 not in (o.sample["depth"], o.sample["width"]) for o in seen)


def test_a_slower_network_than_the_limit_is_not_proposed():
    _, seen = search(25, max_latency_ms=20.0)
    assert all((1 + o.sample["depth"]) * (1 + o.sample["width"]) <= 20 for o in seen)


def test_what_others_train_is_not_proposed_again_nor_its_like():
    advisor, seen = search(12)
    first = advisor.suggest(seen)
    running = Observation(key=12, sample=first, state="running")
    second = advisor.suggest([*seen, running])
    assert second != first


def test_a_failed_candidate_is_not_proposed_again():
    advisor, seen = search(12)
    first = advisor.suggest(seen)
    lost = Observation(key=12, sample=first, state="lost")
    assert advisor.suggest([*seen, lost]) != first


def test_candidates_that_break_a_constraint_are_not_on_the_front():
    advisor, seen = search(12)
    median = np.median([o.curve[-1] for o in seen])
    unable = [
        dataclasses.replace(one, is_able=False) if one.curve[-1] > median else one for one in seen
    ]
    # There is more to gain where the good ones do not count.
    assert advisor.suggest(unable) != advisor.suggest(seen)


# ---------------------------------------------------------------------- rungs


def stopped(key, sample, *, late=0.0):
    low = accuracy_of(sample) - 0.2 + late
    return Observation(key=key, sample=sample, state="stopped", curve=(low,))


def climb(n, *, reduction=3):
    """Observations of two rungs, each promotion taken at once."""
    advisor = Advisor(
        DIMENSIONS,
        FakeSurveyor(LABELS),
        advice=Advice(n_initial=8, n_rungs=2, reduction=reduction),
    )
    seen = []
    while len(seen) < n:
        for one in advisor.promotions(seen)[:1]:
            old = seen[one.key]
            curve = (*old.curve, accuracy_of(old.sample))
            seen[one.key] = Observation(
                key=one.key, sample=old.sample, state="complete", curve=curve
            )
        seen.append(stopped(len(seen), advisor.suggest(seen)))
    return advisor, seen


def test_one_of_so_many_goes_on():
    _, seen = climb(30, reduction=3)
    n_complete = sum(one.state == "complete" for one in seen)
    assert n_complete == pytest.approx(30 / 3, abs=1)


def test_nobody_goes_on_before_its_turn():
    advice = Advice(n_rungs=2, reduction=4, n_initial=6)
    advisor = Advisor(DIMENSIONS, FakeSurveyor(LABELS), advice=advice)
    samples = [{"depth": n, "width": n, "rate": 0.3} for n in range(7)]
    seen = [stopped(key, sample) for key, sample in enumerate(samples)]
    assert advisor.promotions(seen[:5]) == []
    assert len(advisor.promotions(seen[:6])) == 6
    seen[6] = Observation(key=6, sample=samples[6], state="running", curve=(0.5,))
    assert advisor.promotions(seen) == []


def test_a_fast_student_of_short_epochs_goes_on_at_once_however_weak():
    advice = Advice(n_rungs=2, reduction=4, n_initial=6, chance=0.1)
    samples = [{"depth": n, "width": n, "rate": 0.3} for n in (7, 6, 0)]
    seen = [
        Observation(key=key, sample=sample, state="stopped", curve=(low,), epoch_s=epoch_s)
        for key, (sample, low, epoch_s) in enumerate(
            zip(samples, (0.8, 0.7, 0.3), (30.0, 20.0, 2.0), strict=True)
        )
    ]
    promoted = Advisor(DIMENSIONS, FakeSurveyor(LABELS), advice=advice).promotions(seen)
    assert [one.key for one in promoted] == [2]
    blind = dataclasses.replace(advice, chance=None)  # only what is above the first quartile counts
    assert Advisor(DIMENSIONS, FakeSurveyor(LABELS), advice=blind).promotions(seen) == []


def test_who_is_asked_twice_does_not_think_twice(monkeypatch):
    advisor, seen = climb(12)
    first = advisor.standings(seen)
    monkeypatch.setattr(advisor, "_rank", None)
    assert advisor.standings(list(seen)) == first
    monkeypatch.undo()
    assert len(advisor.standings([*seen, stopped(12, {"depth": 1, "width": 1, "rate": 0.1})])) > 0


def test_a_student_that_others_beat_at_its_latency_goes_last():
    advisor, seen = climb(24)
    good = {"depth": 7, "width": 0, "rate": 0.3}
    more = [
        stopped(24, {"depth": 3, "width": 1, "rate": 0.3}, late=-0.15),
        stopped(25, good),
        stopped(26, {"depth": 1, "width": 3, "rate": 0.9}, late=-0.1),
    ]
    ranked = advisor.promotions([*seen, *more])
    order = [one.key for one in ranked]
    assert order.index(25) < order.index(24)
    assert order.index(25) < order.index(26)
    chances = {one.key: one.probability for one in ranked}
    assert chances[25] > chances[24]


def test_stopped_students_teach():
    _, seen = climb(30)
    rates = [one.sample["rate"] for one in seen[18:]]
    assert abs(np.median(rates) - 0.3) < 0.2


def test_before_anybody_has_got_to_the_end_the_highest_rung_teaches():
    """Of four rungs the lowest would have to be reached by 256."""
    advice = Advice(n_initial=8, n_rungs=4, reduction=4)
    advisor = Advisor(DIMENSIONS, FakeSurveyor(LABELS), advice=advice)
    seen = []
    while len(seen) < 32:
        for one in advisor.promotions(seen)[:1]:
            old = seen[one.key]
            more = accuracy_of(old.sample) - 0.1
            seen[one.key] = dataclasses.replace(old, curve=(*old.curve, more))
            assert not one.is_foreseen
        seen.append(stopped(len(seen), advisor.suggest(seen)))
    assert 1 < max(len(one.curve) for one in seen) < 4
    rates = np.array([one.sample["rate"] for one in seen[16:]])
    assert np.abs(rates - 0.3).mean() < 0.15  # of random ones 0.29


def test_who_waits_higher_is_ranked_by_what_was_measured_there():
    advice = Advice(n_initial=8, n_rungs=4, reduction=4)
    advisor = Advisor(DIMENSIONS, FakeSurveyor(LABELS), advice=advice)
    samples = [{"depth": n % 8, "width": n // 8, "rate": 0.3} for n in range(16)]
    seen = [stopped(key, sample) for key, sample in enumerate(samples)]
    early, late = (0.7, 0.71), (0.5, 0.8)  # ahead at the lower rung, ahead at the higher one
    for key, curve in ((2, early), (9, late), (5, (0.6, 0.6)), (12, (0.6, 0.6))):
        seen[key] = dataclasses.replace(seen[key], curve=curve)
    ranked = [one.key for one in advisor.standings(seen)]
    assert ranked.index(9) < ranked.index(2)
