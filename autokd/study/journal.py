"""Optuna's journal in a file, made safe against `kill -9`.

Optuna's own lock is a link in the file system that a killed process leaves behind: the next one
waits half a minute for it, and for ever where the path is relative (its age is then never found).
Ours is held by the operating system and ends with the process.
"""

import os
from pathlib import Path
from typing import final

from filelock import FileLock
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

__all__ = ["open_journal"]


@final
class _ProcessLock(JournalFileOpenLock):
    """A lock that dies with the process that holds it."""

    def __init__(self, path: Path) -> None:
        """Names the lock file; nothing is locked."""
        super().__init__(str(path))
        self._path = path
        self._process_lock = FileLock(path.with_name(path.name + ".flock"))

    def acquire(self) -> bool:
        """Waits for the lock, and cuts off a line that a killed process has written half.

        Optuna would append to it, and nobody could read the file any more.

        Returns:
            True, always.

        Raises:
            OSError: The file cannot be read.
        """
        self._process_lock.acquire()
        try:
            _cut_half_line(self._path)
        except OSError:
            self._process_lock.release()
            raise
        return True

    def release(self) -> None:
        """Gives it back."""
        self._process_lock.release()


def open_journal(path: Path) -> JournalStorage:
    """A journal file as Optuna's storage.

    Args:
        path: The file; made if missing.

    Returns:
        The storage.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _ProcessLock(path)
    lock.acquire()  # before anything is read
    lock.release()
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def _cut_half_line(path: Path) -> None:
    """Cuts off what follows the last end of a line; the lock is held."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return
        file.seek(size - 1)
        if file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
