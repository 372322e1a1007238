"""File and flags become one `Config`; every fault is reported at once."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs
import yaml
from pydantic import ValidationError

from autokd.config.model import Config
from autokd.errors import ConfigError

__all__ = ["build_config", "find_cache", "load_config_file"]


def find_cache() -> Path:
    """The folder of what can be made again: pictures, teachers, what they know.

    Returns:
        AUTOKD_CACHE, or the user's cache folder.
    """
    return Path(os.environ.get("AUTOKD_CACHE") or platformdirs.user_cache_dir("autokd"))


def load_config_file(path: Path) -> dict[str, Any]:
    """The options of a YAML file.

    Args:
        path: A mapping of option to value; options as on the command line, with `-` or `_`; an
            option without a value there is true or false here.

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
    return dict(_name(str(key), value) for key, value in values.items())


def _name(key: str, value: Any) -> tuple[str, Any]:  # noqa: ANN401 - straight from the file
    """The field that an option of the command line is, and its value."""
    name = key.removeprefix("--").replace("-", "_")
    if name in ("teacher_mean", "teacher_std") and isinstance(value, str):
        value = value.split(",")
    if name in Config.model_fields:
        return name, value
    if f"{name}_s" in Config.model_fields:
        return f"{name}_s", value
    if name == "lr":
        return "learning_rate", value
    positive = name.removeprefix("no_")
    if name != positive and positive in Config.model_fields and isinstance(value, bool):
        return positive, not value
    return name, value


def build_config(file: Path | None = None, *, flags: Mapping[str, object] | None = None) -> Config:
    """One validated configuration out of a file and flags; flags win.

    Args:
        file: A YAML file of options, or none.
        flags: Options given otherwise; a value of none means that it was not given.

    Returns:
        The configuration.

    Raises:
        ConfigError: Something is wrong; the message holds one line per fault.
    """
    values = load_config_file(file) if file is not None else {}
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    if "fix" in given and isinstance(values.get("fix"), dict):
        given["fix"] = {**values["fix"], **dict(given["fix"])}  # type: ignore[call-overload]
    try:
        return Config.model_validate({**values, **given})
    except ValidationError as error:
        lines = [_fault(fault, file=file, flags=given) for fault in error.errors()]
        raise ConfigError("\n".join(lines)) from error


def _fault(fault: Any, *, file: Path | None, flags: Mapping[str, object]) -> str:  # noqa: ANN401
    """One line for one of pydantic's faults."""
    name = str(fault["loc"][0]) if fault["loc"] else "configuration"
    where = "" if file is None or name in flags else f"{file}: "
    shown = f"--{name.replace('_', '-').removesuffix('-s')}" if name in flags else name
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, list(Config.model_fields), n=1)
        remedy = f"did you mean `{near[0]}`?" if near else "see `autokd search --help`"
        return f"{where}`{shown}` must be an option of autokd; {remedy}"
    rule = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if fault["type"] == "string_pattern_mismatch":
        rule = f"text that matches {fault['ctx']['pattern']}"
    if fault["type"] == "string_too_short":
        rule = "no empty text"
    rule = rule if rule.startswith("must ") else f"must be {rule}"
    remedy = fault.get("ctx", {}).get("remedy", "see `autokd search --help`")
    return f"{where}`{shown}` {rule}, got {fault['input']!r}; {remedy}"
