"""Checkpoints on disk: written whole or not at all, no more of them than there is room for."""

import contextlib
import dataclasses
import logging
import os
import pickle
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, final

import torch

from autokd.distillation import Checkpoint
from autokd.types import EpochLog

__all__ = ["CheckpointFile", "CheckpointFolder"]

_STALE_S = 3600.0  # after which nobody writes a file any more
_logger = logging.getLogger(__name__)


@final
class CheckpointFile:
    """The last checkpoint of one training; a `distillation.Keeper`."""

    def __init__(self, path: Path) -> None:
        """Names the file; nothing is read."""
        self._path = path

    def load(self) -> Checkpoint | None:
        """What was kept last; none where there is nothing, or a file that cannot be read."""
        try:
            fields: dict[str, Any] = torch.load(self._path, weights_only=True, map_location="cpu")
            curve = tuple(EpochLog(**row) for row in fields.pop("curve"))
            return Checkpoint(curve=curve, **fields)
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, TypeError) as error:
            # Of a power cut, or of another version: the training begins again.
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            _logger.warning("checkpoint %s cannot be used: %s", self._path.name, line)
            return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Puts a checkpoint in place of the one before; a full disk keeps that one."""
        fields = {
            field.name: getattr(checkpoint, field.name) for field in dataclasses.fields(checkpoint)
        }
        fields["curve"] = [dataclasses.asdict(row) for row in checkpoint.curve]
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(fields, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except (OSError, RuntimeError) as error:
            # torch reports a failed write as a RuntimeError. The training itself can go on.
            line = str(error).splitlines()[0]
            _logger.warning("checkpoint %s is not written: %s", self._path.name, line)
        finally:
            temporary.unlink(missing_ok=True)


@final
class CheckpointFolder:
    """All checkpoints of a study, by the name of what is trained."""

    def __init__(self, path: Path, *, limit_bytes: int) -> None:
        """Names the folder; nothing is made.

        Args:
            path: Of the folder.
            limit_bytes: That `collect` keeps to.
        """
        self.path, self._limit_bytes = path, limit_bytes

    def keepers(self, name: str) -> Callable[[int], CheckpointFile]:
        """Where a training keeps its checkpoints.

        Args:
            name: Of what is trained, such as `trial-7`.

        Returns:
            Gives the file of a generation, counted from 0, of a student that is trained several
            times over; it need not exist.
        """
        return lambda generation: CheckpointFile(self.path / f"{name}.{generation}.checkpoint")

    def start(self, name: str) -> Path:
        """Where the weights lie that a training begins with, if it does not begin afresh.

        Args:
            name: Of what is trained.

        Returns:
            A file that goes wherever the checkpoints of this training go.
        """
        return self.path / f"{name}.start.checkpoint"

    def last(self, name: str) -> Checkpoint | None:
        """The last checkpoint of a training, of the last generation; none where there is none."""
        generations = (file.name.split(".")[-2] for file in self.files(name))
        numbers = [int(text) for text in generations if text.isdigit()]
        return self.keepers(name)(max(numbers)).load() if numbers else None

    def generations(self, name: str) -> list[Checkpoint]:
        """The last checkpoint of each generation of a training, as far as none is missing."""
        keepers, kept = self.keepers(name), list[Checkpoint]()
        while (one := keepers(len(kept)).load()) is not None:
            kept.append(one)
        return kept

    def __contains__(self, name: str) -> bool:
        """Whether there is a checkpoint of this training."""
        return bool(self.files(name))

    def drop(self, name: str) -> None:
        """Forgets a training that is over."""
        for file in self.files(name):
            file.unlink(missing_ok=True)

    def collect(self, *, needed: Collection[str]) -> list[str]:
        """Forgets the oldest trainings until the rest keeps to the limit.

        Args:
            needed: Names of those that are being trained, which stay in any case.

        Returns:
            The names of those that are gone.
        """
        for file in self.path.glob("*.tmp"):  # of a process that was killed while it wrote
            with contextlib.suppress(FileNotFoundError):
                if time.time() - file.stat().st_mtime > _STALE_S:
                    file.unlink()
        sizes: dict[str, int] = {}
        ages: dict[str, float] = {}
        for file in self.path.glob("*.checkpoint"):
            try:
                status = file.stat()
            except FileNotFoundError:
                continue
            name = file.name.split(".")[0]
            sizes[name] = sizes.get(name, 0) + status.st_size
            ages[name] = max(ages.get(name, 0.0), status.st_mtime)
        gone: list[str] = []
        total = sum(sizes.values())
        for name in sorted(sizes, key=lambda one: (ages[one], one)):
            if total <= self._limit_bytes or name in needed:
                continue
            self.drop(name)
            total -= sizes[name]
            gone.append(name)
        return gone

    def files(self, name: str) -> list[Path]:
        """The files of a training that are there."""
        return sorted(self.path.glob(f"{name}.*.checkpoint"))
