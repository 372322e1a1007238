"""Who trains on this machine stands still while somebody measures."""

import multiprocessing
import os
import signal
import time

import psutil
import pytest

from autokd.study import stillness
from autokd.study.stillness import (
    TrainingProcess,
    known_as_training,
    resting_while_measured,
    still,
    wake_abandoned,
)
from autokd.trackers import MemoryTracker, SpooledTracker
from autokd.types import EpochLog, Event
from tests.contracts.tracker_contract import opened

fork = multiprocessing.get_context("fork")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(stillness, "_folder", lambda: tmp_path)
    return tmp_path


def train(told, ended) -> None:
    with known_as_training() as training:
        told.set()
        ended.wait(60)
        told.clear()
        os._exit(round(training.paused_s * 10))


@pytest.fixture
def training(folder):  # noqa: ARG001 - of its own
    """A process that trains, and what ends it."""
    told, ended = fork.Event(), fork.Event()
    process = fork.Process(target=train, args=(told, ended), daemon=True)
    process.start()
    assert told.wait(30)
    yield process, ended
    process.kill()
    process.join()


def is_stopped(process, *, within=5.0):
    end = time.monotonic() + within
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_a_process_that_trains_stands_still_and_knows_for_how_long(training):
    process, ended = training
    for _ in range(2):
        with still():
            assert is_stopped(process)
            time.sleep(0.3)
        assert not is_stopped(process, within=0.0)
    ended.set()
    process.join(30)
    assert 6 <= process.exitcode <= 30  # tenths of a second


@pytest.mark.usefixtures("folder")
def test_a_process_begins_to_train_when_nobody_measures():
    told, ended = fork.Event(), fork.Event()
    process = fork.Process(target=train, args=(told, ended), daemon=True)
    with still():
        process.start()
        assert not told.wait(0.5)
    assert told.wait(30)
    ended.set()
    process.join(30)
    assert process.exitcode == 0


@pytest.mark.usefixtures("folder")
def test_who_measures_does_not_stop_itself():
    with known_as_training() as training:
        with still():
            pass
        assert training.paused_s == 0.0
    assert not training.path.exists()


def test_what_was_left_stopped_is_woken(folder, training):
    process, _ = training
    assert TrainingProcess(folder / str(process.pid)).stop()  # by somebody who was killed then
    assert is_stopped(process)
    wake_abandoned()
    assert not is_stopped(process, within=0.0)


def test_what_the_user_has_suspended_stays_so(training):
    process, _ = training
    os.kill(process.pid, signal.SIGSTOP)
    assert is_stopped(process)
    with still():
        pass
    wake_abandoned()
    assert is_stopped(process, within=0.0)


def test_a_clock_that_is_set_anew_stops_and_wakes_the_same(training, monkeypatch):
    process, _ = training
    known = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: known(self) + 60.0)
    with still():
        assert is_stopped(process)
    assert not is_stopped(process, within=0.0)


def test_who_was_stopped_goes_on_whatever_becomes_of_its_file(folder, training):
    process, _ = training
    with still():
        assert is_stopped(process)
        (folder / str(process.pid)).write_text("1\n")
    assert not is_stopped(process, within=0.0)


def test_where_there_is_no_proc_a_process_is_known_by_its_time(tmp_path, monkeypatch):
    monkeypatch.setattr(stillness, "_PROC", tmp_path)
    own = stillness._birth_of(os.getpid())
    assert float(own) == psutil.Process().create_time()
    assert stillness._birth_of(2**22 + 1) == ""
    assert not stillness._is_stopped(os.getpid())


def test_what_is_being_measured_beside_is_not_woken(training):
    process, _ = training
    with still():
        assert is_stopped(process)
        wake_abandoned()
        assert is_stopped(process)


def test_a_dead_process_is_forgotten_and_who_has_its_number_left_alone(folder, training):
    process, _ = training
    file = folder / str(process.pid)
    file.write_text("1.5\n")  # the number was another process's once
    (folder / "999999999").write_text("1.5\n")
    with still():
        assert not is_stopped(process, within=0.2)
    assert sorted(path.name for path in folder.iterdir() if path.name.isdigit()) == []


@pytest.mark.usefixtures("folder")
def test_a_tracker_that_works_beside_rests_while_something_is_measured(tmp_path, monkeypatch):
    heard, told = MemoryTracker(), list[Event]()
    monkeypatch.setattr(heard, "log", told.append)
    tracker = SpooledTracker(lambda: heard, folder=tmp_path)
    with resting_while_measured(tracker), resting_while_measured(heard):
        with still():
            tracker.log(opened())
            time.sleep(0.1)
            assert not told
        tracker.close()
    assert told == [opened()]


def measure_until_killed(told) -> None:
    with still():
        told.set()
        time.sleep(60)


def test_who_was_stopped_goes_on_when_whoever_measures_is_killed(training):
    process, _ = training
    told = fork.Event()
    measuring = fork.Process(target=measure_until_killed, args=(told,), daemon=True)
    measuring.start()
    assert told.wait(30)
    assert is_stopped(process)
    measuring.kill()
    measuring.join(30)
    end = time.monotonic() + 10
    while is_stopped(process, within=0.0) and time.monotonic() < end:
        time.sleep(0.02)
    assert not is_stopped(process, within=0.0)


def build_row(seconds):
    return EpochLog(
        epoch=1, train_loss=0.0, val_loss=0.0, val_accuracy=0.5, learning_rate=0.1,
        alpha=0.0, temperature=1.0, seconds=seconds,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pauses", "expected"),
    [
        ([], 10.0),
        ([(-4.0, -1.0)], 7.0),
        ([(-8.0, -7.0), (-4.0, -1.0)], 6.0),
        ([(-13.0, -8.0)], 8.0),  # most of it before the epoch began
        ([(-19.0, -11.0)], 10.0),
        ([(-11.0, 0.0)], 0.0),
    ],
)
def test_an_epoch_took_what_it_did_not_stand_still(pauses, expected, tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(stillness.time, "monotonic", lambda: now)
    process = TrainingProcess(tmp_path / "123")
    assert process.without_pauses(build_row(10.0)) == build_row(10.0), "nobody has stopped it yet"
    process.path.write_text("1.5\n")
    for start, end in pauses:
        now = 1000.0 + end
        process.note_pause(1000.0 + start)
    now = 1000.0
    assert process.without_pauses(build_row(10.0)).seconds == pytest.approx(expected)
    assert process.paused_s == pytest.approx(sum(end - start for start, end in pauses))
