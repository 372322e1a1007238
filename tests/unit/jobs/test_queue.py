"""Jobs in a database, SQLite and a real PostgreSQL: one owner at a time, nothing lost."""

import threading
import time

import pytest

from autokd.errors import ConfigError, StorageError
from autokd.jobs import Claim, JobQueue, LeaseLostError, check_reachable, open_engine, patience
from tests.postgres import running_postgres


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request, tmp_path_factory):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('jobs')}/jobs.db"
        return
    with running_postgres() as server:
        yield server.url


@pytest.fixture
def engine(url):
    engine = open_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def queue(engine):
    queue = JobQueue(engine)
    queue.close_study("s")
    for worker in queue.workers("s"):
        queue.leave(worker)
    queue.open_study("s", "{}", files={"teacher": b"weights"})
    return queue


def post(queue, name="trial-1", *, files=None, stops=()):
    return queue.post("s", name, order=f"do {name}", stops=stops, files=files or {})


def take(queue, worker="w", *, held=()) -> Claim:
    if worker not in queue.workers("s"):
        queue.greet("s", worker, slots=1)
    claim = queue.claim("s", worker, held=held)
    assert claim is not None
    return claim


def state_of(queue, name="trial-1"):
    return next(one for one in queue.states("s") if one.name == name)


def test_a_study_shows_what_a_worker_has_to_know(queue):
    posting = queue.find_study("s")
    assert (posting.text, posting.is_open) == ("{}", True)
    assert queue.files("s") == {"teacher": b"weights"}
    queue.open_study("s", "again", files={"other": b"file"})
    assert queue.find_study("s").text == "again"
    assert queue.files("s") == {"other": b"file"}
    queue.close_study("s")
    assert not queue.find_study("s").is_open
    assert queue.files("s") == {}
    assert queue.find_study("unknown") is None


def test_jobs_are_claimed_in_the_order_they_were_posted(queue):
    post(queue, "trial-2", stops=(1, 4))
    post(queue, "trial-1")
    first = take(queue)
    assert (first.name, first.order, first.stops) == ("trial-2", "do trial-2", (1, 4))
    second = take(queue, held=[first.id])
    assert (second.name, second.stops) == ("trial-1", ())
    assert queue.claim("s", "w", held=[first.id, second.id]) is None
    assert [(one.state, one.worker) for one in queue.states("s")] == [("claimed", "w")] * 2


def test_a_claim_whose_answer_was_lost_is_given_again(queue):
    post(queue)
    lost = take(queue)
    assert take(queue, held=[]) == lost


def test_one_job_goes_to_one_of_many_workers(queue):
    for number in range(12):
        post(queue, f"trial-{number}")
        queue.greet("s", f"w{number % 4}", slots=1)
    claims, barrier = [], threading.Barrier(4)

    def work(name):
        barrier.wait()
        held = []
        while (claim := queue.claim("s", name, held=held)) is not None:
            held.append(claim.id)
            claims.append(claim.name)

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claims) == sorted(f"trial-{number}" for number in range(12))


def test_an_epoch_and_its_checkpoint_are_told_at_once_and_only_once(queue):
    post(queue, files={"trial-1.0.checkpoint": b"zero"})
    claim = take(queue)
    assert queue.files("s", "trial-1") == {"trial-1.0.checkpoint": b"zero"}
    for _ in range(2):  # the second as if the answer to the first had been lost
        assert queue.tell(claim, "w", epoch=1, text="one", files={"trial-1.0.checkpoint": b"one"})
    queue.tell(claim, "w", epoch=2, text="two", files={})
    rows = queue.rows("s", heard={"trial-1": 0})
    assert [(row.name, row.epoch, row.text) for row in rows] == [
        ("trial-1", 1, "one"), ("trial-1", 2, "two"),
    ]  # fmt: skip
    assert queue.rows("s", heard={"trial-1": 1}) == rows[1:]
    assert queue.rows("s", heard={"trial-2": 0}) == queue.rows("s", heard={}) == []
    assert queue.files("s", "trial-1") == {"trial-1.0.checkpoint": b"one"}


def test_a_job_asks_and_is_answered(queue):
    post(queue, stops=(1,))
    claim = take(queue)
    queue.tell(claim, "w", epoch=1, text="", files={})
    assert queue.answer(claim, "w", epoch=1) is None
    queue.grant("s", "trial-1", epoch=1, goes_on=True)
    assert queue.answer(claim, "w", epoch=1) is True
    queue.tell(claim, "w", epoch=2, text="", files={})
    queue.grant("s", "trial-1", goes_on=False)  # whatever is not answered yet
    assert [queue.answer(claim, "w", epoch=epoch) for epoch in (1, 2)] == [True, False]


def test_what_is_halted_ends_after_its_epoch_and_is_not_begun(queue):
    post(queue)
    post(queue, "trial-2")
    claim = take(queue)
    queue.halt("s")
    assert not queue.tell(claim, "w", epoch=1, text="", files={})
    assert queue.answer(claim, "w", epoch=1) is False
    assert queue.claim("s", "w", held=[claim.id]) is None
    assert post(queue, "trial-2") is False  # the next session takes it up
    assert take(queue, held=[claim.id]).name == "trial-2"


def test_a_result_stays_until_it_is_fetched(queue):
    assert post(queue)
    claim = take(queue)
    for _ in range(2):
        queue.finish(claim, "w", result="well", files={"weights": b"trained"})
    assert (state_of(queue).state, state_of(queue).result) == ("done", "well")
    assert post(queue) is False
    assert queue.files("s", "trial-1") == {"weights": b"trained"}
    queue.remove("s", "trial-1")
    assert queue.states("s") == queue.rows("s", heard={"trial-1": 0}) == []
    assert queue.files("s", "trial-1") == {}


def test_a_dead_workers_jobs_go_to_others_and_it_is_not_heard_any_more(queue):
    queue.greet("s", "dead", slots=2)
    queue.greet("s", "other", slots=1)
    assert queue.beat("dead")
    assert queue.workers("s") == {"dead": (2, 1), "other": (1, 0)}
    post(queue)
    old = take(queue, "dead")
    queue.tell(old, "dead", epoch=1, text="", files={"c": b"1"})
    queue.leave("dead")
    assert queue.workers("s") == {"other": (1, 0)}
    assert not queue.beat("dead")
    assert queue.claim("s", "dead", held=[]) is None, "nobody would bury it, until it greets"
    new = take(queue, "other")
    assert new.id == old.id
    for speak in (
        lambda: queue.tell(old, "dead", epoch=2, text="", files={"c": b"late"}),
        lambda: queue.answer(old, "dead", epoch=1),
        lambda: queue.finish(old, "dead", result="late", files={}),
    ):
        with pytest.raises(LeaseLostError):
            speak()
    assert queue.files("s", "trial-1") == {"c": b"1"}
    queue.finish(new, "other", result="well", files={})
    queue.leave("other")  # what is done stays done
    assert state_of(queue).result == "well"


def test_a_job_that_ended_before_its_time_waits_again(queue):
    post(queue)
    claim = take(queue)
    queue.tell(claim, "w", epoch=1, text="", files={"c": b"1"})
    queue.finish(claim, "w", result="stopped", files={})
    queue.free("s", "trial-1")
    assert (state_of(queue).state, state_of(queue).worker) == ("waiting", None)
    assert queue.files("s", "trial-1") == {"c": b"1"}


def test_large_files_travel_whole(queue):
    content = bytes(range(256)) * 40_000
    post(queue, files={"weights": content})
    assert queue.files("s", "trial-1") == {"weights": content}


@pytest.mark.parametrize("url", [None, "journal:x.journal", "sqlite://", "sqlite:///:memory:"])
def test_what_workers_cannot_reach_is_refused(url):
    with pytest.raises(ConfigError, match=r"^`--storage` must be a database that workers reach"):
        open_engine(url)


def test_what_is_no_url_is_refused():
    with pytest.raises(ConfigError, match=r"^`--storage` must be an SQLAlchemy URL, got nonsense"):
        open_engine("nonsense")


@pytest.mark.parametrize(
    "url", ["sqlite:////proc/nowhere/jobs.db", "postgresql+psycopg://me:typo@127.0.0.1:1/db"]
)
def test_what_cannot_be_reached_is_refused_at_once(url):
    with pytest.raises(ConfigError, match=r"^`--storage` must be a database that can be") as caught:
        check_reachable(open_engine(url))
    assert "typo" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "jobs.db").write_bytes(b"something else" * 100)
    with pytest.raises(ConfigError, match=r"^`--storage` must be a database that may be written"):
        JobQueue(open_engine(f"sqlite:///{tmp_path}/jobs.db"))


def test_a_database_that_stays_away_is_waited_for_once(monkeypatch):
    monkeypatch.setattr(patience, "_PATIENCE_S", 0.3)
    begun = time.monotonic()
    with pytest.raises(StorageError, match="unable to open database file"):
        JobQueue(open_engine("sqlite:////proc/nowhere/jobs.db"))
    assert time.monotonic() - begun < 1.5


def test_what_a_worker_has_lost_but_trains_still_is_not_offered_to_it(queue):
    post(queue)
    lost = take(queue)
    queue.leave("w")
    assert queue.claim("s", "w", held=[lost.id]) is None
    assert take(queue, "other").id == lost.id
