import dataclasses

import pytest

from autokd.config import Config
from autokd.spaces import build_space
from autokd.study.findings import Findings
from autokd.study.side_by_side import SideBySide
from autokd.types import DataCard, Footprint, Latency, Recipe, TeacherCard, TrialResult

DATA = DataCard(
    name="d", digest="d", shape=(1, 8, 8), classes=tuple("0123456789"), mean=(0.5,), std=(0.2,),
    n_train=100, n_val=400, n_test=100,
)  # fmt: skip
TEACHER = TeacherCard(name="t", digest="t", n_params=9, val_accuracy=0.95, latency_ms=1.0)


PLAIN = Recipe(alpha=0.0, alpha_end=0.0)


def result(trial, accuracy, ms, state="complete", reason="", recipe=PLAIN):
    latency = Latency(
        median_ms=ms, ci95_low_ms=ms, ci95_high_ms=ms, p10_ms=ms, p90_ms=ms, n_runs=100, batch=1,
        threads=1, runtime="r", device="d", drift=1.0,
    )  # fmt: skip
    return TrialResult(
        trial=trial, state=state, sample={}, recipe=recipe, val_accuracy=accuracy,
        latency=latency, footprint=Footprint(n_params=1, macs=1, size_bytes=1), reason=reason,
    )  # fmt: skip


@pytest.fixture(scope="module")
def space():
    return build_space("mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10)


@pytest.fixture
def find(space):
    def find(results, **options):
        config = Config(**options)
        return Findings(config, results, space=space, data=DATA, teacher=TEACHER)

    return find


def numbers(results):
    return [one.trial for one in results]


def test_a_student_that_the_teacher_beats_in_both_is_not_on_the_front(find):
    results = [result(0, 0.8, 0.1), result(1, 0.9, 0.5), result(2, 0.94, 2.0)]
    assert numbers(find(results).front()) == [0, 1]
    better = [*results, result(3, 0.96, 3.0)]
    assert numbers(find(better).front()) == [0, 1, 3]


def test_a_front_that_the_teacher_beats_whole_is_shown_all_the_same(find):
    assert numbers(find([result(0, 0.8, 5.0)]).front()) == [0]


def test_limits_are_those_of_this_session(find):
    results = [result(0, 0.8, 0.1), result(1, 0.9, 0.5)]
    assert numbers(find(results, max_latency_ms=0.2).front()) == [0]
    assert numbers(find(results, min_accuracy=0.85).front()) == [1]


def test_what_the_validation_split_cannot_tell_from_the_front_is_a_finalist(find):
    front = [result(0, 0.90, 0.1)]
    near = [result(n, 0.90 - n / 1000, 0.2 + n / 10) for n in range(1, 9)]
    far = [result(n, 0.5, 0.3) for n in range(9, 60)]
    assert numbers(find([*front, *near, *far]).finalists()) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert numbers(find([*front, *near[:4]]).finalists()) == [0]  # few trials, few finalists
    alike = [result(n, 0.899, 0.2) for n in range(1, 9)]
    assert numbers(find([*front, *alike, *far]).finalists()) == [0, 1]
    assert numbers(find([*front, *near, *far], refit=False).finalists()) == [0]


def test_the_front_counts_what_failed_and_what_was_pruned(find):
    results = [
        result(0, 0.8, 0.1),
        result(1, 0.9, 0.5, state="failed", reason="x"),
        result(2, 0.9, 0.5, state="pruned", reason="y"),
    ]
    front = find(results, study="s").build_front(None, wall_s=2.0, training_s=1.0)
    assert (front.n_trials, front.n_failed, front.n_pruned) == (3, 1, 1)
    assert [student.trial for student in front.students] == [0]
    assert front.students[0].speed_up == pytest.approx(10)
    assert front.baseline is not None
    assert front.baseline.trial == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_latency_ms": 0.01}, "got 0.01; the fastest of 1 takes 0.1 ms"),
        ({"min_accuracy": 0.99}, "got 0.99; the best of 1 reaches 0.8"),
    ],
)
def test_a_limit_that_nothing_meets_is_named(find, options, message):
    assert message in find([result(0, 0.8, 0.1)], **options).describe_misery()


@pytest.mark.parametrize(
    ("limit_ms", "n_barred"), [(None, 2), (1.0, 2), (0.4, 1), (0.3, 1), (0.25, 0)]
)
def test_students_that_an_earlier_limit_barred_are_told_once_it_is_looser(find, limit_ms, n_barred):
    results = [
        result(0, 0.8, 0.1),
        result(1, None, 0.3, state="pruned", reason="latency 0.3 ms is over the limit of 0.2 ms"),
        result(2, None, 0.5, state="pruned", reason="latency 0.5 ms is over the limit of 0.2 ms"),
        dataclasses.replace(
            result(3, None, 0.2, state="pruned"), fp32_latency=result(3, None, 0.1).latency
        ),
    ]
    line = find(results).describe_past(limit_ms)
    assert line.startswith("going on after 4 finished trials")
    assert (f"; {n_barred} were not trained under an earlier latency limit" in line) == bool(
        n_barred
    )
    assert "\n" not in line


def test_failures_are_told_with_their_reasons(find):
    failed = TrialResult(trial=0, state="failed", sample={}, reason="out of memory")
    assert "in 1 trials: out of memory" in find([failed]).describe_misery()


def test_a_first_trial_that_is_distilled_is_no_baseline(find):
    first = result(0, 0.8, 0.1, recipe=Recipe(alpha=0.5, alpha_end=0.5))
    assert find([first]).build_front(None, wall_s=2.0, training_s=1.0).baseline is None


@pytest.fixture
def settled(find):
    """Two students, 4 and 2 times as fast as the teacher, timed again; and one that was not."""

    def settled(teacher_ms, fast_ms, slow_ms, **options):
        results = [
            dataclasses.replace(result(0, 0.8, 0.25), network="fast"),
            dataclasses.replace(result(1, 0.9, 0.5), network="slow"),
            dataclasses.replace(result(2, 0.7, 0.3), network="left out"),
        ]
        again = {
            "fast": result(0, 0.5, fast_ms).latency,
            "slow": result(0, 0.5, slow_ms).latency,
        }
        findings = find(results, **options)
        findings.settle(SideBySide(teacher_ms=teacher_ms, students=again))
        return findings

    return settled


def test_speed_ups_are_those_of_what_was_timed_together(settled):
    front = settled(0.6, 0.1, 0.4).build_front(None, wall_s=2.0, training_s=1.0)
    assert front.teacher.latency_ms == 0.6
    assert front.n_trials == 3
    assert [one.latency_ms for one in front.students] == [0.1, 0.4]
    assert [one.speed_up for one in front.students] == pytest.approx([6.0, 1.5])
    assert front.students[1].latency_ci95_ms == (0.4, 0.4)
    assert front.baseline is not None
    assert front.baseline.latency_ms == 0.1


@pytest.mark.parametrize(
    ("times", "limit", "kept"),
    [
        ((0.6, 0.3, 0.2), None, [1]),  # the better one is the faster one
        ((0.4, 0.1, 0.5), None, [0]),  # the second is slower than the teacher, and no better
        ((1.0, 0.1, 0.5), 0.4, [0]),
        ((1.0, 0.2, 0.5), 0.1, []),
    ],
)
def test_the_front_is_that_of_what_was_timed_together(settled, times, limit, kept):
    assert numbers(settled(*times, max_latency_ms=limit).front()) == kept


def test_a_limit_that_nothing_meets_any_more_is_named(settled):
    findings = settled(1.0, 0.2, 0.5, max_latency_ms=0.1)
    assert "got 0.1; the fastest of 2 takes 0.2 ms" in findings.describe_misery()


def test_contenders_are_the_front_and_what_stands_behind_it(find):
    front = [result(n, 0.90 + n / 100, 0.1 + n / 100) for n in range(3)]
    behind = [result(n, 0.80 + n / 100, 0.2 + n / 100) for n in range(3, 10)]
    far = [result(n, 0.5, 0.3 + n / 100) for n in range(10, 60)]
    assert numbers(find([*front, *behind]).contenders()) == [*range(10)]
    assert len(find([*front, *behind, *far]).contenders()) == 12
    slow_first = [result(0, 0.5, 0.9), *(result(n, 0.9, 0.1 + n / 100) for n in range(1, 40))]
    assert numbers(find(slow_first).contenders())[-1] == 0


def test_an_int8_student_that_is_no_faster_than_its_fp32_self_is_not_offered(find):
    int8 = dataclasses.replace(PLAIN, precision="int8")
    plain = dataclasses.replace(result(0, 0.8, 0.5), network="one")
    kept, lost = (
        dataclasses.replace(
            result(trial, 0.85, 0.3, recipe=int8), network=name, fp32_latency=plain.latency
        )
        for trial, name in ((1, "one"), (2, "two"))
    )
    findings = find([plain, kept, lost])
    times = {"one": 0.5, "one int8": 0.3, "two": 0.2, "two int8": 0.25}
    students = {name: result(0, 0.5, ms).latency for name, ms in times.items()}
    findings.settle(SideBySide(teacher_ms=1.0, students=students))
    front = findings.build_front(None, wall_s=2.0, training_s=1.0)
    assert [student.trial for student in front.students] == [1]
    assert front.students[0].fp32_latency_ms == 0.5
    (pruned,) = (one for one in findings.results if one.state == "pruned")
    assert pruned.reason == "INT8 takes 0.25 ms, no less than FP32 with 0.2 ms"


def test_a_processor_on_which_int8_never_pays_is_named(find):
    int8 = dataclasses.replace(PLAIN, precision="int8")
    results = [
        dataclasses.replace(
            result(trial, None, ms, state="pruned", reason=str(ms), recipe=int8),
            fp32_latency=result(0, 0.5, 0.2).latency,
        )
        for trial, ms in enumerate((0.5, 0.3, 0.4))
    ]
    line = find(results).describe_misery()
    assert "got none of 3; the nearest, trial 1, takes 1.5 times as long in INT8" in line


def test_a_time_that_left_no_trial_is_named(find):
    assert (
        "`--timeout` must leave time for a trial, got 60 s"
        in find([], timeout_s=60).describe_misery()
    )


def test_what_is_too_slow_does_not_meet_the_accuracy_either(find):
    results = [result(0, 0.95, 5.0), result(1, 0.8, 1.0)]
    line = find(results, max_latency_ms=2, min_accuracy=0.9).describe_misery()
    assert "the best of 1 within --max-latency-ms reaches 0.8" in line


def test_a_default_student_that_does_not_run_there_is_no_baseline(find):
    first = dataclasses.replace(result(0, 0.9, 1.0), latency=None)
    assert find([first, result(1, 0.8, 0.5)]).baseline() is None
