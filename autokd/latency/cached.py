"""A target that remembers: the same network is timed once."""

import hashlib
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

    The key is the network (structure and shapes, not weights) and all that the wrapped target
    says of itself: runtime, version, threads, batch and device.
    """

    def __init__(self, target: Target, *, folder: Path) -> None:
        """Remembers beside the wrapped target.

        Args:
            target: What measures; its `str` must tell all that the time depends on.
            folder: Where to keep; made when the first latency is kept.
        """
        self._target = target
        self._folder = folder

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

    def _recall(
        self, models: Sequence[Path], measure: Callable[[], list[Latency]]
    ) -> list[Latency]:
        names = " ".join(network_key(model) for model in models)
        key = hashlib.sha256(f"{names}|{self._target}".encode()).hexdigest()[:32]
        path = self._folder / f"{key}.json"
        try:
            return _LATENCIES.validate_json(path.read_text())
        except (FileNotFoundError, ValueError):
            latencies = measure()
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(_LATENCIES.dump_json(latencies))
        temporary.replace(path)
        return latencies
