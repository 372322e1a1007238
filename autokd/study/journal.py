"""Optuna's journal in a file, made safe against `kill -9`.

Optuna's own lock is a link in the file system that a killed process leaves behind: the next one
waits half a minute for it, and for ever where the path is relative (its age is then never found).
Ours is held by the operating system and ends with the process.
"""

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
        self._process_lock = FileLock(path.with_name(path.name + ".flock"))

    def acquire(self) -> bool:
        """Waits for the lock."""
        self._process_lock.acquire()
        return True

    def release(self) -> None:
        """Gives it back."""
        self._process_lock.release()


def open_journal(path: Path) -> JournalStorage:
    """A journal file as Optuna's storage.

    A line that a killed process has written half is cut off, since Optuna would append to it.

    Args:
        path: The file; made if missing.

    Returns:
        The storage.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _ProcessLock(path)
    lock.acquire()
    try:
        if path.exists():
            text = path.read_bytes()
            if text and not text.endswith(b"\n"):
                with path.open("r+b") as file:
                    file.truncate(text.rfind(b"\n") + 1)
    finally:
        lock.release()
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
