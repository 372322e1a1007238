"""What a coordinator does that has lost its study to another one."""

import pytest

from autokd.errors import StudyError
from autokd.jobs import LeaseLostError
from tests.unit.study.remote.hands import Hands, Lock, job, look


@pytest.fixture
def lock():
    return Lock()


def test_what_is_another_coordinators_is_left_alone(build, queue, lock, tmp_path):
    crew, hands = build(check_alone=lock.check), Hands(queue)
    look(crew)
    crew.start(job(stops=(1,)))
    claim = hands.claim()
    hands.tell(claim, 1)
    lock.is_ours = False  # the database was restarted, and the other one has adopted the job
    heard = []
    with pytest.raises(StudyError, match="twice at once"):
        look(crew, lambda _, row: heard.append(row.epoch))
    hands.finish(claim)
    with pytest.raises(StudyError, match="twice at once"):
        look(crew)
    for touch in (lambda: crew.start(job(trial=4)), crew.dismiss):
        with pytest.raises(StudyError, match="twice at once"):
            touch()
    crew.halt()
    with pytest.raises(StudyError, match="twice at once"):
        look(crew)
    crew.close()
    assert not crew.running
    assert heard == []
    assert [(one.name, one.state) for one in queue.states("s")] == [("trial-3", "done")]
    assert queue.find_study("s").is_open
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_lock_is_looked_at_after_the_database_was_waited_for(build, queue, lock, monkeypatch):
    crew, real = build(check_alone=lock.check), queue.files
    crew.start(job())

    def wait(*words):
        lock.is_ours = False
        return real(*words)

    monkeypatch.setattr(queue, "files", wait)
    crew.close()
    assert [one.name for one in queue.states("s")] == ["trial-3"]


def test_a_job_that_somebody_has_taken_out_is_posted_again(build, queue, said):
    crew, hands = build(), Hands(queue)
    crew.start(job(stops=(1, 2)))
    old = hands.claim()
    hands.tell(old, 1)
    look(crew)
    queue.remove("s", "trial-3")  # by a coordinator that did not know yet that it was one no more
    assert look(crew) is None
    assert said[-1] == "trial-3 is not in the database any more; posted again"
    new = Hands(queue, "other").claim()
    assert (new.name, new.stops) == ("trial-3", (2,)), "the first was answered"
    with pytest.raises(LeaseLostError):
        hands.tell(old, 2)
    Hands(queue, "other").finish(new)
    assert look(crew).result.result.state == "complete"
