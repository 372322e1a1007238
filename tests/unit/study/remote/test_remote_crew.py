"""The coordinator's side of workers elsewhere; the workers are played by hand."""

import dataclasses
import threading
import time

import pytest

from autokd.jobs import LeaseLostError
from autokd.study import remote_crew
from autokd.study.crew import Crew, Job
from autokd.study.orders import INT8, WEIGHTS, Outcome
from autokd.study.refits import Entry, Refit
from autokd.study.remote_crew import dump_result
from tests.unit.study.remote.hands import RESULT, Hands, ignore, job, look, row


def test_what_a_student_begins_with_goes_to_its_worker(build, queue, bench):
    start = bench.workshop.checkpoints.start("trial-3")
    start.parent.mkdir()
    start.write_bytes(b"inherited")
    build().start(job())
    assert queue.files("s", "trial-3") == {"trial-3.start.checkpoint": b"inherited"}


def test_it_is_a_crew_that_waits_for_workers(build, said, queue):
    crew = build()
    assert isinstance(crew, Crew)
    assert crew.size == 1
    look(crew)
    look(crew)
    assert len(said) == 1
    assert said[0].startswith("waiting for workers: autokd worker --study s")
    Hands(queue, slots=3)
    assert crew.wait(ignore) is None  # it has grown
    assert crew.size == 3
    assert said[1] == "worker w is there, 3 side by side"


def test_a_job_goes_to_a_worker_and_comes_back_with_its_files(build, queue, tmp_path):
    crew, hands, heard = build(), Hands(queue), []
    crew.start(job())
    assert [one.key for one in crew.running] == [3]
    claim = hands.claim()
    assert hands.tell(claim, 1)
    assert look(crew, lambda one, epoch: heard.append((one.key, epoch.epoch))) is None
    look(crew, lambda one, epoch: heard.append((one.key, epoch.epoch)))
    assert heard == [(3, 1)]
    hands.finish(claim)
    done = look(crew)
    assert (done.job.key, done.result.result.state, done.paused_s) == (3, "complete", 0.5)
    assert (tmp_path / "weights/trial-3.safetensors").read_bytes() == b"trained"
    assert not crew.running
    assert queue.states("s") == []


def test_a_training_of_the_finals_puts_its_weights_among_the_refits(build, queue, tmp_path):
    crew, hands = build(), Hands(queue)
    entry = Entry(trial=3, seed=1, is_twin=True, epochs=5)
    crew.start(job(refit=entry))
    refit = Refit(trial=3, seed=1, is_twin=True, val_accuracy=0.5, test_accuracy=0.5, epochs=5)
    claim = hands.claim()
    text = dump_result(Outcome(refit=refit, seconds=1.0), paused_s=0.0)
    queue.finish(claim, "w", result=text, files={WEIGHTS: b"twin"})
    assert look(crew).result.refit == refit
    assert (tmp_path / "refits/3-1-twin-5.safetensors").read_bytes() == b"twin"


@pytest.mark.parametrize("is_refit", [False, True])
def test_a_student_in_int8_comes_back_with_its_file(build, queue, tmp_path, is_refit):
    crew, hands = build(), Hands(queue)
    known = dataclasses.replace(
        RESULT, state="complete", sample={"precision": "int8"}, float_layers=("middle",),
        fp32_val_accuracy=0.75,
    )  # fmt: skip
    refit = Refit(
        trial=3, seed=1, is_twin=False, val_accuracy=0.5, test_accuracy=0.5, epochs=5,
        is_aware=True, float_val_accuracy=0.75,
    )  # fmt: skip
    entry = Entry(trial=3, seed=1, is_twin=False, epochs=5)
    sent = Outcome(refit=refit) if is_refit else Outcome(result=known)
    crew.start(job(refit=entry if is_refit else None))
    files = {WEIGHTS: b"floats", INT8: b"bytes"}
    queue.finish(hands.claim(), "w", result=dump_result(sent), files=files)
    assert look(crew).result == sent
    home = tmp_path / ("refits/3-1-kd-5" if is_refit else "weights/trial-3")
    assert home.with_suffix(".safetensors").read_bytes() == b"floats"
    assert home.with_suffix(".int8.onnx").read_bytes() == b"bytes"


def test_a_job_ends_at_its_stop_and_leaves_its_checkpoint_here(build, queue, bench):
    crew, hands = build(), Hands(queue)
    crew.start(job(stops=(1,)))
    claim = hands.claim()
    hands.tell(claim, 1, checkpoint=b"after one")
    assert hands.answer(claim, 1) is None
    look(crew, lambda _job, _row: False)
    assert hands.answer(claim, 1) is False
    hands.finish(claim, state="stopped")
    assert look(crew).result.result.state == "stopped"
    (file,) = bench.workshop.checkpoints.files("trial-3")
    assert file.read_bytes() == b"after one"
    crew.start(job())  # and goes on from there, on whatever machine
    assert queue.files("s", "trial-3") == {"trial-3.0.checkpoint": b"after one"}


def test_the_jobs_of_a_dead_worker_go_to_another_from_the_last_epoch(build, queue, said):
    crew = build(lease_s=1.0)
    dead, other = Hands(queue, "dead"), Hands(queue, "other")
    crew.start(job())
    old = dead.claim()
    dead.tell(old, 1, checkpoint=b"one")
    look(crew)
    for _ in range(4):
        time.sleep(0.4)
        queue.beat("other")
        look(crew)
    assert said[-1] == "worker dead is not heard of for 1 s; what it had goes to others"
    assert crew.size == 1
    new = other.claim()
    assert queue.files("s", "trial-3") == {"trial-3.0.checkpoint": b"one"}
    with pytest.raises(LeaseLostError):
        dead.tell(old, 2)
    heard = []
    other.tell(new, 2)
    look(crew, lambda _, epoch: heard.append(epoch.epoch))
    assert heard == [2]


def test_a_job_whose_worker_died_at_its_stop_hears_the_answer_elsewhere(build, queue):
    crew, dead, other = build(), Hands(queue, "dead"), Hands(queue, "other")
    crew.start(job(stops=(1,)))
    dead.tell(dead.claim(), 1)
    heard = []
    look(crew, lambda _, epoch: heard.append(epoch.epoch) or False)
    queue.leave("dead")
    look(crew)
    claim = other.claim()
    other.tell(claim, 1)  # as `carry_out` does before it trains on
    assert other.answer(claim, 1) is False
    other.finish(claim, state="stopped")
    assert look(crew).result.result.state == "stopped"
    assert heard == [1]


def test_a_job_that_kills_its_workers_is_given_up(build, queue):
    crew = build()
    crew.start(job())
    for name in ("a", "b", "c"):
        Hands(queue, name).claim()
        look(crew)
        queue.leave(name)
        done = look(crew)
    assert "3 times without an epoch between" in done.fault
    assert queue.states("s") == []


def test_an_epoch_between_makes_good_for_a_death(build, queue):
    crew = build()
    crew.start(job())
    for epoch in range(1, 5):
        hands = Hands(queue, f"w{epoch}")
        claim = hands.claim()
        look(crew)
        hands.tell(claim, epoch)
        look(crew)
        queue.leave(hands.name)
        assert look(crew) is None
    assert crew.running


def test_what_killed_its_process_twice_is_a_fault_and_what_is_a_bug_is_raised(build, queue):
    crew, hands = build(), Hands(queue)
    crew.start(job())
    hands.finish(hands.claim(), fault="its process ended twice")
    assert look(crew).fault == "its process ended twice"
    crew.start(job())
    hands.finish(hands.claim(), bug="Traceback ... ZeroDivisionError: division by zero")
    with pytest.raises(RuntimeError, match=r"trial-3 failed on its worker:\nTraceback .* zero"):
        look(crew)


@pytest.mark.parametrize(("known", "heard"), [((), [1, 2]), ((row(1),), [2])])
def test_the_next_session_takes_up_what_goes_on_without_it(build, queue, known, heard):
    hands = Hands(queue)
    build().start(job(stops=(1,)))
    claim = hands.claim()
    hands.tell(claim, 1)
    # The coordinator is killed; its successor may know that the rung at 1 was passed.
    crew, epochs = build(), []
    crew.start(job(curve=known))
    assert len(queue.states("s")) == 1
    look(crew, lambda _, epoch: epochs.append(epoch.epoch))
    assert hands.answer(claim, 1) is True
    hands.tell(claim, 2)
    look(crew, lambda _, epoch: epochs.append(epoch.epoch))
    assert epochs == heard
    hands.finish(claim)
    assert look(crew).result.result.state == "complete"


def test_a_job_that_was_stopped_before_the_coordinator_died_ends(build, queue):
    hands = Hands(queue)
    build().start(job(stops=(1,)))
    claim = hands.claim()
    hands.tell(claim, 1)
    crew = build(stopped=["trial-3"])
    assert hands.answer(claim, 1) is False
    hands.finish(claim, state="stopped")
    assert look(crew) is None  # nobody has asked for it yet
    crew.start(job())
    assert look(crew) is None  # it is put back and goes on
    assert Hands(queue, "other").claim().name == "trial-3"


def test_halting_ends_jobs_after_their_epoch(build, queue):
    crew, hands = build(), Hands(queue)
    crew.start(job())
    claim = hands.claim()
    crew.halt()
    assert look(crew) is None
    assert hands.tell(claim, 1) is False
    hands.finish(claim, state="stopped")
    assert look(crew).result.result.state == "stopped"


def test_closing_takes_jobs_away_and_keeps_checkpoints(build, queue, bench):
    crew, hands = build(), Hands(queue)
    crew.start(job())
    claim = hands.claim()
    hands.tell(claim, 1, checkpoint=b"one")
    crew.close()
    assert not crew.running
    with pytest.raises(LeaseLostError):
        hands.tell(claim, 2)
    (file,) = bench.workshop.checkpoints.files("trial-3")
    assert file.read_bytes() == b"one"


def test_a_dismissed_worker_finds_the_study_closed(build, queue):
    build().dismiss()
    assert not queue.find_study("s").is_open


def test_a_job_without_an_order_cannot_be_sent(build):
    with pytest.raises(ValueError, match="must have an order to be sent, got it without"):
        build().start(Job(key=0, title="it", epochs=1, work=lambda _: None))


def test_it_waits_for_what_comes(build, queue):
    crew, hands = build(), Hands(queue)
    look(crew)
    crew.start(job())

    def work():
        time.sleep(0.3)
        hands.finish(hands.claim())

    thread = threading.Thread(target=work)
    thread.start()
    assert crew.wait(ignore).result.result.state == "complete"
    thread.join()


def test_halting_ends_at_once_where_no_worker_has_a_job(build):
    crew = build()
    crew.start(job())
    crew.halt()
    with pytest.raises(KeyboardInterrupt):
        crew.wait(ignore)


def test_nobody_is_buried_after_an_outage_of_the_coordinators_own(build, queue, monkeypatch):
    crew, hands = build(), Hands(queue)
    crew.start(job())
    hands.claim()
    look(crew)
    real = time.monotonic
    monkeypatch.setattr(remote_crew.time, "monotonic", lambda: real() + 100)
    look(crew)
    assert list(queue.workers("s")) == [hands.name]
