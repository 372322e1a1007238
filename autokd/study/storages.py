"""Where Optuna's study lies: opened, waited for when it is away, and held by one coordinator."""

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import final

import sqlalchemy
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage

from autokd.errors import ConfigError
from autokd.jobs import patiently
from autokd.study.journal import open_journal
from autokd.study.locks import NAMED_LOCKS, Check, explain_refusal, held_file, held_name

__all__ = ["Check", "held_alone", "open_storage"]


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
        raise ConfigError(explain_refusal(url, error)) from error


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
        with held_file(_lock_of(path, study=study), study=study, option="--storage"):
            yield _keeps
        return
    try:
        engine = sqlalchemy.create_engine(str(url), isolation_level="AUTOCOMMIT")
    except Exception as error:
        raise ConfigError(explain_refusal(url, error)) from error
    database = engine.url.database
    if engine.dialect.name == "sqlite" and database and database != ":memory:":
        with held_file(_lock_of(Path(database), study=study), study=study, option="--storage"):
            yield _keeps
    elif engine.dialect.name in NAMED_LOCKS:
        with held_name(engine, study=study) as check:
            yield check
    else:  # nobody else can reach it, or nothing is known of its locks
        yield _keeps


def _keeps() -> None:
    """The lock of a file is never lost."""


def _lock_of(path: Path, *, study: str) -> Path:
    return path.with_name(f"{path.name}.{study}.lock")


def _journal_of(url: str | None, *, runs_dir: Path) -> Path | None:
    """The file of a journal; none where the storage is a database."""
    if url is None:
        return runs_dir / "optuna.journal"
    return Path(url.removeprefix("journal:")) if url.startswith("journal:") else None


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
