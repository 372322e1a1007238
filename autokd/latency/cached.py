"""A target that remembers: the same network is timed once."""

import hashlib
import json
import os
from pathlib import Path
from typing import final

from autokd.latency.footprint import network_key
from autokd.types import Latency, Target, dump_json, load_json

__all__ = ["CachedTarget"]


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

    def measure(self, model: Path) -> Latency:
        """The latency measured before, or the wrapped target's."""
        key = hashlib.sha256(f"{network_key(model)}|{self._target}".encode()).hexdigest()[:32]
        path = self._folder / f"{key}.json"
        try:
            return load_json(Latency, path.read_text())
        except (FileNotFoundError, ValueError):
            latency = self._target.measure(model)
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(json.loads(dump_json(latency)), indent=1))
        temporary.replace(path)
        return latency
