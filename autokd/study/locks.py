"""A study belongs to one process at a time: locks that die with it and with what it has forked."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import final

import sqlalchemy
from filelock import FileLock, Timeout
from sqlalchemy.exc import SQLAlchemyError

from autokd.config import redacted
from autokd.errors import ConfigError, StudyError

__all__ = ["NAMED_LOCKS", "Check", "explain_refusal", "held_file", "held_name"]

Check = Callable[[], None]
"""Raises a `StudyError` if another process has the study meanwhile."""

NAMED_LOCKS = {
    "postgresql": "SELECT pg_try_advisory_lock({number})",
    "mysql": "SELECT GET_LOCK('autokd-{number}', 0)",
    "mariadb": "SELECT GET_LOCK('autokd-{number}', 0)",
}
"""What takes a lock of the server's own, by the dialect of SQLAlchemy."""

_LIVENESS = {
    "postgresql": (
        "SET tcp_keepalives_idle = 10",
        "SET tcp_keepalives_interval = 5",
        "SET tcp_keepalives_count = 3",
    ),
    "mysql": ("SET SESSION wait_timeout = 3600",),
    "mariadb": ("SET SESSION wait_timeout = 3600",),
}
"""By which a server notices that the machine of a session has lost its power or its network.

It would keep the lock for hours otherwise, as TCP alone tells that nobody is there any more.
"""

_PATIENCE_S = 5.0  # the trainings of a process that was just killed hold its locks for a moment
_LOOK_S = 0.1


@contextlib.contextmanager
def held_file(path: Path, *, study: str, option: str) -> Generator[None]:
    """A lock that is a file, made with its folder.

    Args:
        path: Of the file.
        study: Its name, for the message.
        option: Which says where the file lies, for the message.

    Yields:
        Nothing.

    Raises:
        ConfigError: The file cannot be written.
        StudyError: Another process has it, and keeps it.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=_PATIENCE_S, poll_interval=_LOOK_S)
    except Timeout as error:
        raise StudyError(_explain_second(study)) from error
    except OSError as error:
        raise ConfigError(f"`{option}` must be writable, got {path.parent}: {error}") from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def held_name(engine: sqlalchemy.Engine, *, study: str) -> Generator[Check]:
    """A lock of a database server, which lasts as long as the connection.

    Args:
        engine: Of one of `NAMED_LOCKS`.
        study: Its name.

    Yields:
        What raises a `StudyError` if another process has it meanwhile.
    """
    lock = _NamedLock(engine, study=study)
    try:
        lock.take()
        yield lock.check
    finally:
        lock.close()


@final
class _NamedLock:
    """A lock of a database server, by the name of a study."""

    def __init__(self, engine: sqlalchemy.Engine, *, study: str) -> None:
        digest = hashlib.blake2b(study.encode(), digest_size=7).digest()
        statement = NAMED_LOCKS[engine.dialect.name].format(number=int.from_bytes(digest))
        self._engine, self._study = engine, study
        self._statement = sqlalchemy.text(statement)
        self._connection: sqlalchemy.Connection | None = None

    def take(self) -> None:
        """Takes the lock, waiting a moment for whoever has it."""
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end:
            with contextlib.suppress(StudyError):
                return self.check()
            time.sleep(_LOOK_S)
        return self.check()

    def check(self) -> None:
        """Takes the lock, or takes it again where the server was restarted and has forgotten it.

        Raises:
            ConfigError: The server cannot be reached, and never could.
            StudyError: Another process has it.
        """
        try:
            if self._connection is None or self._connection.invalidated:
                self._connection = self._connect()
            is_ours = bool(self._connection.execute(self._statement).scalar())
        except SQLAlchemyError as error:
            if self._connection is None:
                url = self._engine.url.render_as_string()
                raise ConfigError(explain_refusal(url, error)) from error
            return  # the server is away: the next look finds it, or another's lock
        if not is_ours:
            raise StudyError(_explain_second(self._study))

    def _connect(self) -> sqlalchemy.Connection:
        connection = self._engine.connect()
        for statement in _LIVENESS[self._engine.dialect.name]:
            with contextlib.suppress(SQLAlchemyError):  # not every server's system has them
                connection.execute(sqlalchemy.text(statement))
        return connection

    def close(self) -> None:
        """Gives the lock back; the server may have gone."""
        with contextlib.suppress(SQLAlchemyError):
            if self._connection is not None:
                self._connection.close()
        self._engine.dispose()


def explain_refusal(url: str | None, error: Exception) -> str:
    """What is said of a storage that cannot be opened.

    Args:
        url: As typed; its password is not shown.
        error: What SQLAlchemy, a driver or the file system said.

    Returns:
        One line.
    """
    reason = " ".join(str(error).split())
    return redacted(f"`--storage` must be an Optuna storage, got {url}: {reason}")


def _explain_second(study: str) -> str:
    return (
        f"study `{study}` must not be searched twice at once; wait for the other process or "
        "pass another --study"
    )
