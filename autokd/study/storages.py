"""Where Optuna's study lies: opened, waited for when it is away, and held by one coordinator."""

import contextlib
import hashlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import final

import sqlalchemy
from filelock import FileLock, Timeout
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from autokd.config import redacted
from autokd.errors import ConfigError, StudyError
from autokd.jobs import patiently
from autokd.study.journal import open_journal

__all__ = ["Check", "held_alone", "open_storage"]

Check = Callable[[], None]
"""Raises a `StudyError` if another process has the study meanwhile."""

_NAMED_LOCKS = {
    "postgresql": "SELECT pg_try_advisory_lock({number})",
    "mysql": "SELECT GET_LOCK('autokd-{number}', 0)",
    "mariadb": "SELECT GET_LOCK('autokd-{number}', 0)",
}


def open_storage(url: str | None, *, runs_dir: Path) -> BaseStorage:
    """Optuna's storage behind `--storage`.

    A database that goes away is waited for, ten minutes at the longest.

    Args:
        url: `journal:FILE` or an SQLAlchemy URL; a journal in the runs folder if none.
        runs_dir: Where studies lie.

    Returns:
        The storage.

    Raises:
        ConfigError: It cannot be opened.
    """
    path = _journal_of(url, runs_dir=runs_dir)
    if path is not None:
        try:
            return open_journal(path)
        except OSError as error:
            raise ConfigError(f"`--storage` must be writable, got {path}: {error}") from error
    try:
        return _PatientStorage(str(url), engine_kwargs={"pool_pre_ping": True})
    except Exception as error:
        # SQLAlchemy, its drivers and a missing driver's import raise what they like.
        raise ConfigError(_refusal(url, error)) from error


@contextlib.contextmanager
def held_alone(url: str | None, *, runs_dir: Path, study: str) -> Generator[Check]:
    """A study in a storage is this process's alone; the lock dies with the process.

    A `StudyError` says that another process, perhaps on another machine, has it.

    Args:
        url: As `open_storage` takes it.
        runs_dir: Where studies lie.
        study: Its name.

    Yields:
        What raises a `StudyError` if another process has it meanwhile, since the database has
        forgotten the lock; to be called now and then.

    Raises:
        ConfigError: The storage cannot be opened.
    """
    path = _journal_of(url, runs_dir=runs_dir)
    if path is not None:
        with _held_file(path, study=study):
            yield _keeps
        return
    try:
        engine = sqlalchemy.create_engine(str(url), isolation_level="AUTOCOMMIT")
    except Exception as error:
        raise ConfigError(_refusal(url, error)) from error
    database = engine.url.database
    if engine.dialect.name == "sqlite" and database and database != ":memory:":
        with _held_file(Path(database), study=study):
            yield _keeps
    elif engine.dialect.name in _NAMED_LOCKS:
        with _held_name(engine, study=study) as check:
            yield check
    else:  # nobody else can reach it, or nothing is known of its locks
        yield _keeps


def _keeps() -> None:
    """The lock of a file is never lost."""


@contextlib.contextmanager
def _held_file(path: Path, *, study: str) -> Generator[None]:
    lock = FileLock(path.with_name(f"{path.name}.{study}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StudyError(_explain_second(study)) from error
    except OSError as error:
        raise ConfigError(f"`--storage` must be writable, got {path}: {error}") from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _held_name(engine: sqlalchemy.Engine, *, study: str) -> Generator[Check]:
    """A lock of the server's own, which lasts as long as the connection."""
    lock = _NamedLock(engine, study=study)
    try:
        lock.check()
        yield lock.check
    finally:
        lock.close()


@final
class _NamedLock:
    """A lock of a database server, by the name of a study."""

    def __init__(self, engine: sqlalchemy.Engine, *, study: str) -> None:
        digest = hashlib.blake2b(study.encode(), digest_size=7).digest()
        statement = _NAMED_LOCKS[engine.dialect.name].format(number=int.from_bytes(digest))
        self._engine, self._study = engine, study
        self._statement = sqlalchemy.text(statement)
        self._connection: sqlalchemy.Connection | None = None

    def check(self) -> None:
        """Takes the lock, or takes it again where the server was restarted and has forgotten it.

        Raises:
            ConfigError: The server cannot be reached, and never could.
            StudyError: Another process has it.
        """
        try:
            if self._connection is None or self._connection.invalidated:
                self._connection = self._engine.connect()
            is_ours = bool(self._connection.execute(self._statement).scalar())
        except SQLAlchemyError as error:
            if self._connection is None:
                url = self._engine.url.render_as_string()
                raise ConfigError(_refusal(url, error)) from error
            return  # the server is away: the next look finds it, or another's lock
        if not is_ours:
            raise StudyError(_explain_second(self._study))

    def close(self) -> None:
        """Gives the lock back; the server may have gone."""
        with contextlib.suppress(SQLAlchemyError):
            if self._connection is not None:
                self._connection.close()
        self._engine.dispose()


def _journal_of(url: str | None, *, runs_dir: Path) -> Path | None:
    """The file of a journal; none where the storage is a database."""
    if url is None:
        return runs_dir / "optuna.journal"
    return Path(url.removeprefix("journal:")) if url.startswith("journal:") else None


def _refusal(url: str | None, error: Exception) -> str:
    reason = " ".join(str(error).split())
    return redacted(f"`--storage` must be an Optuna storage, got {url}: {reason}")


def _explain_second(study: str) -> str:
    return (
        f"study `{study}` must not be searched twice at once; wait for the other process or "
        "pass another --study"
    )


# ---------------------------------------------------------------------- a database that goes away


def _was_heard(error: Exception) -> bool:
    return isinstance(error, UpdateFinishedTrialError)


def _cause_of(error: BaseException) -> BaseException:
    """What the database said, behind Optuna's own error."""
    is_wrapped = isinstance(error, StorageInternalError) and error.__cause__ is not None
    return error.__cause__ or error if is_wrapped else error


@final
class _PatientStorage(RDBStorage):
    """Optuna's database, waited for when it is away; methods are added below."""


_OF_THE_CACHE = ("_create_new_trial", "_set_trial_param", "_get_best_trial_id", "_get_trials")
"""What `optuna.storages._CachedStorage` calls beside the public methods."""

for _name in (*sorted(BaseStorage.__abstractmethods__), *_OF_THE_CACHE):
    if hasattr(RDBStorage, _name):
        patient = patiently(
            getattr(RDBStorage, _name), when_heard_before=_was_heard, cause_of=_cause_of
        )
        setattr(_PatientStorage, _name, patient)
