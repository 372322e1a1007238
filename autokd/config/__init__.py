"""File and flags become one frozen, validated `Config`; every fault is reported at once."""

from autokd.config.building import (
    build_config,
    build_tower_config,
    find_cache,
    load_config_file,
)
from autokd.config.commands import DEFAULTS, STRANGE, check_options, check_student
from autokd.config.model import Config
from autokd.config.towers import TowerConfig
from autokd.config.values import parse_duration, redacted
from autokd.config.writing import write_command

__all__ = [
    "DEFAULTS",
    "STRANGE",
    "Config",
    "TowerConfig",
    "build_config",
    "build_tower_config",
    "check_options",
    "check_student",
    "find_cache",
    "load_config_file",
    "parse_duration",
    "redacted",
    "write_command",
]
