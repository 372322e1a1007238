"""The process that tells the queue of a worker's life."""

import multiprocessing
import os
import signal
import time

import psutil

from autokd.study import worker


def wait_for(is_so, *, within=20.0):
    end = time.monotonic() + within
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_heart_beats_on_while_a_worker_that_was_asked_to_ends_after_its_epoch(
    queue, tmp_path, monkeypatch
):
    monkeypatch.setattr(worker, "BEAT_S", 0.02)
    queue.greet("s", "w", slots=1)
    before = psutil.Process().children()
    with worker._beating("w", "s", storage=f"sqlite:///{tmp_path}/jobs.db", slots=1):
        wait_for(lambda: queue.workers("s")["w"][1] > 0)
        (heart,) = (one for one in psutil.Process().children() if one not in before)
        heart.terminate()  # as the whole group was
        beaten = queue.workers("s")["w"][1]
        wait_for(lambda: queue.workers("s")["w"][1] > beaten + 1)
    assert not heart.is_running()


def test_the_heart_stops_when_its_worker_is_gone(queue, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "BEAT_S", 0.02)
    monkeypatch.setattr(worker, "settle_child", lambda: None)  # where nothing kills it
    queue.greet("s", "w", slots=1)
    storage = f"sqlite:///{tmp_path}/jobs.db"

    def begin():
        fork.Process(target=worker._beat, args=("w", "s", storage, 1, os.getpid())).start()
        time.sleep(60)

    fork = multiprocessing.get_context("fork")
    parent = fork.Process(target=begin)
    parent.start()
    wait_for(lambda: queue.workers("s")["w"][1] > 0)
    (heart,) = psutil.Process(parent.pid).children()
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    wait_for(lambda: not heart.is_running())
