"""Values as JSON and back."""

import functools
from typing import Any, TypeVar

from pydantic import TypeAdapter

from autokd.types.results import Front

__all__ = ["dump_json", "front_as_dict", "load_json"]

T = TypeVar("T")


_adapter = functools.cache(TypeAdapter[Any])  # to build one takes longer than a thousand readings


def dump_json(value: object) -> str:
    """The JSON of a frozen value, on one line."""
    return _adapter(type(value)).dump_json(value).decode()


def load_json(kind: type[T], text: str | bytes) -> T:
    """The frozen value that `dump_json` wrote.

    Args:
        kind: The value's class.
        text: Its JSON.

    Returns:
        A value equal to the one that was written.
    """
    return _adapter(kind).validate_json(text)


def front_as_dict(front: Front) -> dict[str, Any]:
    """The front as `--json` prints it: plain values, the students under the key `front`."""
    values: dict[str, Any] = _adapter(Front).dump_python(front, mode="json")
    values["front"] = values.pop("students")
    return values
