"""Time measured honestly on a target, before a student is trained."""

from autokd.latency.cached import CachedTarget
from autokd.latency.device import device_fingerprint, library_versions
from autokd.latency.footprint import count_macs, measure_footprint, network_key
from autokd.latency.onnxruntime_target import OnnxRuntimeTarget

__all__ = [
    "CachedTarget",
    "OnnxRuntimeTarget",
    "count_macs",
    "device_fingerprint",
    "library_versions",
    "measure_footprint",
    "network_key",
]
