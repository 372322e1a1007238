"""Files that other machines read meanwhile: whole or not there."""

import os
import uuid
from pathlib import Path

from autokd.errors import CharterError

__all__ = ["write_whole"]


def write_whole(path: Path, content: bytes) -> None:
    """Puts a file in its place once all of it is written.

    Args:
        path: Its folders are made.
        content: Replaces what was there.

    Raises:
        CharterError: The folder cannot be written.
    """
    # The process's number alone may be that of another site's on another machine.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise CharterError(
            f"`--meeting` must be a folder to write to, got {path.parent}: {error.strerror}; mount "
            "it for writing, or name another one at all sites"
        ) from error
    finally:
        if temporary.exists():
            temporary.unlink()
