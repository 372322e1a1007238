"""The tables that jobs lie in, beside Optuna's own."""

import sqlalchemy
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Engine,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import SQLAlchemyError

from autokd.config import redacted
from autokd.errors import ConfigError
from autokd.jobs.patience import patiently

__all__ = [
    "EPOCHS",
    "FILES",
    "JOBS",
    "STUDIES",
    "WORKERS",
    "check_reachable",
    "make_tables",
    "open_engine",
]

_NAME = String(190)  # MySQL indexes no longer ones
_LONG_TEXT = Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
_CONTENT = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
_TABLES = MetaData()


def _job() -> Column[int]:
    return Column("job", ForeignKey("autokd_jobs.id", ondelete="CASCADE"), nullable=False)


STUDIES = Table(
    "autokd_studies", _TABLES,
    Column("study", _NAME, primary_key=True),
    Column("posting", _LONG_TEXT, nullable=False),
    Column("is_open", Boolean, nullable=False),
)  # fmt: skip

JOBS = Table(
    "autokd_jobs", _TABLES,
    Column("id", Integer, primary_key=True),
    Column("study", _NAME, nullable=False, index=True),
    Column("name", _NAME, nullable=False),
    Column("order", _LONG_TEXT, nullable=False),
    Column("stops", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("worker", _NAME),
    Column("is_halted", Boolean, nullable=False),
    Column("result", _LONG_TEXT),
    UniqueConstraint("study", "name"),
    sqlite_autoincrement=True,  # the number of a job is never that of an earlier one
)  # fmt: skip

EPOCHS = Table(
    "autokd_epochs", _TABLES,
    Column("id", Integer, primary_key=True),
    _job(),
    Column("epoch", Integer, nullable=False),
    Column("row", Text, nullable=False),
    Column("goes_on", Boolean),
    UniqueConstraint("job", "epoch"),
)  # fmt: skip

FILES = Table(
    "autokd_files", _TABLES,
    Column("id", Integer, primary_key=True),
    Column("study", _NAME, nullable=False, index=True),
    Column("job", ForeignKey("autokd_jobs.id", ondelete="CASCADE")),
    Column("name", _NAME, nullable=False),
    Column("content", _CONTENT, nullable=False),
)  # fmt: skip

WORKERS = Table(
    "autokd_workers", _TABLES,
    Column("worker", _NAME, primary_key=True),
    Column("study", _NAME, nullable=False, index=True),
    Column("slots", Integer, nullable=False),
    Column("beats", BigInteger, nullable=False),
)  # fmt: skip


def open_engine(url: str | None) -> Engine:
    """The database that workers reach.

    Args:
        url: An SQLAlchemy URL.

    Returns:
        An engine; nothing is connected.

    Raises:
        ConfigError: It is a journal, lives in memory, or has no driver here.
    """
    remedy = "pass --storage postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
    if url is None or url.startswith("journal:"):
        shown = "a journal file" if url is None else url
        raise ConfigError(
            f"`--storage` must be a database that workers reach, got {shown}; {remedy}"
        )
    try:
        engine = sqlalchemy.create_engine(url, pool_pre_ping=True)
    except Exception as error:
        # SQLAlchemy and a missing driver's import raise what they like.
        reason = " ".join(str(error).split())
        raise ConfigError(
            redacted(f"`--storage` must be an SQLAlchemy URL, got {url}: {reason}")
        ) from error
    if engine.dialect.name == "sqlite":
        if engine.url.database in (None, "", ":memory:"):
            raise ConfigError(
                f"`--storage` must be a database that workers reach, got {url}; {remedy}"
            )
        event.listen(engine, "connect", _settle_sqlite)
    return engine


def make_tables(engine: Engine) -> None:
    """Makes the tables that are not there yet; others may be doing the same.

    Args:
        engine: Of `open_engine`.

    Raises:
        ConfigError: The database does not let it.
    """
    make = patiently(_TABLES.create_all)
    try:
        make(engine)
    except SQLAlchemyError:  # somebody was faster between the look and the making
        try:
            make(engine)
        except SQLAlchemyError as error:
            text = _explain(engine, error, rule="a database that may be written to")
            raise ConfigError(text) from error


def check_reachable(engine: Engine) -> None:
    """Asks once, so that a mistyped host or password is not waited for as a restart is.

    Args:
        engine: Of `open_engine`.

    Raises:
        ConfigError: The database cannot be reached.
    """
    try:
        engine.connect().close()
    except SQLAlchemyError as error:
        text = _explain(engine, error, rule="a database that can be reached from here")
        raise ConfigError(text) from error


def _explain(engine: Engine, error: SQLAlchemyError, *, rule: str) -> str:
    """What is said of a database that does not serve, in a line."""
    url, reason = engine.url.render_as_string(), " ".join(str(error).split())
    return redacted(f"`--storage` must be {rule}, got {url}: {reason}")


def _settle_sqlite(connection: object, _record: object) -> None:
    """Deletes what hangs on a deleted job, and waits for writers beside."""
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.close()
