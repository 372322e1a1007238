"""`autokd worker`: carries out the orders of a study that is searched elsewhere."""

import multiprocessing
import os
import signal
import socket
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import final

from autokd.candidate import count_rounding_epochs, learn_engine
from autokd.distillation import OnEpoch
from autokd.errors import AutoKDError, ConfigError, StorageError, StudyError
from autokd.jobs import Claim, JobQueue, LeaseLostError, Posting, check_reachable, open_engine
from autokd.study.calls import localise, open_bench, read_call
from autokd.study.crew import Crew, Done, Job
from autokd.study.crews import build_crew
from autokd.study.forked_crew import settle_child
from autokd.study.interrupts import ending_gently
from autokd.study.orders import Bench, Order, Outcome, carry_out
from autokd.study.planning import choose_device
from autokd.study.remote_crew import (
    BEAT_S,
    dump_result,
    read_checkpoints,
    read_student,
    write_files,
)
from autokd.study.stillness import wake_abandoned
from autokd.types import EpochLog, dump_json, load_json

__all__ = ["PLACES", "work"]

PLACES = ("data", "data_root", "unlabelled", "teacher", "teacher_weights", "device")
"""Options of a study that may be others on a worker's machine."""

_POLL_S = 0.5


def work(
    study: str,
    *,
    storage: str,
    workers: int | None = None,
    wait_s: float = 600.0,
    places: Mapping[str, object] | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> int:
    """Trains for a study that `autokd search --remote` coordinates, until it is over.

    Args:
        study: Its name.
        storage: SQLAlchemy URL of the database that the coordinator uses.
        workers: Students trained side by side; as many as there are cores if none.
        wait_s: Seconds to wait for the study to be opened.
        places: Options that are others on this machine; keys of `PLACES`.
        say: Shows a line to the user.

    Returns:
        How many trainings were done. A `StudyError` says that the study is not opened in time or
        is over, other request errors that the database cannot be reached, or that data, space or
        teachers are not the study's here.

    Raises:
        KeyboardInterrupt: The user stopped it; what was running is back in the queue.
        StorageError: The database went away, and was waited for in vain.
    """
    engine = open_engine(storage)
    check_reachable(engine)
    queue = JobQueue(engine)
    call = read_call(_wait_for(study, queue, wait_s=wait_s, say=say).text)
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    with tempfile.TemporaryDirectory(prefix="autokd-worker-") as scratch:
        config = localise(call, _check(places or {}))
        crew = build_crew(workers, device=choose_device(config))
        bench = open_bench(call, config, scratch=Path(scratch), weights=queue.files(study))
        queue.greet(study, name, slots=crew.size)
        worker = _Worker(name, study, storage=storage, queue=queue, bench=bench, crew=crew, say=say)
        say(f"worker {name}: {crew.size} side by side for study {study}")
        is_heard = True
        try:
            with (
                _beating(name, study, storage=storage, slots=crew.size),
                ending_gently(worker.halt),
            ):
                worker.run()
        except StorageError:
            is_heard = False  # or it would wait as long again to say that it goes
            raise
        finally:
            crew.close()
            if is_heard:
                queue.leave(name)
            engine.dispose()
    if crew.is_halting:
        raise KeyboardInterrupt
    return worker.n_done


def _check(places: Mapping[str, object]) -> dict[str, object]:
    """The options that were given, all of which may be others here."""
    for key in places:
        if key not in PLACES:
            raise ConfigError(f"`{key}` must be one of {', '.join(PLACES)} for a worker")
    return {key: value for key, value in places.items() if value not in (None, ())}


def _wait_for(
    study: str, queue: JobQueue, *, wait_s: float, say: Callable[[str], object]
) -> Posting:
    """The posting of a study, once it is open; a `StudyError` where it is not opened in time."""
    end, has_said = time.monotonic() + wait_s, False
    while (posting := queue.find_study(study)) is None or not posting.is_open:
        if time.monotonic() > end:
            how = "unknown" if posting is None else "over"
            raise StudyError(
                f"`--study` must be searched with --remote in this storage, got {study}, which is "
                f"{how}; start `autokd search --remote` first or pass a longer --wait"
            )
        if not has_said:
            say(f"waiting for study {study}")
            has_said = True
        time.sleep(min(_POLL_S, max(0.0, wait_s)))
    return posting


@dataclass(frozen=True, kw_only=True, eq=False)
class _Held:
    """A job that this worker has."""

    claim: Claim
    order: Order


@final
class _Worker:
    """Claims jobs, has the crew of this machine do them, and tells the queue.

    Attributes:
        n_done: Trainings that have come to their end.
    """

    def __init__(
        self,
        name: str,
        study: str,
        *,
        storage: str,
        queue: JobQueue,
        bench: Bench,
        crew: Crew,
        say: Callable[[str], object],
    ) -> None:
        self.n_done = 0
        self._name, self._study, self._storage = name, study, storage
        self._queue, self._bench = queue, bench
        self._crew, self._say = crew, say
        self._lost: set[int] = set()

    def halt(self) -> None:
        """Has everything end after its epoch."""
        self._crew.halt()
        self._say("ending after this epoch; Ctrl-C again ends at once")

    def run(self) -> None:
        """Works until the study is over."""
        while True:
            wake_abandoned()
            if not self._crew.is_halting:
                self._fill()
            if self._crew.running:
                done = self._wait()
                if done is not None:
                    self._finish(done)
            elif self._crew.is_halting or self._is_over():
                return
            else:
                time.sleep(_POLL_S)

    def _is_over(self) -> bool:
        posting = self._queue.find_study(self._study)
        return posting is None or not posting.is_open

    def _fill(self) -> None:
        """Gives each idle slot a job, as long as there are any."""
        while len(self._crew.running) < self._crew.size:
            held = [job.key.claim.id for job in self._crew.running]
            claim = self._queue.claim(self._study, self._name, held=held)
            if claim is None:
                return
            self._start(claim)

    def _start(self, claim: Claim) -> None:
        self._lost.discard(claim.id)
        order = load_json(Order, claim.order)
        self._bench.workshop.checkpoints.drop(order.name)
        files = self._queue.files(self._study, claim.name)
        write_files(files, bench=self._bench, order=order)
        epochs = _count_epochs(order, self._bench)
        if order.refit is not None:
            self._bench.test()  # once, before the process that needs it is made
        self._say(f"begins {claim.name}")
        self._crew.start(
            Job(
                key=_Held(claim=claim, order=order),
                title=claim.name,
                epochs=epochs,
                work=partial(self._carry, claim, order),
                stops=range(1, epochs + 1),  # so that it waits until its checkpoint is sent
            )
        )

    def _wait(self) -> Done | None:
        """The crew's next result; what is a bug is told to the coordinator and raised here."""
        before = tuple(self._crew.running)
        try:
            return self._crew.wait(self._tell, patience_s=_POLL_S)
        except (AutoKDError, OSError):  # of this machine: others go on with its jobs
            raise
        except Exception as error:
            text = dump_result(bug="".join(traceback.format_exception(error)).strip())
            failed = [job for job in before if job not in self._crew.running] or before
            for job in failed:
                self._speak(job.key, result=text)
            raise

    def _tell(self, job: Job, row: EpochLog) -> bool:
        """Sends an epoch with its checkpoint; whether the job goes on."""
        claim = job.key.claim
        files = read_checkpoints(self._bench, claim.name)
        try:
            return self._queue.tell(
                claim, self._name, epoch=row.epoch, text=dump_json(row), files=files
            )
        except LeaseLostError:
            self._lost.add(claim.id)
            return False

    def _carry(self, claim: Claim, order: Order, on_epoch: OnEpoch) -> Outcome:
        """What the process of a job does: trains, and asks at the rungs itself.

        The others are heard and sent meanwhile, and who is idle gets a job.

        Args:
            claim: Of the job, whose stops are the rungs.
            order: What.
            on_epoch: Tells the worker, which sends it.

        Returns:
            What came of it.
        """

        def tell(row: EpochLog) -> bool:
            if on_epoch(row) is False:
                return False
            return row.epoch not in claim.stops or self._ask(claim, row.epoch)

        return carry_out(order, self._bench, tell)

    def _ask(self, claim: Claim, epoch: int) -> bool:
        """Waits for the coordinator's word, on a connection of its own."""
        engine = open_engine(self._storage)
        try:
            queue = JobQueue(engine)
            while not self._crew.is_halting:
                answer = queue.answer(claim, self._name, epoch=epoch)
                if answer is not None:
                    return answer
                time.sleep(_POLL_S)
        except LeaseLostError:  # the worker will hear of it, too
            return False
        finally:
            engine.dispose()
        return False

    def _finish(self, done: Done) -> None:
        held: _Held = done.job.key
        try:
            self._send(done, held)
        finally:
            self._forget(held.order)

    def _forget(self, order: Order) -> None:
        """Deletes what an order has left here: what came of it is in the database, or another's."""
        if any(job.key.order.name == order.name for job in self._crew.running):
            return  # it was given to this worker again
        self._bench.workshop.checkpoints.drop(order.name)
        for path in self._bench.files_of(order).values():
            path.unlink(missing_ok=True)

    def _send(self, done: Done, held: _Held) -> None:
        if held.claim.id in self._lost:
            self._say(f"{held.claim.name} was given to another worker")
            return
        if done.fault:
            self._say(f"{held.claim.name}: {done.fault}")
            self._speak(held, result=dump_result(fault=done.fault))
            return
        outcome: Outcome = done.result
        files = read_checkpoints(self._bench, held.claim.name)
        if outcome.is_final:
            files = read_student(self._bench, held.order)
            self._learn_engine(outcome)
        self._speak(held, result=dump_result(outcome, paused_s=done.paused_s), files=files)
        self.n_done += outcome.is_final
        self._say(f"{'ends' if outcome.is_final else 'leaves'} {held.claim.name}")

    def _learn_engine(self, outcome: Outcome) -> None:
        """The finals train as fast as their trial did, where it was trained here."""
        if outcome.result is not None:
            learn_engine(outcome.result, self._bench.workshop)

    def _speak(self, held: _Held, *, result: str, files: Mapping[str, bytes] | None = None) -> None:
        try:
            self._queue.finish(held.claim, self._name, result=result, files=files or {})
        except LeaseLostError:
            self._say(f"{held.claim.name} was given to another worker")


def _count_epochs(order: Order, bench: Bench) -> int:
    """More than enough: no job asks after an epoch that it does not come to."""
    recipe = order.result.recipe
    generations = 1 if recipe is None else recipe.generations
    if order.refit is None:
        return bench.workshop.plan.epochs * generations
    data = bench.workshop.data
    n_labelled, n_unlabelled = len(data.train_images), len(data.unlabelled_images)
    share = (n_labelled + n_unlabelled) / n_labelled
    epochs = order.refit.epochs * generations + count_rounding_epochs(order.refit.epochs)
    return round(epochs * share) + 2


@contextmanager
def _beating(name: str, study: str, *, storage: str, slots: int) -> Generator[None]:
    """A process that tells the queue of this worker's life, as long as this process lives.

    Args:
        name: Of the worker.
        study: That it works for.
        storage: Where the queue is.
        slots: That it has.

    Yields:
        Nothing.
    """
    process = multiprocessing.get_context("fork").Process(
        target=_beat, args=(name, study, storage, slots, os.getpid()), daemon=True
    )
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _beat(name: str, study: str, storage: str, slots: int, parent: int) -> None:
    """Beats; who was taken for dead greets again: only what it had is lost.

    A polite kill of the whole group lets the worker end after its epoch: until then it lives.
    """
    settle_child()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    engine = open_engine(storage)
    while os.getppid() == parent:
        with suppress(StorageError):  # the worker says so itself
            queue = JobQueue(engine)
            while os.getppid() == parent:
                if not queue.beat(name):
                    queue.greet(study, name, slots=slots)
                time.sleep(BEAT_S)
