"""Time measured honestly on a target, before a student is trained."""

from autokd.latency.cached import CachedTarget
from autokd.latency.device import device_fingerprint, library_versions
from autokd.latency.footprint import count_macs, measure_footprint, network_key
from autokd.latency.onnxruntime_target import OnnxRuntimeTarget
from autokd.latency.paths import PATH_COUNTS, count_paths

__all__ = [
    "PATH_COUNTS",
    "CachedTarget",
    "OnnxRuntimeTarget",
    "count_macs",
    "count_paths",
    "device_fingerprint",
    "library_versions",
    "measure_footprint",
    "network_key",
]
