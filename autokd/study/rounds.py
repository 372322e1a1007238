"""What a site keeps of the rounds of a federation, so that it goes on where it was stopped."""

import dataclasses
import io
import os
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float32

from autokd.types import EpochLog, dump_json, load_json

__all__ = ["Round", "RoundFolder"]


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Round:
    """One training of a site's student.

    Attributes:
        number: 0 for the first, which is alone.
        val_accuracy: Of its best epoch on the site's own validation split, in [0, 1].
        heard: Sites whose answers of the round before have taught it; none in round 0.
        curve: One row per epoch.
        seconds: Of training.
        engine: How the steps were computed.
        sent_bytes: Of the answers that were published after it; 0 after the last.
    """

    number: int
    val_accuracy: float
    heard: tuple[str, ...]
    curve: tuple[EpochLog, ...]
    seconds: float
    engine: str
    sent_bytes: int = 0


@final
class RoundFolder:
    """The rounds of one study: a record and the weights of each, and what taught the next."""

    def __init__(self, path: Path) -> None:
        """Names the folder of the study; nothing is read or made."""
        self._path = path

    def weights_of(self, number: int) -> str:
        """Name of the file of a round's weights in the study's folder."""
        return f"rounds/{number:02d}.safetensors"

    def load(self, number: int) -> Round | None:
        """What came of a round; none where it has not come to its end."""
        file = self._file(number, "json")
        return load_json(Round, file.read_bytes()) if file.exists() else None

    def keep(self, done: Round) -> None:
        """Writes the record of a round whose weights lie there already."""
        _write(self._file(done.number, "json"), dump_json(done).encode())

    def load_consensus(
        self, number: int
    ) -> tuple[Float32[np.ndarray, "views pictures classes"], tuple[str, ...]] | None:
        """What the sites said together after a round, and which; none where it is not known."""
        file = self._file(number, "consensus.npz")
        if not file.exists():
            return None
        with np.load(file, allow_pickle=False) as arrays:
            return arrays["logits"], tuple(arrays["sites"].tolist())

    def keep_consensus(
        self,
        number: int,
        logits: Float32[np.ndarray, "views pictures classes"],
        *,
        sites: tuple[str, ...],
    ) -> None:
        """Writes what the sites said together; a site that comes later does not change it."""
        buffer = io.BytesIO()
        np.savez(buffer, logits=logits, sites=np.array(sites))
        _write(self._file(number, "consensus.npz"), buffer.getvalue())

    def _file(self, number: int, ending: str) -> Path:
        return self._path / "rounds" / f"{number:02d}.{ending}"


def _write(path: Path, content: bytes) -> None:
    """All of the file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
