import dataclasses
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autokd.errors import StudyError
from autokd.study.finalists import estimate
from autokd.study.front import hypervolume, near_front, pareto, pick_student
from autokd.types import FrontStudent, Latency, Recipe, TrialResult

points = st.lists(st.tuples(st.floats(0, 1), st.floats(0.001, 20)), max_size=8)


def latency(ms: float) -> Latency:
    return Latency(
        median_ms=ms, ci95_low_ms=ms, ci95_high_ms=ms, p10_ms=ms, p90_ms=ms, n_runs=100, batch=1,
        threads=1, runtime="r", device="d", drift=1.0,
    )  # fmt: skip


def result(trial: int, accuracy: float, ms: float, state="complete") -> TrialResult:
    return TrialResult(
        trial=trial, state=state, sample={}, recipe=Recipe(), val_accuracy=accuracy,
        latency=latency(ms),
    )  # fmt: skip


def student(trial: int, accuracy: float, ms: float) -> FrontStudent:
    return FrontStudent(
        trial=trial, val_accuracy=accuracy, latency_ms=ms, latency_ci95_ms=(ms, ms), speed_up=1.0,
        n_params=1, macs=1, size_bytes=1, architecture={}, recipe=Recipe(),
    )  # fmt: skip


@given(points)
def test_nothing_beats_a_student_of_the_front(given_points):
    results = [result(i, accuracy, ms) for i, (accuracy, ms) in enumerate(given_points)]
    front = pareto(results, min_accuracy=None)
    for one in front:
        for other in results:
            is_better = other.val_accuracy > one.val_accuracy
            is_faster = other.latency.median_ms < one.latency.median_ms
            is_as_good = other.val_accuracy >= one.val_accuracy
            is_as_fast = other.latency.median_ms <= one.latency.median_ms
            assert not (is_as_good and is_as_fast and (is_better or is_faster))
    assert (not results) == (not front)


def test_the_front_leaves_out_what_failed_was_pruned_or_is_too_bad():
    results = [
        result(0, 0.9, 1.0),
        result(1, 0.99, 0.5, state="failed"),
        result(2, 0.99, 0.5, state="pruned"),
        result(3, 0.5, 0.1),
    ]
    assert [one.trial for one in pareto(results, min_accuracy=0.8)] == [0]
    assert [one.trial for one in pareto(results, min_accuracy=None)] == [3, 0]


def test_of_equal_students_the_earlier_one_is_on_the_front():
    assert [
        r.trial for r in pareto([result(5, 0.9, 1.0), result(2, 0.9, 1.0)], min_accuracy=None)
    ] == [2]


@given(points, st.floats(0.05, 0.5))
def test_the_hypervolume_is_a_share_and_grows_with_points(given_points, chance):
    volumes = [
        hypervolume(given_points[:n], chance=chance, teacher_ms=10.0)
        for n in range(len(given_points) + 1)
    ]
    assert all(0 <= volume <= 1 + 1e-9 for volume in volumes)
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(volumes))


def test_the_hypervolume_of_the_far_corner_is_one_and_of_the_teacher_nothing():
    assert hypervolume([(1.0, 0.01)], chance=0.1, teacher_ms=10.0) == pytest.approx(1)
    assert hypervolume([(1.0, 10.0)], chance=0.1, teacher_ms=10.0) == 0
    assert hypervolume([(1.0, 30.0), (0.1, 0.1)], chance=0.1, teacher_ms=10.0) == 0


def test_the_hypervolume_of_two_points_by_hand():
    ms = [10 * math.exp(math.log(1e-3) * share) for share in (0.25, 0.75)]
    volume = hypervolume([(1.0, ms[0]), (0.5, ms[1])], chance=0.0, teacher_ms=10.0)
    assert volume == pytest.approx(0.5 * 0.75 + 0.5 * 0.25)


FRONT = [student(3, 0.7, 0.1), student(1, 0.95, 0.2), student(9, 0.97, 1.6)]


@pytest.mark.parametrize(
    ("pick", "limit", "trial"),
    [
        ("knee", None, 1),
        ("fastest", None, 3),
        ("most-accurate", None, 9),
        ("most-accurate", 0.5, 1),
        ("9", None, 9),
        ("009", None, 9),
    ],
)
def test_a_student_is_picked(pick, limit, trial):
    assert pick_student(FRONT, pick=pick, max_latency_ms=limit).trial == trial


@pytest.mark.parametrize("middle", [None, 0.6])
def test_a_front_without_a_bend_gives_its_more_accurate_end(middle):
    ends = [
        dataclasses.replace(FRONT[0], trial=1, latency_ms=1.0, val_accuracy=0.5),
        dataclasses.replace(FRONT[0], trial=2, latency_ms=4.0, val_accuracy=0.9),
    ]
    if middle is not None:
        ends.insert(1, dataclasses.replace(ends[0], trial=3, latency_ms=2.0, val_accuracy=middle))
    assert pick_student(ends, pick="knee", max_latency_ms=None).trial == 2


def test_the_knee_of_one_student_is_that_student():
    assert pick_student(FRONT[:1], pick="knee", max_latency_ms=None).trial == 3


@pytest.mark.parametrize(
    ("pick", "limit", "message"),
    [
        ("2", None, r"\(3, 1, 9\), got 2"),
        ("best", None, "got best"),
        ("²", None, "got ²"),
        ("knee", math.inf, "must be a number of milliseconds, got inf; leave it out for none"),
        ("knee", math.nan, "must be a number of milliseconds, got nan"),
        ("knee", 0.05, "fastest takes 0.1 ms"),
    ],
)
def test_a_pick_that_is_not_there_is_refused(pick, limit, message):
    with pytest.raises(StudyError, match=message):
        pick_student(FRONT, pick=pick, max_latency_ms=limit)


def test_an_estimate_is_the_mean_with_its_t_interval():
    three = estimate([0.9, 0.92, 0.94])
    assert three.mean == pytest.approx(0.92)
    assert three.ci95 == pytest.approx(4.3027 * 0.02 / math.sqrt(3), rel=1e-3)
    assert estimate([0.5]).ci95 is None


def between(trial: int, accuracy: float, ms: float, half: float) -> TrialResult:
    width = {"ci95_low_ms": ms - half, "ci95_high_ms": ms + half}
    known = result(trial, accuracy, ms)
    return dataclasses.replace(known, latency=dataclasses.replace(known.latency, **width))


def test_latencies_inside_their_intervals_are_ties():
    results = [between(0, 0.9, 1.00, 0.01), between(1, 0.91, 1.01, 0.01)]
    assert [one.trial for one in pareto(results, min_accuracy=None)] == [1]
    apart = [between(0, 0.9, 1.00, 0.01), between(1, 0.91, 1.02, 0.01)]
    assert [one.trial for one in pareto(apart, min_accuracy=None)] == [0, 1]


def test_a_chain_of_ties_keeps_its_ends():
    chain = [between(n, 0.9 + n / 100, 1 + n / 100, 0.01) for n in range(3)]
    assert [one.trial for one in pareto(chain, min_accuracy=None)] == [0, 2]


@given(points)
def test_what_is_left_out_is_beaten_or_tied_with_something_on_the_front(given_points):
    results = [between(i, accuracy, ms, ms / 20) for i, (accuracy, ms) in enumerate(given_points)]
    front = pareto(results, min_accuracy=None)
    for one in results:
        assert one in front or any(
            other.val_accuracy >= one.val_accuracy and not one.latency.is_faster_than(other.latency)
            for other in front
        )


def test_a_tie_with_the_fastest_of_the_front_is_near_it():
    wide = dataclasses.replace(latency(0.94), ci95_low_ms=0.86, ci95_high_ms=1.02)
    first = result(0, 0.903, 1.0)
    tie, slower = (dataclasses.replace(result(n, 0.90, ms), latency=one)
                   for n, ms, one in ((1, 0.94, wide), (2, 1.04, latency(1.04))))  # fmt: skip
    front = pareto([first, tie, slower], min_accuracy=None)
    assert front == [first]
    near = near_front([first, tie, slower], front=front, n_val=1000)
    assert [one.trial for one in near] == [1, 2]
