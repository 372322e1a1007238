"""The values of options that are more than a number or a word: durations, losses, lists."""

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field, WrapSerializer
from pydantic_core import PydanticCustomError

from autokd.types import FeatureLoss, Loss

__all__ = [
    "FEATURE_LOSSES",
    "LOGIT_LOSSES",
    "PREPARATIONS",
    "SITE_PATTERN",
    "TOWER_LOSSES",
    "Names",
    "Paths",
    "Seconds",
    "as_numbers",
    "as_several",
    "as_texts",
    "check_assistants",
    "check_lessons",
    "check_loss",
    "check_sites",
    "check_targets",
    "check_teachers",
    "check_tower_loss",
    "parse_duration",
    "redacted",
    "split_names",
]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

PREPARATIONS = ("standardised", "adaptive")
LOGIT_LOSSES: tuple[str, ...] = get_args(Loss)
FEATURE_LOSSES = tuple(name for name in get_args(FeatureLoss) if name != "none")
TOWER_LOSSES = ("contrastive", "feature", "interactive", "relational")
SITE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"  # of a file's name on every system
_LOSS_WORDS = (*PREPARATIONS, *LOGIT_LOSSES, *FEATURE_LOSSES)


def parse_duration(text: object) -> object:
    """Seconds from `90`, `90s`, `30m`, `2h` or `1d`; anything else is passed on to validation.

    Args:
        text: What the user wrote.

    Returns:
        A number of seconds, or the value itself where it is no text.

    Raises:
        ValueError: The text is not a duration.
    """
    if not isinstance(text, str):
        return text
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("must be a duration such as 90s, 30m or 2h")
    return float(match[1]) * _SECONDS[match[2]]


def redacted(text: str) -> str:
    """The text without the users and passwords of its URLs."""
    return re.sub(r"://[^/@\s]+@", "://***@", text)


def as_texts(values: object) -> object:
    """Pins as typed on the command line, where a file has numbers."""
    if not isinstance(values, dict):
        return values
    return {str(key): str(value) for key, value in values.items()}


def check_loss(text: str) -> str:
    """The words of `--loss` in one order, so that it does not matter how they were typed."""
    words = _split_loss(text, known=_LOSS_WORDS)
    if len(set(words) & set(LOGIT_LOSSES)) != 1:
        remedy = f"it can be {', '.join(LOGIT_LOSSES)}"
        raise _loss_fault("name exactly one loss on logits", remedy=remedy)
    if len(set(words) & set(FEATURE_LOSSES)) > 1:
        remedy = f"it can be {', '.join(FEATURE_LOSSES)}"
        raise _loss_fault("name at most one loss on features", remedy=remedy)
    if "cross_entropy" in words and len(words) > 1:
        remedy = "it is training on the labels alone"
        raise _loss_fault("have nothing beside cross_entropy", remedy=remedy)
    if len(set(words)) < len(words):
        raise _loss_fault("name each word once", remedy="leave one out")
    return "+".join(sorted(words, key=_LOSS_WORDS.index))


def check_tower_loss(text: str) -> str:
    """The parts of `--loss` of a dual tower in one order."""
    words = _split_loss(text, known=TOWER_LOSSES)
    if len(set(words)) < len(words):
        raise _loss_fault("name each word once", remedy="leave one out")
    return "+".join(sorted(words, key=TOWER_LOSSES.index))


def _split_loss(text: str, *, known: Sequence[str]) -> list[str]:
    """The words of a loss, all of them known."""
    words = [word.strip().lower() for word in text.split("+")]
    for word in words:
        if word not in known:
            near = difflib.get_close_matches(word, known, n=1)
            remedy = f"did you mean `{near[0]}`?" if near else "join several with +"
            raise _loss_fault(f"be made of {', '.join(known)}", remedy=remedy)
    return words


def _loss_fault(rule: str, *, remedy: str) -> PydanticCustomError:
    return PydanticCustomError("loss", "must {rule}", {"rule": rule, "remedy": remedy})


def as_several(value: object) -> object:
    """A single value as a list of one; none as an empty one."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str | Path) else value


def as_numbers(value: object) -> object:
    """A single number as a list of one."""
    return (value,) if isinstance(value, int | float) else value


def _as_one(values: object, dump: Callable[[Any], Any]) -> object:
    """A list of one as its value and an empty one as none, as they were written before lists."""
    dumped = dump(values)
    return dumped if len(dumped) > 1 else next(iter(dumped), None)


def check_teachers(names: tuple[str, ...]) -> tuple[str, ...]:
    """At least one teacher."""
    if not names:
        raise PydanticCustomError("teacher", "must name a teacher")
    return names


def check_targets(names: tuple[str, ...]) -> tuple[str, ...]:
    """Each target once, as it is called."""
    names = tuple(name.strip() for name in names)
    if "" in names or len(set(names)) < len(names):
        raise PydanticCustomError("target", "must name each target once")
    return names


def check_assistants(names: tuple[str, ...]) -> tuple[str, ...]:
    """No assistant at all, said by leaving the option out or by `none`."""
    if names == ("none",):
        return ()
    if "none" in names:
        raise PydanticCustomError("assistant", "must have nothing beside none")
    return names


def check_lessons(
    names: tuple[str, ...],
    info: Any,  # noqa: ANN401 - pydantic's own type cannot be checked at runtime
) -> tuple[str, ...]:
    """Each earlier study once, and the sampler that can learn from it."""
    if len(set(names)) < len(names):
        raise PydanticCustomError("lessons", "must name each study once")
    if names and info.data.get("sampler", "auto") != "auto":
        remedy = {"remedy": "only auto can learn from another study"}
        raise PydanticCustomError("lessons", "must stand beside `--sampler auto`", remedy)
    return names


def split_names(value: object) -> object:
    """Names that were typed as one text."""
    return value.split(",") if isinstance(value, str) else value


def check_sites(names: tuple[str, ...]) -> tuple[str, ...]:
    """At least two sites, each once, in one order however they were typed."""
    names = tuple(sorted(name.strip() for name in names))
    if names and (len(names) < 2 or len(set(names)) < len(names)):
        raise PydanticCustomError("sites", "must name two or more sites, each once")
    if any(re.fullmatch(SITE_PATTERN, name) is None for name in names):
        rule = {"remedy": "letters, digits, dots, hyphens and underscores make a name"}
        raise PydanticCustomError("sites", "must name sites as --site does", rule)
    return names


Names = Annotated[tuple[str, ...], BeforeValidator(as_several), WrapSerializer(_as_one)]
Paths = Annotated[tuple[Path, ...], BeforeValidator(as_several), WrapSerializer(_as_one)]
Seconds = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, allow_inf_nan=False)]
