"""How long a site puts up with others that are slow, and with a folder that is away."""

import dataclasses
import time
from collections.abc import Callable
from typing import TypeVar, final

from autokd.federation.files import is_passing

__all__ = ["Patience"]

T = TypeVar("T")

_SAID_EVERY_S = 30.0


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Patience:
    """What ends the waiting, and whom it is told.

    Attributes:
        wait_s: It ends by itself then; 0 for one try.
        is_over: Whether the user ends it.
        say: Shows a line.
        pause_s: Between two tries.
    """

    wait_s: float
    is_over: Callable[[], bool] = lambda: False
    say: Callable[[str], object] = lambda _: None
    pause_s: float = 1.0

    def keep_trying(
        self, act: Callable[[], T | None], *, title: str, waiting_for: Callable[[], str]
    ) -> T | None:
        """What an act gives, as soon as it gives something.

        Args:
            act: Tried again while it gives nothing, or while a folder on a network is away.
            title: What it is about, for people.
            waiting_for: What is missing, for people; asked after a try.

        Returns:
            It; none where patience has ended.

        Raises:
            KeyboardInterrupt: The user has ended it.
            OSError: One that does not pass, or had not when patience ended.
        """
        start, said = time.monotonic(), -_SAID_EVERY_S
        while True:
            trouble: OSError | None = None
            try:
                if (result := act()) is not None:
                    return result
            except OSError as error:
                if not is_passing(error):
                    raise
                trouble = error
            spent = time.monotonic() - start
            if spent >= self.wait_s:
                if trouble is not None:
                    raise trouble
                return None
            if self.is_over():
                raise KeyboardInterrupt
            if spent - said >= _SAID_EVERY_S:
                what = waiting_for() if trouble is None else f"the folder ({trouble})"
                self.say(f"{title}: waiting for {what}, {self._tell_left(spent)} at the longest")
                said = spent
            time.sleep(min(self.pause_s, self.wait_s - spent))

    def _tell_left(self, spent: float) -> str:
        """How long it may still take."""
        is_long = self.wait_s > 120
        return f"{(self.wait_s - spent) / 60:.0f} min" if is_long else f"{self.wait_s:.0f} s"
