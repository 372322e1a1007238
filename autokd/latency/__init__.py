"""Time measured honestly on a target, before a student is trained."""

from autokd.latency.cached import CachedTarget
from autokd.latency.command_target import CommandTarget
from autokd.latency.comparison import Comparison, compare_latencies
from autokd.latency.device import (
    describe_device,
    device_fingerprint,
    library_versions,
)
from autokd.latency.footprint import count_macs, measure_footprint, network_key
from autokd.latency.network_file import input_sides, load_network, tell_apart
from autokd.latency.opening import COMMAND, TargetOptions, open_target
from autokd.latency.paths import PATH_COUNTS, count_paths
from autokd.latency.reference import read_references, write_references
from autokd.latency.runtimes import find_missing, runtime_version
from autokd.latency.stopwatch.rounds import Form
from autokd.latency.stopwatch_target import COMPARING, FINAL, SCREENING, StopwatchTarget
from autokd.latency.strict_target import StrictTarget
from autokd.latency.table_target import ARCHITECTURE_SUFFIX, TableTarget, load_table

__all__ = [
    "ARCHITECTURE_SUFFIX",
    "COMMAND",
    "COMPARING",
    "FINAL",
    "PATH_COUNTS",
    "SCREENING",
    "CachedTarget",
    "CommandTarget",
    "Comparison",
    "Form",
    "StopwatchTarget",
    "StrictTarget",
    "TableTarget",
    "TargetOptions",
    "compare_latencies",
    "count_macs",
    "count_paths",
    "describe_device",
    "device_fingerprint",
    "find_missing",
    "input_sides",
    "library_versions",
    "load_network",
    "load_table",
    "measure_footprint",
    "network_key",
    "open_target",
    "read_references",
    "runtime_version",
    "tell_apart",
    "write_references",
]
