"""What is said while something runs, without a terminal."""

import time

import pytest

from autokd.study.progress import SearchProgress
from autokd.types import EpochLog, Latency, TrialResult


def row(epoch):
    return EpochLog(
        epoch=epoch, train_loss=1.0, val_loss=1.0, val_accuracy=0.5, learning_rate=1e-3,
        alpha=0.9, temperature=4.0, seconds=1.0,
    )  # fmt: skip


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is moved."""
    times = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: times[0])

    def move(seconds):
        times[0] += seconds

    return move


def said(capsys):
    return [line.strip() for line in capsys.readouterr().err.splitlines()]


def test_a_long_training_is_heard_of_now_and_then_with_the_time_left(clock, capsys):
    progress = SearchProgress()
    progress.begin("epochs of the teacher", total=10)
    for epoch in range(1, 5):
        clock(20)
        progress.step(done=epoch)
        progress.epoch("teacher", row(epoch), epochs=10)
    assert said(capsys) == [
        "epochs of the teacher: 10 to do",
        "teacher: epoch 2/10, 50.0%, 3 min left",
        "teacher: epoch 4/10, 50.0%, 2 min left",
    ]


def test_no_time_is_told_before_anything_is_done(clock, capsys):
    progress = SearchProgress()
    progress.begin("trials", total=5, done=3)
    clock(40)
    progress.epoch("trial 3", row(1), epochs=6)
    assert said(capsys)[-1] == "trial 3: epoch 1/6, 50.0%"


def test_a_silent_one_says_nothing(clock, capsys):
    progress = SearchProgress(is_silent=True)
    progress.begin("trials", total=5)
    clock(40)
    progress.epoch("trial 0", row(1), epochs=6)
    assert said(capsys) == []


@pytest.mark.parametrize(
    ("whom", "share", "said_of_it"),
    [
        (None, None, ""),
        (3, 0.42, "from trial 3 (42%)"),
        (3, 0.0, "from trial 3 (gone, began afresh)"),
    ],
)
def test_of_whom_a_student_inherits_is_said(whom, share, said_of_it, capsys):
    latency = Latency(
        median_ms=1.0, ci95_low_ms=1.0, ci95_high_ms=1.0, p10_ms=1.0, p90_ms=1.0, n_runs=1,
        batch=1, threads=1, runtime="r", device="d", drift=1.0,
    )  # fmt: skip
    result = TrialResult(
        trial=7, state="complete", sample={}, val_accuracy=0.9, latency=latency,
        inherited_from=whom, inherited_share=share,
    )  # fmt: skip
    progress = SearchProgress()
    progress.begin("trials", total=10, done=6)
    progress.trial(result, n_done=7, budget=10, is_on_front=False)
    line = said(capsys)[-1]
    assert said_of_it in line
    assert ("from trial" in line) is bool(said_of_it)
