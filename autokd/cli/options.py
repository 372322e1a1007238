"""One option of the command line for each field of the configuration."""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

import click
from pydantic import BaseModel

from autokd.config import Config
from autokd.errors import ConfigError

__all__ = ["config_options", "tidy"]

_SEVERAL: Mapping[str, dict[str, Any]] = {
    "fix": {"metavar": "LABEL=VALUE"},
    "student_tap": {"metavar": "MODULE"},
    "teacher_tap": {"metavar": "MODULE"},
    "learn_from": {"metavar": "STUDY"},
    "teacher": {},
    "teacher_weights": {},
    "assistant": {},
    "target": {},
}
_SHORT = {"learning_rate": "--lr"}


def config_options(
    *,
    without: Collection[str] = (),
    defaults: Mapping[str, object] = MappingProxyType({}),
    model: type[BaseModel] = Config,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that gives a command an option for each field of the configuration.

    Args:
        without: Fields that this command does not heed.
        defaults: Those that are other ones at this command.
        model: The configuration.

    Returns:
        The decorator.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for name, field in reversed(model.model_fields.items()):
            if name not in without:
                default = defaults.get(name, field.get_default(call_default_factory=True))
                command = _build_option(name, default, field.description or "")(command)
        return command

    return decorate


def _build_option(
    name: str,
    default: Any,  # noqa: ANN401 - of any field
    text: str,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    flag = f"--{name.replace('_', '-').removesuffix('-s')}"
    is_several = name in _SEVERAL and isinstance(default, tuple | dict)
    if isinstance(default, tuple):
        default = ", ".join(default)
    if default not in (None, {}, "") and not isinstance(default, bool):
        text += f" [default: {default}]"
    if isinstance(default, bool):
        return click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=text)
    flags = [flag, _SHORT[name]] if name in _SHORT else [flag]
    if is_several:
        return click.option(*flags, name, multiple=True, help=text, **_SEVERAL[name])
    if name in ("teacher_mean", "teacher_std"):
        return click.option(*flags, name, metavar="X,Y,Z", help=text)
    return click.option(*flags, name, help=text)


def tidy(flags: Mapping[str, object]) -> dict[str, object]:
    """The flags that were given, lists and pairs taken apart."""
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    for name in ("teacher_mean", "teacher_std"):
        if isinstance(value := given.get(name), str):
            given[name] = value.split(",")
    if isinstance(pairs := given.get("fix"), tuple):
        bad = [pair for pair in pairs if "=" not in str(pair)]
        if bad:
            raise ConfigError(f"`--fix` must be LABEL=VALUE, got {bad[0]}")
        given["fix"] = dict(str(pair).split("=", 1) for pair in pairs)
    return given
