"""File and flags become one frozen, validated `Config`; every fault is reported at once."""

from autokd.config.building import (
    build_config,
    build_tower_config,
    find_cache,
    load_config_file,
)
from autokd.config.commands import OF_DISTILL, OF_SEARCH, check_options
from autokd.config.model import Config
from autokd.config.towers import TowerConfig
from autokd.config.values import parse_duration, redacted
from autokd.config.writing import write_command

__all__ = [
    "OF_DISTILL",
    "OF_SEARCH",
    "Config",
    "TowerConfig",
    "build_config",
    "build_tower_config",
    "check_options",
    "find_cache",
    "load_config_file",
    "parse_duration",
    "redacted",
    "write_command",
]
