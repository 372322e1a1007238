"""The way to MLflow: one client per store, its chatter off, its errors translated.

mlflow is imported on the first connection, not with the room.
"""

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from autokd.config import redacted
from autokd.errors import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["build_client", "is_remote", "translated_errors", "uploading"]

_SETTINGS = {
    # A dead server is noticed in seconds; the spool tries again for as long as it takes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def build_client(uri: str) -> "MlflowClient":
    """A client of one store that says nothing on its own.

    A local database is created and migrated here, which takes a second.

    Args:
        uri: An MLflow tracking URI.

    Returns:
        The client; a server has not been spoken to yet.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    with translated_errors(uri):
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        # It prints a traceback for each outage, which is translated and waited for here.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        path = _database_of(uri)
        if path is not None and not path.exists():
            _create_database(path)
        return MlflowClient(uri)


def _database_of(uri: str) -> Path | None:
    """The file behind a SQLite URI, unless it lies in memory or has options."""
    path = uri.removeprefix("sqlite:///")
    return None if path == uri or not path or path[0] == ":" or "?" in path else Path(path)


def _create_database(path: Path) -> None:
    """All tables or no file: MLflow's migrations, cut off half-way, could not be run again."""
    from mlflow import MlflowClient

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        MlflowClient(f"sqlite:///{temporary.as_posix()}")
        try:
            path.hardlink_to(temporary)
        except OSError:  # a file system without links, unless another process was faster
            if not path.exists():
                temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def is_remote(uri: str) -> bool:
    """Whether the store is a server rather than something that this machine can serve itself."""
    return urlsplit(uri).scheme in {"http", "https", "databricks"} or uri == "databricks"


@contextmanager
def translated_errors(uri: str) -> Generator[None]:
    """Whatever MLflow, its transport or its database raises becomes a `TrackingError`.

    Args:
        uri: The store, for the message.

    Yields:
        Nothing.

    Raises:
        TrackingError: Something was raised.
    """
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
        raise TrackingError(
            f"the tracking store must be usable, got {_shorten(error)}; see {redacted(uri)}"
        ) from error


@contextmanager
def uploading(uri: str) -> Generator[None]:
    """Whatever the client of an artefact store raises becomes a `TrackingError`.

    Those of S3, Azure and Google share no base class, and raise a `ModuleNotFoundError` where they
    are not installed.

    Args:
        uri: The tracking store, which has named the other, for the message.

    Yields:
        Nothing.

    Raises:
        TrackingError: Something was raised.
    """
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(
            f"MLflow's artefact store must be usable from here, got {type(error).__name__}: "
            f"{_shorten(error)}; see {redacted(uri)}"
        ) from error


def _shorten(error: Exception) -> str:
    """What an error says, in a line without passwords."""
    return redacted(" ".join(str(error).split()))[:300]
