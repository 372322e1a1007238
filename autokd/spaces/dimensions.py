"""NNI's mutables, label by label, as dimensions that a sampler understands, and back."""

import functools
import itertools
import json
import math
import re
from typing import Any

from autokd.errors import SpaceError
from autokd.spaces.nni_api import (
    MISSING,
    Categorical,
    CategoricalMultiple,
    LabeledMutable,
    Numerical,
)
from autokd.types import Dimension, Room

__all__ = ["build_dimension", "decode", "has_default", "parse_value"]

Scalar = str | int | float | bool
_CENTRAL = 0.00135  # of a normal distribution outside three standard deviations, on each side
_MOST_SUBSETS = 1000
_OF_HERE = re.compile(r" at 0x[0-9a-f]+|autokd_space_\w+")  # an address, a file of the user's


def build_dimension(mutable: LabeledMutable, *, room: Room) -> Dimension:
    """The dimension of one leaf of NNI's `simplify()`.

    A normal distribution has no counterpart in Optuna: its central 99.7 % become a range.

    Args:
        mutable: A leaf.
        room: What it belongs to.

    Returns:
        The same set or range of values.

    Raises:
        SpaceError: The kind of leaf has no counterpart, or a range is empty.
    """
    if isinstance(mutable, Categorical | CategoricalMultiple):
        values = _encode_all(mutable)
        default = _encode(mutable.default({}))
        return Dimension(label=mutable.label, room=room, choices=values, default=default)
    if isinstance(mutable, Numerical):
        return _build_range(mutable, room=room)
    raise SpaceError(
        f"`{mutable.label}` must be a choice or a range, got NNI's {type(mutable).__name__}; "
        "write it as nni.choice or a range of nni.uniform's family"
    )


def has_default(mutable: LabeledMutable) -> bool:
    """Whether a leaf was told its default, which is then more than the first or middle value."""
    return getattr(mutable, "default_value", MISSING) is not MISSING


def decode(mutable: LabeledMutable, value: Scalar) -> Any:  # noqa: ANN401 - NNI's values are free
    """The value as NNI wants it, from the value that a sampler gave."""
    if isinstance(mutable, Categorical | CategoricalMultiple):
        return next((known for known in _list_values(mutable) if _encode(known) == value), value)
    if isinstance(mutable, Numerical):
        return mutable.qclip(float(value))
    return value


def parse_value(dimension: Dimension, text: str) -> Scalar:
    """The value of a dimension that the user typed.

    Args:
        dimension: The dimension that is pinned.
        text: What stands behind `=`.

    Returns:
        The value, of the type that the dimension has.

    Raises:
        SpaceError: It is not in the dimension.
    """
    if dimension.choices:
        for choice in dimension.choices:
            if _is_same(choice, text.strip()):
                return choice
        allowed = list(dimension.choices)
        raise SpaceError(f"`{dimension.label}` must be one of {allowed}, got {text}")
    try:
        value = float(text)
    except ValueError as error:
        raise SpaceError(f"`{dimension.label}` must be a number, got {text}") from error
    if not dimension.low <= value <= dimension.high:
        bounds = f"[{dimension.low:g}, {dimension.high:g}]"
        raise SpaceError(f"`{dimension.label}` must be in {bounds}, got {text}")
    if dimension.step is not None:
        n_steps = round((value - dimension.low) / dimension.step)
        nearest = dimension.low + n_steps * dimension.step
        if abs(value - nearest) > 1e-6 * dimension.step:
            raise SpaceError(
                f"`{dimension.label}` must be {dimension.low:g} plus a multiple of "
                f"{dimension.step:g}, got {text}; try {nearest:g}"
            )
    return value


def _is_same(choice: Scalar, text: str) -> bool:
    """Whether a user who types this means that choice; 0 is 0.0."""
    if str(choice).lower() == text.lower():
        return True
    try:
        return isinstance(choice, float) and float(text) == choice
    except ValueError:
        return False


def _encode_all(mutable: Categorical[Any] | CategoricalMultiple[Any]) -> tuple[Scalar, ...]:
    values = _list_values(mutable)
    encoded = tuple(map(_encode, values))
    names = [one for one, value in zip(encoded, values, strict=True) if one is not value]
    if twice := [name for name in names if names.count(name) > 1]:
        raise SpaceError(
            f"`{mutable.label}` must have choices that differ in name, got {twice[0]} twice; "
            "name functions and classes, or choose among numbers and texts"
        )
    return encoded


def _list_values(mutable: Categorical[Any] | CategoricalMultiple[Any]) -> list[Any]:
    """What can be chosen: values, or lists of them."""
    if isinstance(mutable, Categorical):
        return list(mutable.values)
    counts = range(len(mutable.values) + 1) if mutable.n_chosen is None else [mutable.n_chosen]
    n_subsets = sum(math.comb(len(mutable.values), count) for count in counts)
    if n_subsets > _MOST_SUBSETS:
        raise SpaceError(
            f"`{mutable.label}` must have at most {_MOST_SUBSETS} subsets, got {n_subsets}; "
            "choose from fewer values"
        )
    subsets = (itertools.combinations(mutable.values, count) for count in counts)
    return [list(subset) for subset in itertools.chain.from_iterable(subsets)]


def _encode(value: Any) -> Scalar:  # noqa: ANN401 - NNI's values are free
    """A scalar stays as it is; a list, a dict, a function or a class becomes text."""
    if isinstance(value, str | int | float | bool):
        return value
    return json.dumps(value, default=_name)


def _name(value: object) -> str:
    """What an object is called, without what differs from process to process and by place."""
    text = repr(value)
    if not _OF_HERE.search(text):
        return text
    if isinstance(value, functools.partial):
        return json.dumps([value.func, value.args, value.keywords], default=_name)
    return getattr(value, "__qualname__", "") or _OF_HERE.sub("", text)


def _build_range(mutable: Numerical, *, room: Room) -> Dimension:
    low, high = float(mutable.low), float(mutable.high)
    step = None if mutable.quantize is None else float(mutable.quantize)
    if mutable.sigma is not None:
        low = max(low, float(mutable.distribution.ppf(_CENTRAL)))
        high = min(high, float(mutable.distribution.ppf(1 - _CENTRAL)))
    if step is not None:
        low = float(math.ceil(low / step - 1e-9) * step)
        high = float(math.floor(high / step + 1e-9) * step)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise SpaceError(f"`{mutable.label}` must have low < high, got [{low:g}, {high:g}]")
    middle = math.sqrt(low * high) if mutable.log_distributed else (low + high) / 2
    default = mutable.default_value if has_default(mutable) else middle
    return Dimension(
        label=mutable.label,
        room=room,
        low=low,
        high=high,
        step=None if mutable.log_distributed else step,
        is_log=mutable.log_distributed,
        default=float(mutable.qclip(float(default))),
    )
