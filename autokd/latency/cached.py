"""A target that remembers: the same network is timed once, or until it is known well enough."""

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

from pydantic import TypeAdapter

from autokd.latency.footprint import network_key
from autokd.types import Latency, Target

__all__ = ["CachedTarget"]

_LATENCIES = TypeAdapter(list[Latency])


@final
class CachedTarget:
    """Wraps a target; keeps what it measured in a folder, one small file a network.

    The key is the network (structure and shapes, not weights), the file that is timed in its
    place if there is one, and all that the wrapped target says of itself: runtime, versions,
    threads, batch and device.

    What was found on a noisy machine is measured again, once in each session, and the narrower
    interval is kept.
    """

    def __init__(
        self,
        target: Target,
        *,
        folder: Path,
        is_asked: bool = False,
        beside: str = "",
        precision: float = math.inf,
    ) -> None:
        """Remembers beside the wrapped target.

        Args:
            target: What measures; its `str` must tell all that the time depends on, but for the
                device of one that is asked.
            folder: Where to keep; made when the first latency is kept.
            is_asked: Whether the first networks are measured in any case, since only a latency
                tells which device it is.
            beside: What the name of a file ends with that the wrapped target times in the place of
                the network, where it lies beside it.
            precision: Half of the 95 % interval, as a share, that is narrow enough to be believed
                in a later session.
        """
        self._target = target
        self._folder, self._beside = folder, beside
        self._is_asked, self._device = is_asked, ""
        self._precision, self._tried = precision, set[str]()

    @property
    def needs_program(self) -> bool:
        """Whether the wrapped target does."""
        return self._target.needs_program

    def measure(self, model: Path) -> Latency:
        """The latency measured before, or the wrapped target's."""
        return self._recall([model], lambda: [self._target.measure(model)])[0]

    def measure_together(self, models: Sequence[Path]) -> list[Latency]:
        """The latencies measured before, of these networks together, or the wrapped target's."""
        return self._recall(models, lambda: self._target.measure_together(models))

    def _name(self, model: Path) -> str:
        """What is timed of a network."""
        beside = model.with_suffix(self._beside)
        if not self._beside or not beside.exists():
            return network_key(model)
        return f"{network_key(model)}+{hashlib.sha256(beside.read_bytes()).hexdigest()}"

    def _recall(
        self, models: Sequence[Path], measure: Callable[[], list[Latency]]
    ) -> list[Latency]:
        names = " ".join(map(self._name, models))
        fresh: list[Latency] = []
        if self._is_asked and not self._device:
            fresh = measure()
            self._device = fresh[0].device
        device = f"|{self._device}" if self._is_asked else ""
        key = hashlib.sha256(f"{names}|{self._target}{device}".encode()).hexdigest()[:32]
        path = self._folder / f"{key}.json"
        known = _read(path)
        if known and (key in self._tried or _widest(known) <= self._precision):
            return known
        self._tried.add(key)
        latencies = fresh or measure()
        if known and _widest(known) <= _widest(latencies):
            return known
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(_LATENCIES.dump_json(latencies))
        temporary.replace(path)
        return latencies


def _read(path: Path) -> list[Latency]:
    """What was kept; nothing where there is no such file, or a damaged one."""
    try:
        return _LATENCIES.validate_json(path.read_text())
    except (FileNotFoundError, ValueError):
        return []


def _widest(latencies: Sequence[Latency]) -> float:
    """How well the least sure of them is known."""
    return max(one.precision for one in latencies)
