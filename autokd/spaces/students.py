"""What `--student` says: which space, and which of its dimensions are held fast."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from autokd.errors import SpaceError
from autokd.spaces.dimensions import parse_value
from autokd.spaces.space import Space
from autokd.types import Dimension

__all__ = ["StudentRequest", "parse_student", "pin_student"]

_FORMS = "SPACE:key=value,..., timm:NAME or python:FILE.py:FUNCTION"


@dataclass(frozen=True, kw_only=True)
class StudentRequest:
    """One student that the user asked for.

    Attributes:
        space: As `--space` takes it, or `timm:NAME` or `python:FILE.py:FUNCTION`.
        values: Dimension to value, as typed.
    """

    space: str
    values: Mapping[str, str]


def parse_student(text: str) -> StudentRequest:
    """Space and values of a student.

    Args:
        text: What stands behind `--student`.

    Returns:
        Both, not looked up yet.

    Raises:
        SpaceError: A value is missing, or a dimension is named twice.
    """
    space, _, rest = text.rpartition(":")
    if not space or ("=" not in rest and rest):
        space, rest = text, ""
    values: dict[str, str] = {}
    for pair in rest.split(",") if rest else []:
        name, is_there, value = (part.strip() for part in pair.partition("="))
        if not (name and is_there and value):
            raise SpaceError(f"`--student` must be {_FORMS}, got {pair.strip()!r} in {text}")
        if name in values:
            raise SpaceError(f"`--student` must name each dimension once, got {name} twice")
        values[name] = value
    if values and space.startswith(("timm:", "python:")):
        raise SpaceError(
            f"`--student {space}` has no dimensions, got {', '.join(values)}; leave them out"
        )
    return StudentRequest(space=space, values=values)


def pin_student(space: Space, values: Mapping[str, str]) -> None:
    """Holds the dimensions of a student's architecture fast.

    A name that is no dimension stands for all that have it with a number behind it: `depth` for
    `depth_1`, `depth_2`, ... A number that is none of a dimension's values is a multiple of its
    default: `width=0.5`.

    Args:
        space: Whose dimensions they are.
        values: As typed.

    Raises:
        SpaceError: There is no such dimension, or a value is not in it.
    """
    known = {one.label: one for one in space.dimensions if one.room == "architecture"}
    for name, text in values.items():
        meant = _find(known, name)
        if not meant:
            near = difflib.get_close_matches(name, [*known, *_stems(known)], n=1)
            remedy = (
                f"did you mean `{near[0]}`?" if near else f"it has {', '.join(known) or 'none'}"
            )
            raise SpaceError(f"`--student {name}` must name a dimension of {space.name}; {remedy}")
        space.pin(_choose(meant, text))


def _find(known: Mapping[str, Dimension], name: str) -> list[Dimension]:
    if name in known:
        return [known[name]]
    return [one for label, one in known.items() if re.fullmatch(rf"{re.escape(name)}_\d+", label)]


def _stems(known: Mapping[str, Dimension]) -> set[str]:
    return {re.sub(r"_\d+$", "", label) for label in known}


def _choose(dimensions: list[Dimension], text: str) -> dict[str, str]:
    """The value of each as `Space.pin` takes it: what was typed, or that times its default."""
    try:
        for one in dimensions:
            parse_value(one, text)
    except SpaceError:
        scaled = {one.label: _scale(one, text) for one in dimensions}
        if None in scaled.values():
            raise
        return {label: str(value) for label, value in scaled.items()}
    return {one.label: text for one in dimensions}


def _scale(dimension: Dimension, text: str) -> str | None:
    """A multiple of the default, if it is one of the values."""
    default = dimension.default
    try:
        factor = float(text)
    except ValueError:
        return None
    if isinstance(default, bool | str):
        return None
    for choice in dimension.choices:
        if choice == default * factor:
            return str(choice)
    return None
