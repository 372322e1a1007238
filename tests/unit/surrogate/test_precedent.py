import dataclasses
import math

import numpy as np
import pytest

from autokd.surrogate import Advice, Advisor, Lesson, Observation, Precedent
from autokd.testing import FakeSurveyor
from autokd.types import Dimension, Prospect

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


def draw(n, *, seed=0):
    rng = np.random.default_rng(seed)
    return [
        {"depth": int(d), "width": int(w), "rate": float(r)}
        for d, w, r in zip(
            rng.integers(8, size=n), rng.integers(8, size=n), rng.random(n), strict=True
        )
    ]


def learn(n=40, *, accuracy=lambda sample: 0.2 + 0.5 * accuracy_of(sample), shift=0.0, **changes):
    """A study of another data set, on which everything is worse."""
    samples = draw(n)
    prospects = [
        dataclasses.replace(one, traits=(one.traits[0] + shift, *one.traits[1:]))
        for one in FakeSurveyor(LABELS).survey(samples)
    ]
    known = {
        "dimensions": DIMENSIONS,
        "samples": tuple(samples),
        "prospects": tuple(prospects),
        "curves": tuple((accuracy(sample),) for sample in samples),
        **changes,
    }
    return Lesson(**known)


def traits_of(samples):
    return np.array([one.traits for one in FakeSurveyor(LABELS).survey(samples)])


def agree(precedent, samples, traits):
    truth = [accuracy_of(sample) for sample in samples]
    return np.corrcoef(precedent.foresee(samples, traits), truth)[0, 1]


def test_it_foresees_what_is_good_here_too():
    new = draw(30, seed=1)
    assert agree(Precedent(DIMENSIONS, learn()), new, traits_of(new)) > 0.9


def test_traits_measured_on_larger_pictures_are_compared_all_the_same():
    precedent, new = Precedent(DIMENSIONS, learn(shift=-3.0)), draw(30, seed=1)
    before = agree(precedent, new, traits_of(new))
    known = draw(40)[:3]
    pairs = zip(known, FakeSurveyor(LABELS).survey(known), strict=True)
    precedent.align({(sample["depth"], sample["width"]): prospect for sample, prospect in pairs})
    assert agree(precedent, new, traits_of(new)) > max(0.9, before)


def test_a_space_that_has_changed_a_little_is_compared_in_what_is_left():
    old = (
        dataclasses.replace(DIMENSIONS[0], choices=tuple(range(4, 12))),
        DIMENSIONS[1],
        Dimension(label="mix", room="recipe", choices=("none", "cutmix"), default="none"),
    )
    samples = [
        {"depth": one["depth"] + 4, "width": one["width"], "mix": "none"} for one in draw(30)
    ]
    lesson = learn(30, dimensions=old, samples=tuple(samples))
    precedent, new = Precedent(DIMENSIONS, lesson), draw(30, seed=1)
    assert np.isfinite(precedent.foresee(new, traits_of(new))).all()
    seeds = precedent.seeds(9)
    assert all(set(seed) == {"depth", "width"} and seed["depth"] < 8 for seed in seeds)


def test_seeds_are_the_front_from_the_fastest_to_the_slowest():
    lesson = learn()
    seeds = Precedent(DIMENSIONS, lesson).seeds(4)
    front = lesson.front()
    assert len(seeds) == 4
    assert (seeds[0], seeds[-1]) == (front[0], front[-1])
    accuracies = [accuracy_of(sample) for sample in front]
    assert accuracies == sorted(accuracies)


def test_seeds_are_the_whole_front_of_a_study_that_is_thinned():
    lesson = learn(900)
    front = lesson.front()
    assert len(lesson.thin(400).front()) < len(front), "thinned evenly, it has lost some"
    assert Precedent(DIMENSIONS, lesson).seeds(len(front)) == front


def test_an_earlier_study_with_rungs_is_learnt_as_far_as_it_came():
    for n_ended in (0, 1, 12):
        curves = tuple(
            (accuracy_of(one) - 0.1, accuracy_of(one))
            if row < n_ended
            else (accuracy_of(one) - 0.1,)
            for row, one in enumerate(draw(40))
        )
        precedent, new = Precedent(DIMENSIONS, learn(curves=curves, n_rungs=2)), draw(30, seed=1)
        assert agree(precedent, new, traits_of(new)) > 0.8


def test_a_long_study_is_thinned_evenly():
    thin = learn(40).thin(4)
    assert thin.samples == tuple(draw(40)[row] for row in (0, 13, 26, 39))
    assert len(thin.prospects) == len(thin.curves) == len(thin) == 4


def test_nothing_in_common_and_nothing_told_are_refused():
    other = tuple(dataclasses.replace(one, label=f"x{one.label}") for one in DIMENSIONS)
    with pytest.raises(ValueError, match="must share a dimension"):
        Precedent(other, learn())
    one = {"prospects": (Prospect(latency_ms=1.0, traits=(0.0, 0.0)),), "curves": ((0.5,),)}
    with pytest.raises(ValueError, match="must hold two candidates, got 1"):
        Precedent(DIMENSIONS, learn(samples=tuple(draw(1)), **one))


# ---------------------------------------------------------------------- the study that learns


def search(n, *, lessons=(), seed=0):
    advisor = Advisor(
        DIMENSIONS,
        FakeSurveyor(LABELS),
        advice=Advice(n_initial=6, seed=seed),
        lessons=lessons,
    )
    seen = []
    while len(seen) < n:
        sample = advisor.suggest(seen)
        curve = (accuracy_of(sample),)
        seen.append(Observation(key=len(seen), sample=sample, state="complete", curve=curve))
    return seen


def test_half_of_the_first_candidates_are_the_earlier_front():
    lesson = learn()
    seen = [one.sample for one in search(6, lessons=[lesson])]
    assert seen[:3] == Precedent(DIMENSIONS, lesson).seeds(3)
    assert not any(sample in lesson.samples for sample in seen[3:])


def test_what_an_earlier_study_has_learnt_is_used_at_once():
    def distance(lessons):
        late = [one.sample for one in search(9, lessons=lessons)[6:]]
        return np.mean([abs(sample["rate"] - 0.3) for sample in late])

    assert distance([learn(60)]) < 0.15 <= distance([])


def test_a_misleading_study_is_found_out():
    wrong = learn(accuracy=lambda sample: 1 - accuracy_of(sample))
    late = [one.sample for one in search(25, lessons=[wrong])[15:]]
    assert abs(np.median([sample["rate"] for sample in late]) - 0.3) < 0.2
