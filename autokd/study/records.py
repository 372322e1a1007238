"""Small files of a study: written at once or not at all, and said to be broken where they are."""

import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

from autokd.errors import StudyError

__all__ = ["keep_mark", "read_mark", "read_record", "write_file", "write_record"]

_MARK = "identity"


def write_file(path: Path, text: str) -> None:
    """Puts a file in its place once all of it is written; a full disk or a kill leaves the old one.

    Args:
        path: In a folder that is there.
        text: All of it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_record(path: Path, values: dict[str, Any]) -> None:
    """Writes values as JSON."""
    write_file(path, json.dumps(values, indent=1) + "\n")


def read_record(path: Path) -> dict[str, Any]:
    """Reads values of JSON.

    Args:
        path: A file of a study's folder.

    Returns:
        They.

    Raises:
        StudyError: It is not whole.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of JSON and of UTF-8
        raise StudyError(
            f"study `{path.parent.name}` must have a whole {path.name}, got {error} in {path}; put "
            "a copy back, or pass another --study"
        ) from error


def read_mark(folder: Path) -> str:
    """What tells the folder of a study from another of its name; empty where it has none yet."""
    path = folder / _MARK
    return path.read_text(encoding="ascii").strip() if path.exists() else ""


def keep_mark(folder: Path) -> str:
    """The mark of a folder, drawn where it has none."""
    mark = read_mark(folder)
    if not mark:
        mark = uuid.uuid4().hex
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / _MARK, mark + "\n")
    return mark
