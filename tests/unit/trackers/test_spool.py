"""The spool loses nothing, whatever happens to the tracker behind it."""

import time

import pytest

from autokd.errors import TrackingError
from autokd.trackers import MemoryTracker, SpooledTracker
from tests.contracts.tracker_contract import closed, epoch_ended, opened, started, study


class FakeFailingTracker:
    """Fails until it is mended; afterwards a list of events."""

    def __init__(self, *, is_broken=False, error=None):
        self.events = []
        self.error = error or TrackingError("the server must answer, got nothing")
        self.is_broken = is_broken
        self.n_tries = 0

    def log(self, event):
        self.n_tries += 1
        if self.is_broken:
            raise self.error
        self.events.append(event)

    def close(self):
        pass


def wait_for(condition, *, timeout_s=10):
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    assert condition()


def build_spool(folder, tracker, **options):
    return SpooledTracker(lambda: tracker, folder=folder, first_wait_s=0.01, **options)


def test_events_arrive_in_order(tmp_path):
    tracker = FakeFailingTracker()
    spool = build_spool(tmp_path, tracker)
    for event in study():
        spool.log(event)
    spool.close()
    assert tracker.events == study()
    assert spool.n_unsent == 0


def test_logging_is_cheap(tmp_path):
    spool = build_spool(tmp_path, MemoryTracker())
    begin = time.perf_counter()
    for n in range(1000):
        spool.log(epoch_ended(0, n, after_ms=n))
    spent_ms = time.perf_counter() - begin  # 1000 events: seconds are milliseconds of one
    spool.close()
    assert spent_ms < 2


def test_an_outage_is_waited_out(tmp_path):
    tracker = FakeFailingTracker(is_broken=True)
    spool = build_spool(tmp_path, tracker, longest_wait_s=0.02)
    for event in study():
        spool.log(event)
    wait_for(lambda: tracker.n_tries > 3)
    assert spool.n_unsent == len(study())
    assert "must answer" in str(spool.last_error)
    tracker.is_broken = False
    wait_for(lambda: spool.n_unsent == 0)
    assert tracker.events == study()
    assert spool.last_error is None
    spool.close()


def test_the_waits_grow(tmp_path):
    tracker = FakeFailingTracker(is_broken=True)
    spool = build_spool(tmp_path, tracker, longest_wait_s=60.0)
    spool.log(opened())
    time.sleep(0.3)
    assert tracker.n_tries < 8
    spool.close(timeout_s=0.0)


def test_a_factory_that_cannot_connect_is_tried_again(tmp_path):
    tracker, errors = MemoryTracker(), [TrackingError("x"), TrackingError("y")]

    def connect():
        if errors:
            raise errors.pop()
        return tracker

    spool = SpooledTracker(connect, folder=tmp_path, first_wait_s=0.01)
    spool.log(opened())
    wait_for(lambda: tracker.opened is not None)
    spool.close()


def test_closing_gives_up_in_time_and_the_next_process_sends_the_rest(tmp_path):
    spool = build_spool(tmp_path, FakeFailingTracker(is_broken=True))
    for event in study():
        spool.log(event)
    begin = time.monotonic()
    spool.close(timeout_s=0.1)
    assert time.monotonic() - begin < 2
    assert spool.n_unsent == len(study())

    tracker = FakeFailingTracker()
    later = build_spool(tmp_path, tracker)
    later.log(opened(after_ms=1))
    later.close()
    assert tracker.events == [*study(), opened(after_ms=1)]


def test_what_was_sent_is_not_sent_again(tmp_path):
    first, second = FakeFailingTracker(), FakeFailingTracker()
    spool = build_spool(tmp_path, first)
    spool.log(opened())
    spool.close()
    spool = build_spool(tmp_path, second)
    spool.log(started(0, after_ms=1))
    spool.close()
    assert second.events == [started(0, after_ms=1)]


def test_a_half_written_line_is_cut_off(tmp_path):
    spool = build_spool(tmp_path, MemoryTracker())
    spool.log(opened())
    spool.close()
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'{"trial": 1, "sam')
    tracker = FakeFailingTracker()
    spool = build_spool(tmp_path, tracker)
    assert spool.n_unsent == 0
    spool.log(started(0, after_ms=1))
    spool.close()
    assert tracker.events == [started(0, after_ms=1)]


@pytest.mark.parametrize("text", ["", "garbage", "999999"])
def test_a_spoilt_offset_loses_nothing(tmp_path, text):
    spool = build_spool(tmp_path, FakeFailingTracker())
    spool.log(opened())
    spool.close()
    (tmp_path / "events.sent").write_text(text)
    tracker = FakeFailingTracker()
    spool = build_spool(tmp_path, tracker)
    spool.log(started(0, after_ms=1))
    spool.close()
    assert tracker.events[-1] == started(0, after_ms=1)


def test_files_stay_files_and_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tracker = FakeFailingTracker()
    spool = build_spool(tmp_path / "spool", tracker)
    spool.log(closed(tmp_path.__class__("front.png")))
    spool.close()
    assert tracker.events[0].files == (tmp_path / "front.png",)


def test_a_bug_behind_the_spool_is_raised_by_the_next_log_and_by_close(tmp_path):
    tracker = FakeFailingTracker(is_broken=True, error=KeyError("bug"))
    spool = build_spool(tmp_path, tracker)
    spool.log(opened())
    wait_for(lambda: spool._bug is not None)
    with pytest.raises(KeyError, match="bug"):
        spool.log(opened())
    with pytest.raises(KeyError, match="bug"):
        spool.close()


def test_a_closed_spool_takes_no_events(tmp_path):
    spool = build_spool(tmp_path, MemoryTracker())
    spool.close()
    with pytest.raises(ValueError, match="closed"):
        spool.log(opened())


def test_a_thousand_events_go_out_in_a_few_batches(tmp_path):
    class FakeBatchTracker(FakeFailingTracker):
        batches = 0

        def log_all(self, events):
            self.batches += 1
            self.events += events

    gone = build_spool(tmp_path, FakeFailingTracker(is_broken=True))
    events = [epoch_ended(0, n, after_ms=n) for n in range(2000)]
    for event in events:
        gone.log(event)
    gone.close(timeout_s=0.0)
    tracker = FakeBatchTracker()
    spool = build_spool(tmp_path, tracker)
    spool.close()
    assert tracker.events == events
    assert tracker.batches < 5


def test_nothing_is_sent_while_it_rests_and_everything_after(tmp_path):
    tracker = FakeFailingTracker()
    spool = build_spool(tmp_path, tracker)
    with spool.resting(), spool.resting():
        for event in study():
            spool.log(event)
        time.sleep(0.1)
        assert not tracker.events
    wait_for(lambda: spool.n_unsent == 0)
    assert tracker.events == study()
    spool.close()


def test_it_rests_when_what_is_being_sent_has_arrived(tmp_path):
    class FakeSlowTracker(FakeFailingTracker):
        def log(self, event):
            time.sleep(0.2)
            super().log(event)

    tracker = FakeSlowTracker()
    spool = build_spool(tmp_path, tracker)
    spool.log(opened())
    wait_for(lambda: spool._is_sending)
    with spool.resting():
        assert tracker.events == [opened()]
    spool.close()


def test_closing_ends_a_rest(tmp_path):
    tracker = FakeFailingTracker()
    spool = build_spool(tmp_path, tracker)
    with spool.resting():
        spool.log(opened())
        spool.close()
        assert tracker.events == [opened()]


def test_an_outage_is_a_rest(tmp_path):
    tracker = FakeFailingTracker(is_broken=True)
    spool = build_spool(tmp_path, tracker, longest_wait_s=30.0)
    spool.log(opened())
    wait_for(lambda: spool.last_error is not None)
    start = time.monotonic()
    with spool.resting():
        assert time.monotonic() - start < 2.0
    spool.close()
