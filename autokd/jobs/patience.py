"""A database that goes away is waited for."""

import functools
import logging
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import tenacity
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from autokd.config import redacted
from autokd.errors import StorageError

__all__ = ["patiently"]

_logger = logging.getLogger(__name__)

_PATIENCE_S = 600.0
_LONGEST_PAUSE_S = 10.0
_OF_SQLITE_FOR_EVER = (
    "is full",  # the disk
    "readonly database",
)  # what cannot be opened may be on a disk elsewhere that comes back

_LOST = threading.Event()  # whether a database was waited for in vain

P = ParamSpec("P")
T = TypeVar("T")


def patiently(
    method: Callable[P, T],
    *,
    when_heard_before: Callable[[Exception], bool] = lambda _: False,
    cause_of: Callable[[BaseException], BaseException] = lambda error: error,
) -> Callable[P, T]:
    """The method, called again while the database is away, ten minutes at the longest.

    Once that was in vain, no other call of this process waits until one is answered: else each
    of those that tidy up would take as long again.

    Args:
        method: Asks a database; may be called twice.
        when_heard_before: Whether what a later attempt raised says that an earlier one was heard
            and only its answer lost; the method gives `True` then.
        cause_of: The error of the database behind what the method raises.

    Returns:
        A function of the same arguments; a `StorageError` says that it has waited in vain.
    """

    def is_away(error: BaseException) -> bool:
        return _is_away(cause_of(error))

    @functools.wraps(method)
    def call(*args: P.args, **options: P.kwargs) -> T:
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_away),
            wait=tenacity.wait_exponential(multiplier=0.25, max=_LONGEST_PAUSE_S),
            stop=tenacity.stop_after_delay(0.0 if _LOST.is_set() else _PATIENCE_S),
            before_sleep=_tell,
        )
        try:
            for attempt in attempts:
                with attempt:
                    try:
                        answer = method(*args, **options)
                    except Exception as error:
                        if attempt.retry_state.attempt_number > 1 and when_heard_before(error):
                            return cast("T", True)  # noqa: FBT003 - what the method gives then
                        raise
                    _LOST.clear()
                    return answer
        except tenacity.RetryError as over:
            error = over.last_attempt.exception()
            _LOST.set()
            raise StorageError(
                f"the storage must be reachable, got {_PATIENCE_S / 60:.0f} minutes without it: "
                f"{_reason(error)}; run the same command again when it is back"
            ) from error
        raise AssertionError("tenacity gives back or raises")

    return call


def _is_away(error: BaseException) -> bool:
    """Whether a database cannot be reached, or is locked, and may be there again soon."""
    if any(words in str(error) for words in _OF_SQLITE_FOR_EVER):
        return False
    is_cut = isinstance(error, DBAPIError) and error.connection_invalidated
    return is_cut or isinstance(error, OperationalError | InterfaceError)


def _tell(state: tenacity.RetryCallState) -> None:
    error = None if state.outcome is None else state.outcome.exception()
    _logger.warning("the storage cannot be reached, trying again: %s", _reason(error))


def _reason(error: BaseException | None) -> str:
    """What the driver said, in a line."""
    cause = error.__cause__ or error if error is not None else None
    return redacted(" ".join(str(cause).split())[:200])
