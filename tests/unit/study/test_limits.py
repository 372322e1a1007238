"""How slow a student may be."""

import pytest

from autokd.config import Config
from autokd.study.limits import Limits, choose_limit
from autokd.types import Latency, Prospect, TeacherCard, TrialResult

TEACHER = TeacherCard(name="t", digest="d", n_params=9, val_accuracy=0.9, latency_ms=2.0)


class Surveyor:
    """Knows the default student only."""

    def __init__(self, latency_ms):
        self.latency_ms = latency_ms

    def survey(self, samples):
        assert samples == [{}]
        known = self.latency_ms is not None
        return [Prospect(latency_ms=self.latency_ms, traits=()) if known else None]


@pytest.mark.parametrize(
    ("default_ms", "options", "expected"),
    [
        (0.5, {}, 2.0),
        (0.5, {"max_latency_ms": 7.0}, 7.0),
        (3.0, {}, None),
        (2.0, {}, None),
        (None, {}, None),
        (0.5, {"target": ("onnxruntime", "torch")}, None),
    ],
)
def test_students_are_faster_than_the_teacher_where_the_space_has_such(
    default_ms, options, expected
):
    limit = choose_limit(Config(**options), surveyor=Surveyor(default_ms), teacher=TEACHER)
    assert limit == expected


LATENCY = Latency(
    median_ms=2.0, ci95_low_ms=2.0, ci95_high_ms=2.0, p10_ms=2.0, p90_ms=2.0, n_runs=100, batch=1,
    threads=1, runtime="r", device="d", drift=1.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("state", "limits", "expected"),
    [
        ("complete", {}, {}),
        ("complete", {"max_latency_ms": 1.5}, {"latency_ms": 0.5}),
        (
            "complete",
            {"max_latency_ms": 2.0, "min_accuracy": 0.5},
            {"latency_ms": 0.0, "accuracy": -0.25},
        ),
        ("stopped", {"max_latency_ms": 3.0, "min_accuracy": 0.9}, {"latency_ms": -1.0}),
    ],
)
def test_a_result_is_held_to_the_limits_that_there_are(state, limits, expected):
    result = TrialResult(trial=0, state=state, sample={}, val_accuracy=0.75, latency=LATENCY)
    assert Limits(**limits).judge(result) == expected
    bare = TrialResult(trial=0, state="failed", sample={})
    assert Limits(**limits).judge(bare) == {}
