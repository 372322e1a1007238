"""What an exported student is called."""

import re

import pytest

from autokd.study.delivery import build_alias, names_of
from autokd.types import FrontStudent, Recipe


def build_student(trial, accuracy, latency_ms):
    return FrontStudent(
        trial=trial, val_accuracy=accuracy, latency_ms=latency_ms, speed_up=1.0, n_params=1,
        latency_ci95_ms=(latency_ms, latency_ms), macs=1, size_bytes=1, architecture={},
        recipe=Recipe(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pick", "limit", "alias"),
    [
        (None, None, "knee"),
        ("fastest", None, "fastest"),
        ("7", None, "trial-7"),
        (None, 2.0, "under-2ms"),
        (None, 0.5, "under-500us"),
        (None, 1.1, "under-1100us"),
        (None, 0.0105, "under-10500ns"),
        (None, 0.1 / 3, "under-33333ns"),
        ("fastest", 2.0, "fastest-under-2ms"),
        ("7", 2.0, "trial-7"),
    ],
)
def test_an_alias_says_what_was_asked_for(pick, limit, alias):
    assert build_alias(pick, max_latency_ms=limit) == alias
    assert re.fullmatch(r"[a-z0-9-]+", alias), "as MLflow allows it"


def test_each_student_of_a_front_has_the_names_that_it_earns():
    front = [build_student(3, 0.8, 1.0), build_student(1, 0.9, 1.2), build_student(2, 0.92, 5.0)]
    assert [names_of(one, front) for one in front] == [["fastest"], ["knee"], ["most-accurate"]]
    assert names_of(front[0], front[:1]) == ["fastest", "knee", "most-accurate"]
