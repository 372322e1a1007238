"""Workers elsewhere that are played by hand, and the jobs that they are given."""

import dataclasses

from autokd.errors import StudyError
from autokd.study.crew import Job
from autokd.study.orders import WEIGHTS, Order, Outcome
from autokd.study.remote_crew import dump_result
from autokd.types import EpochLog, TrialResult, dump_json

RESULT = TrialResult(trial=3, state="measured", sample={})


def row(epoch: int) -> EpochLog:
    return EpochLog(
        epoch=epoch, train_loss=0.0, val_loss=0.0, val_accuracy=0.5, learning_rate=0.1,
        alpha=0.0, temperature=1.0, seconds=0.0,
    )  # fmt: skip


def job(*, trial=3, stops=(), refit=None, curve=()) -> Job:
    result = dataclasses.replace(RESULT, trial=trial, curve=curve)
    order = Order(result=result, refit=refit)
    return Job(key=trial, title=order.name, epochs=4, work=lambda _: None, stops=stops, order=order)


def ignore(_job, _row) -> None:
    pass


class Hands:
    """A worker, moved by the test."""

    def __init__(self, queue, name="w", *, slots=1):
        self.queue, self.name, self.claims = queue, name, []
        queue.greet("s", name, slots=slots)

    def claim(self):
        held = [claim.id for claim in self.claims]
        claim = self.queue.claim("s", self.name, held=held)
        if claim is not None:
            self.claims.append(claim)
        return claim

    def tell(self, claim, epoch, *, checkpoint=b"c"):
        return self.queue.tell(
            claim, self.name, epoch=epoch, text=dump_json(row(epoch)),
            files={f"{claim.name}.0.checkpoint": checkpoint},
        )  # fmt: skip

    def answer(self, claim, epoch):
        return self.queue.answer(claim, self.name, epoch=epoch)

    def finish(self, claim, *, state="complete", weights=b"trained", **words):
        outcome = Outcome(result=dataclasses.replace(RESULT, trial=3, state=state), seconds=2.0)
        text = dump_result(**words) if words else dump_result(outcome, paused_s=0.5)
        files = {WEIGHTS: weights} if state == "complete" and not words else {}
        self.queue.finish(claim, self.name, result=text, files=files)


def look(crew, on_epoch=ignore):
    """One look at the queue."""
    return crew.wait(on_epoch, patience_s=0.0)


class Lock:
    """The lock of a study, which another coordinator may have got."""

    def __init__(self):
        self.is_ours = True

    def check(self):
        if not self.is_ours:
            raise StudyError("searched twice at once")
