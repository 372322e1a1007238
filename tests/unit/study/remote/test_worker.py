"""A worker's jobs, whose processes ask at the rungs themselves."""

import threading
import time

import pytest

from autokd.study import worker
from autokd.study.crew import InlineCrew, Job
from autokd.study.orders import Outcome
from autokd.study.worker import _Held, _Worker

from .hands import job, row


@pytest.fixture
def claim(build, queue):
    build().start(job(stops=(1,)))
    queue.greet("s", "w", slots=2)
    return queue.claim("s", "w", held=[])


@pytest.fixture
def build_worker(queue, bench, tmp_path):
    def build_worker():
        return _Worker(
            "w", "s", storage=f"sqlite:///{tmp_path}/jobs.db", queue=queue, bench=bench,
            crew=InlineCrew(), say=lambda _: None,
        )  # fmt: skip

    return build_worker


def test_hearing_of_an_epoch_at_a_rung_holds_up_nobody(build_worker, claim):
    own = job(stops=(1,))
    heard = Job(key=_Held(claim=claim, order=own.order), title="t", epochs=4, work=own.work)
    start = time.monotonic()
    assert build_worker()._tell(heard, row(1)) is True
    assert time.monotonic() - start < 20, "the coordinator has not answered, and never will"


@pytest.mark.parametrize("goes_on", [True, False])
def test_the_process_of_a_job_waits_for_the_answer(
    build_worker, claim, queue, monkeypatch, goes_on
):
    told, answers = [], []

    def carry_out(_order, _bench, on_epoch):
        answers.extend([on_epoch(row(1)), on_epoch(row(2))])
        return Outcome(seconds=1.0)

    monkeypatch.setattr(worker, "carry_out", carry_out)
    monkeypatch.setattr(worker, "_POLL_S", 0.02)
    own = build_worker()
    own._queue.tell(claim, "w", epoch=1, text="{}", files={})
    grant = threading.Timer(0.2, lambda: queue.grant("s", claim.name, goes_on=goes_on, epoch=1))
    grant.start()
    own._carry(claim, job().order, lambda one: told.append(one.epoch))
    grant.join()
    assert answers == [goes_on, True], "only the first is a rung"
    assert told == [1, 2]


def test_a_worker_that_is_halted_does_not_wait(build_worker, claim):
    own = build_worker()
    own.halt()
    assert own._ask(claim, 1) is False
