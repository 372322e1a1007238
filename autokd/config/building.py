"""File and flags become one configuration; every fault is reported at once."""

import difflib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import platformdirs
import yaml
from pydantic import BaseModel, ValidationError

from autokd.config.commands import Command, find_command
from autokd.config.model import Config
from autokd.config.towers import TowerConfig
from autokd.errors import ConfigError

__all__ = ["build_config", "build_tower_config", "find_cache", "load_config_file"]

_Model = TypeVar("_Model", bound=BaseModel)


def find_cache() -> Path:
    """The folder of what can be made again: pictures, teachers, what they know.

    Returns:
        AUTOKD_CACHE, or the user's cache folder.
    """
    return Path(os.environ.get("AUTOKD_CACHE") or platformdirs.user_cache_dir("autokd"))


def load_config_file(path: Path, *, model: type[BaseModel] = Config) -> dict[str, Any]:
    """The options of a YAML file.

    Args:
        path: A mapping of option to value; options as on the command line, with `-` or `_`; an
            option without a value there is true or false here.
        model: Whose options they are.

    Returns:
        Option names with underscores to values, not validated yet.

    Raises:
        ConfigError: The file cannot be read or is no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration must be a readable file, got {path}: {error}") from error
    except yaml.YAMLError as error:
        line = str(error).replace("\n", " ")
        raise ConfigError(f"configuration must be YAML, got {path}: {line}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must be a mapping of options, got {type(values).__name__}")
    fields = set(model.model_fields)
    return dict(_name(str(key), value, fields=fields) for key, value in values.items())


def _name(
    key: str,
    value: Any,  # noqa: ANN401 - straight from the file
    *,
    fields: Collection[str],
) -> tuple[str, Any]:
    """The field that an option of the command line is, and its value."""
    name = key.removeprefix("--").replace("-", "_")
    if name in ("teacher_mean", "teacher_std") and isinstance(value, str):
        value = value.split(",")
    if name in fields:
        return name, value
    if f"{name}_s" in fields:
        return f"{name}_s", value
    if name == "lr":
        return "learning_rate", value
    positive = name.removeprefix("no_")
    if name != positive and positive in fields and isinstance(value, bool):
        return positive, not value
    return name, value


def build_config(
    file: Path | None = None,
    *,
    flags: Mapping[str, object] | None = None,
    command: Command = "search",
) -> Config:
    """One validated configuration out of a file and flags; flags win.

    Args:
        file: A YAML file of options, or none.
        flags: Options given otherwise; a value of none means that it was not given.
        command: Whose help an error sends one to, if it has the option.

    Returns:
        The configuration.
    """
    return _build(Config, file=file, flags=flags, command=command)


def build_tower_config(
    file: Path | None = None, *, flags: Mapping[str, object] | None = None
) -> TowerConfig:
    """The same for `autokd distill-clip`.

    Args:
        file: As for `build_config`.
        flags: Likewise.

    Returns:
        The configuration.
    """
    return _build(TowerConfig, file=file, flags=flags, command="distill-clip")


def _build(
    model: type[_Model], *, file: Path | None, flags: Mapping[str, object] | None, command: str
) -> _Model:
    """A configuration of a command.

    Args:
        model: Its options.
        file: A YAML file of them, or none.
        flags: Those given otherwise.
        command: Its name.

    Returns:
        The configuration.

    Raises:
        ConfigError: Something is wrong; the message holds one line per fault.
    """
    values = load_config_file(file, model=model) if file is not None else {}
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    if "fix" in given and isinstance(values.get("fix"), dict):
        given["fix"] = {**values["fix"], **dict(given["fix"])}  # type: ignore[call-overload]
    try:
        return model.model_validate({**values, **given})
    except ValidationError as error:
        lines = [
            _fault(fault, file=file, flags=given, model=model, command=command)
            for fault in error.errors()
        ]
        raise ConfigError("\n".join(lines)) from error


def _fault(
    fault: Any,  # noqa: ANN401 - one of pydantic's
    *,
    file: Path | None,
    flags: Mapping[str, object],
    model: type[BaseModel],
    command: str,
) -> str:
    """One line for one of pydantic's faults."""
    rule = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if not fault["loc"]:  # of several options together, which names them itself
        return rule
    name = str(fault["loc"][0])
    see = f"see `autokd {find_command(name, command=command)} --help`"
    where = "" if file is None or name in flags else f"{file}: "
    shown = f"--{name.replace('_', '-').removesuffix('-s')}" if name in flags else name
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, list(model.model_fields), n=1)
        remedy = f"did you mean `{near[0]}`?" if near else see
        return f"{where}`{shown}` must be an option of autokd; {remedy}"
    if fault["type"] == "string_pattern_mismatch":
        rule = f"text that matches {fault['ctx']['pattern']}"
    if fault["type"] == "string_too_short":
        rule = "no empty text"
    rule = rule if rule.startswith("must ") else f"must be {rule}"
    remedy = fault.get("ctx", {}).get("remedy", see)
    return f"{where}`{shown}` {rule}, got {fault['input']!r}; {remedy}"
