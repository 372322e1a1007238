"""Ctrl-C: once ends after the epoch, twice at once."""

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

__all__ = ["ending_gently"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def ending_gently(halt: Callable[[], None]) -> Generator[None]:
    """The first Ctrl-C, or the first polite kill, asks for an end; the second one forces it.

    Args:
        halt: Asks for an end; called out of the handler of the signal.

    Yields:
        Nothing. Outside the main thread signals are left as they are.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    has_asked = False

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal has_asked
        if has_asked:
            raise KeyboardInterrupt
        has_asked = True
        halt()

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
