"""A target that is given up when it fails again and again."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, final

from autokd.errors import MeasureError, TargetError
from autokd.latency.reference import write_reference
from autokd.types import Latency, Target

__all__ = ["StrictTarget"]

T = TypeVar("T")

_MOST_FAILURES = 3


@final
class StrictTarget:
    """Wraps a target that may fail on a candidate, but not on whatever it is given.

    Networks of one space have much in common, so that three in a row may lack the same operator
    of a runtime. Then a network of convolutions and matrix products is tried: where that is timed,
    the candidates are to blame, and the study goes on; where it is not, the target is.
    """

    def __init__(self, target: Target) -> None:
        """Counts from 0.

        Args:
            target: What measures.
        """
        self._target, self._n_failures = target, 0

    @property
    def needs_program(self) -> bool:
        """Whether the wrapped target does."""
        return self._target.needs_program

    def __str__(self) -> str:
        """What the wrapped target says of itself."""
        return str(self._target)

    def measure(self, model: Path) -> Latency:
        """The wrapped target's latency."""
        return self._count(lambda: self._target.measure(model))

    def measure_together(self, models: Sequence[Path]) -> list[Latency]:
        """The wrapped target's latencies."""
        return self._count(lambda: self._target.measure_together(models))

    def _count(self, measure: Callable[[], T]) -> T:
        try:
            found = measure()
        except MeasureError as error:
            self._n_failures += 1
            if self._n_failures < _MOST_FAILURES:
                raise
            if self._can_measure():
                self._n_failures = 0
                raise
            raise TargetError(
                f"the target failed {_MOST_FAILURES} times in a row, the last time: {error}"
            ) from error
        self._n_failures = 0
        return found

    def _can_measure(self) -> bool:
        """Whether there is a network that it can time; not tried of one that takes programs."""
        if self.needs_program:
            return False
        with tempfile.TemporaryDirectory(prefix="autokd-") as folder:
            try:
                self._target.measure(write_reference(Path(folder, "probe.onnx"), batch="batch"))
            except MeasureError:
                return False
        return True
