"""How slow a student may be."""

import pytest

from autokd.config import Config
from autokd.study.limits import choose_limit
from autokd.types import Prospect, TeacherCard

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
