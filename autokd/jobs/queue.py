"""Jobs of studies in a database: posted by the coordinator, claimed by workers, never lost.

- A job is `waiting`, `claimed` by one worker, or `done` with a result. All that a worker says of a
  job holds only as long as it has it: `LeaseLostError` otherwise.
- A worker is alive as long as its `beats` grow. Only the coordinator takes jobs away from a dead
  one, by its own clock, so that no two clocks are ever compared.
- An epoch and the checkpoint after it are written at once: whoever goes on with a job goes on
  from the last epoch that was told.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from sqlalchemy import Connection, Engine, delete, false, insert, or_, select, update

from autokd.jobs.patience import patiently
from autokd.jobs.tables import EPOCHS, FILES, JOBS, STUDIES, WORKERS, make_tables

__all__ = ["Claim", "JobQueue", "JobState", "LeaseLostError", "Posting", "Row"]

Files = Mapping[str, bytes]


class LeaseLostError(Exception):
    """A worker spoke of a job that is not its own any more."""


@dataclass(frozen=True, kw_only=True)
class Posting:
    """A study that looks for workers.

    Attributes:
        text: All that a worker has to know of it, as JSON.
        is_open: Whether there may be jobs; none will come any more if not.
    """

    text: str
    is_open: bool


@dataclass(frozen=True, kw_only=True)
class JobState:
    """How a job stands.

    Attributes:
        name: Of the job, unique in its study.
        state: `waiting`, `claimed` or `done`.
        worker: Who has it, or had it last.
        result: What came of it; none before it is done.
    """

    name: str
    state: str
    worker: str | None
    result: str | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """An epoch that was told.

    Attributes:
        name: Of the job.
        epoch: Its number.
        text: Whatever the worker says of it, as JSON.
    """

    name: str
    epoch: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A job that a worker has taken.

    Attributes:
        id: Of the job.
        name: Of the job.
        order: What is to be done, as JSON.
        stops: Epochs after which it asks whether to go on.
    """

    id: int
    name: str
    order: str
    stops: tuple[int, ...]


@final
class JobQueue:
    """All jobs in a database; each method is one transaction, waits while the database is away,
    and may be repeated.
    """

    def __init__(self, engine: Engine) -> None:
        """Makes the tables where there are none.

        Args:
            engine: Of `open_engine`.
        """
        make_tables(engine)
        self._engine = engine

    # ------------------------------------------------------------------ the coordinator's side

    @patiently
    def open_study(self, study: str, text: str, *, files: Files) -> None:
        """Shows a study to workers, in place of what was shown before.

        Args:
            study: Its name.
            text: All that a worker has to know, as JSON.
            files: That a worker needs before the first job.
        """
        with self._engine.begin() as connection:
            connection.execute(delete(FILES).where(FILES.c.study == study, FILES.c.job.is_(None)))
            connection.execute(delete(STUDIES).where(STUDIES.c.study == study))
            connection.execute(insert(STUDIES).values(study=study, posting=text, is_open=True))
            _put_files(connection, files, study=study, job=None)

    @patiently
    def close_study(self, study: str) -> None:
        """No job will come any more; what is left of them is forgotten."""
        with self._engine.begin() as connection:
            closed = update(STUDIES).where(STUDIES.c.study == study).values(is_open=False)
            connection.execute(closed)
            connection.execute(delete(JOBS).where(JOBS.c.study == study))
            connection.execute(delete(FILES).where(FILES.c.study == study))

    @patiently
    def post(
        self, study: str, name: str, *, order: str, stops: Sequence[int], files: Files
    ) -> bool:
        """Puts a job up, or takes up the one of this name that is there.

        Args:
            study: Whose.
            name: Of the job.
            order: What is to be done.
            stops: Epochs after which it asks whether to go on.
            files: To begin with.

        Returns:
            Whether it is new; one that is not has its own order, files and epochs, and does not
            halt any more.
        """
        with self._engine.begin() as connection:
            known = _ours(study, name)
            there = connection.execute(select(JOBS.c.id).where(known)).scalar()
            if there is not None:
                connection.execute(update(JOBS).where(known).values(is_halted=False))
                return False
            values = {"study": study, "name": name, "order": order, "stops": _join(stops)}
            new = insert(JOBS).values(**values, state="waiting", is_halted=False)
            connection.execute(new)
            job = connection.execute(select(JOBS.c.id).where(known)).scalar_one()
            _put_files(connection, files, study=study, job=job)
            return True

    @patiently
    def states(self, study: str) -> list[JobState]:
        """How all jobs of a study stand, in the order they were posted."""
        columns = (JOBS.c.name, JOBS.c.state, JOBS.c.worker, JOBS.c.result)
        asked = select(*columns).where(JOBS.c.study == study).order_by(JOBS.c.id)
        with self._engine.begin() as connection:
            return [JobState(**row) for row in connection.execute(asked).mappings()]

    @patiently
    def rows(self, study: str, *, heard: Mapping[str, int]) -> list[Row]:
        """Epochs that were told and not heard yet.

        Args:
            study: Whose.
            heard: Jobs that are listened to, with the last epoch that was heard of each.

        Returns:
            Those after it, in the order of jobs and epochs.
        """
        new = [(JOBS.c.name == name) & (EPOCHS.c.epoch > epoch) for name, epoch in heard.items()]
        asked = (
            select(JOBS.c.name, EPOCHS.c.epoch, EPOCHS.c.row.label("text"))
            .join(JOBS, JOBS.c.id == EPOCHS.c.job)
            .where(JOBS.c.study == study, or_(false(), *new))
            .order_by(JOBS.c.id, EPOCHS.c.epoch)
        )
        with self._engine.begin() as connection:
            return [Row(**row) for row in connection.execute(asked).mappings()]

    @patiently
    def grant(self, study: str, name: str, *, goes_on: bool, epoch: int | None = None) -> None:
        """Answers a job that asks whether to go on, after one epoch or all that it has told of."""
        job = select(JOBS.c.id).where(_ours(study, name)).scalar_subquery()
        asks = EPOCHS.c.goes_on.is_(None) if epoch is None else EPOCHS.c.epoch == epoch
        answered = update(EPOCHS).where(EPOCHS.c.job == job, asks)
        with self._engine.begin() as connection:
            connection.execute(answered.values(goes_on=goes_on))

    @patiently
    def halt(self, study: str) -> None:
        """Has each job end after the epoch that it is in, and nothing be begun."""
        with self._engine.begin() as connection:
            connection.execute(update(JOBS).where(JOBS.c.study == study).values(is_halted=True))

    @patiently
    def free(self, study: str, name: str) -> None:
        """Puts a job back that its worker has died of, or has ended before its time."""
        freed = update(JOBS).where(_ours(study, name))
        with self._engine.begin() as connection:
            connection.execute(freed.values(state="waiting", worker=None, result=None))

    @patiently
    def files(self, study: str, name: str | None = None) -> dict[str, bytes]:
        """The files of a job, or those that a study was opened with."""
        asked = select(FILES.c.name, FILES.c.content).where(FILES.c.study == study)
        if name is None:
            asked = asked.where(FILES.c.job.is_(None))
        else:
            asked = asked.join(JOBS, JOBS.c.id == FILES.c.job).where(_ours(study, name))
        with self._engine.begin() as connection:
            return {row.name: bytes(row.content) for row in connection.execute(asked)}

    @patiently
    def remove(self, study: str, name: str) -> None:
        """Forgets a job with its epochs and files, whoever has it."""
        with self._engine.begin() as connection:
            connection.execute(delete(JOBS).where(_ours(study, name)))

    @patiently
    def workers(self, study: str) -> dict[str, tuple[int, int]]:
        """Slots and beats of each worker that has greeted and not left."""
        asked = select(WORKERS).where(WORKERS.c.study == study)
        with self._engine.begin() as connection:
            found = connection.execute(asked).mappings()
            return {row["worker"]: (row["slots"], row["beats"]) for row in found}

    # ------------------------------------------------------------------ the workers' side

    @patiently
    def find_study(self, study: str) -> Posting | None:
        """What is shown of a study; none where it was never opened."""
        asked = select(STUDIES.c.posting, STUDIES.c.is_open).where(STUDIES.c.study == study)
        with self._engine.begin() as connection:
            row = connection.execute(asked).first()
        return None if row is None else Posting(text=row.posting, is_open=row.is_open)

    @patiently
    def greet(self, study: str, worker: str, *, slots: int) -> None:
        """A worker is there, with room for so many jobs."""
        with self._engine.begin() as connection:
            connection.execute(delete(WORKERS).where(WORKERS.c.worker == worker))
            values = {"worker": worker, "study": study, "slots": slots, "beats": 0}
            connection.execute(insert(WORKERS).values(**values))

    @patiently
    def beat(self, worker: str) -> bool:
        """A worker is still there; whether it is known."""
        grown = update(WORKERS).where(WORKERS.c.worker == worker)
        with self._engine.begin() as connection:
            return connection.execute(grown.values(beats=WORKERS.c.beats + 1)).rowcount == 1

    @patiently
    def leave(self, worker: str) -> None:
        """A worker, or somebody who knows it to be dead, says that it is gone.

        What it had is waiting again, also what it is about to claim: that waits for the first line.
        """
        freed = update(JOBS).where(JOBS.c.worker == worker, JOBS.c.state == "claimed")
        with self._engine.begin() as connection:
            connection.execute(delete(WORKERS).where(WORKERS.c.worker == worker))
            connection.execute(freed.values(state="waiting", worker=None))

    @patiently
    def claim(self, study: str, worker: str, *, held: Collection[int]) -> Claim | None:
        """The next job for a worker; none where none is waiting.

        Nor has one that is taken for dead, until it has greeted again: nobody would bury it.

        Args:
            study: Whose.
            worker: Who asks.
            held: Jobs that it has and knows of, or trains still though it has lost them.

        Returns:
            A job that nobody else has; one that it has got before without learning of it first.
        """
        mine = (JOBS.c.study == study, JOBS.c.worker == worker, JOBS.c.state == "claimed")
        free = (JOBS.c.study == study, JOBS.c.state == "waiting", JOBS.c.is_halted.is_(False))
        waiting = (*free, JOBS.c.id.not_in(held))
        present = select(WORKERS.c.worker).where(WORKERS.c.worker == worker).with_for_update()
        with self._engine.begin() as connection:
            if connection.execute(present).first() is None:
                return None
            lost = select(JOBS).where(*mine, JOBS.c.id.not_in(held))
            job = connection.execute(lost).mappings().first()
            offered = connection.execute(select(JOBS).where(*waiting).order_by(JOBS.c.id))
            for one in [] if job is not None else offered.mappings().all():
                taken = update(JOBS).where(JOBS.c.id == one["id"], JOBS.c.state == "waiting")
                values = {"state": "claimed", "worker": worker}
                if connection.execute(taken.values(**values)).rowcount == 1:
                    job = one
                    break
        if job is None:
            return None
        stops = tuple(int(word) for word in job["stops"].split())
        return Claim(id=job["id"], name=job["name"], order=job["order"], stops=stops)

    @patiently
    def tell(self, claim: Claim, worker: str, *, epoch: int, text: str, files: Files) -> bool:
        """An epoch has ended.

        Args:
            claim: Of which job.
            worker: Whose it is.
            epoch: Its number.
            text: Whatever is to be said of it, as JSON.
            files: That replace those of the same names.

        Returns:
            Whether the job is not halted; `LeaseLostError` where it is another's.
        """
        with self._engine.begin() as connection:
            is_halted = _hold(connection, claim, worker)
            told = (EPOCHS.c.job == claim.id, EPOCHS.c.epoch == epoch)
            if connection.execute(select(EPOCHS.c.id).where(*told)).first() is None:
                values = {"job": claim.id, "epoch": epoch, "row": text}
                connection.execute(insert(EPOCHS).values(**values))
            _put_files(connection, files, study=None, job=claim.id)
        return not is_halted

    @patiently
    def answer(self, claim: Claim, worker: str, *, epoch: int) -> bool | None:
        """Whether a job goes on after an epoch; none before it is decided.

        Args:
            claim: Which job.
            worker: Whose it is.
            epoch: That it has told of.

        Returns:
            `False` too where it is halted; `LeaseLostError` where it is another's.
        """
        asked = select(EPOCHS.c.goes_on).where(EPOCHS.c.job == claim.id, EPOCHS.c.epoch == epoch)
        with self._engine.begin() as connection:
            is_halted = _hold(connection, claim, worker)
            goes_on = connection.execute(asked).scalar()
        return False if is_halted and goes_on is None else goes_on

    @patiently
    def finish(self, claim: Claim, worker: str, *, result: str, files: Files) -> None:
        """A job is done.

        Args:
            claim: Which job.
            worker: Whose it is; `LeaseLostError` where it is another's.
            result: What came of it, as JSON.
            files: That replace those of the same names.
        """
        with self._engine.begin() as connection:
            _hold(connection, claim, worker)
            _put_files(connection, files, study=None, job=claim.id)
            done = update(JOBS).where(JOBS.c.id == claim.id)
            connection.execute(done.values(state="done", result=result))


def _ours(study: str, name: str) -> Any:  # noqa: ANN401 - an SQL expression
    return (JOBS.c.study == study) & (JOBS.c.name == name)


def _hold(connection: Connection, claim: Claim, worker: str) -> bool:
    """Whether a job is halted; its lease is sure until the transaction ends, or lost."""
    mine = (JOBS.c.id == claim.id, JOBS.c.worker == worker)
    # An update of nothing locks the row, on every database.
    held = update(JOBS).where(*mine).values(worker=worker)
    if connection.execute(held).rowcount != 1:
        raise LeaseLostError(claim.name)
    return bool(connection.execute(select(JOBS.c.is_halted).where(*mine)).scalar())


def _put_files(connection: Connection, files: Files, *, study: str | None, job: int | None) -> None:
    """Adds files of a study or a job, in place of those of the same names."""
    if not files:
        return
    if study is None:
        study = connection.execute(select(JOBS.c.study).where(JOBS.c.id == job)).scalar_one()
    owner = FILES.c.job.is_(None) if job is None else FILES.c.job == job
    connection.execute(
        delete(FILES).where(FILES.c.study == study, owner, FILES.c.name.in_(list(files)))
    )
    for name, content in files.items():
        values = {"study": study, "job": job, "name": name, "content": content}
        connection.execute(insert(FILES).values(**values))


def _join(stops: Sequence[int]) -> str:
    return " ".join(map(str, stops))
