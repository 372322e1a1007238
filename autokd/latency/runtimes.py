"""Which runtimes are there, and what to install for those that are not."""

import importlib.metadata
import importlib.util
import shutil
from collections.abc import Sequence

from autokd.errors import ConfigError
from autokd.latency.stopwatch.runners import RUNTIMES
from autokd.types import ONNXRUNTIMES

__all__ = ["check_runtime", "check_runtime_name", "find_missing", "runtime_version"]

_PACKAGES = {
    "onnxruntime": ONNXRUNTIMES,
    "openvino": ("openvino",),
    "torch": ("torch",),
    "tflite": ("ai-edge-litert",),
}
_CONVERTERS = {
    "tflite": (("onnx2tf",), ("tensorflow",)),
    "onnxruntime:tensorrt": (("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),),
}
"""What makes what is timed of the ONNX file; each by the packages that it may be in."""
_PROVIDERS = {
    "onnxruntime:cuda": ("CUDAExecutionProvider", "onnxruntime-gpu"),
    "onnxruntime:tensorrt": ("TensorrtExecutionProvider", "onnxruntime-gpu and tensorrt"),
    "onnxruntime:openvino": ("OpenVINOExecutionProvider", "onnxruntime-openvino"),
}
_MODULES = {
    "openvino": (("openvino",), "autokd[openvino]"),
    "tflite": (
        ("ai_edge_litert", "onnx2tf", "tensorflow"),
        "ai-edge-litert, onnx2tf and tensorflow",
    ),
}


def runtime_version(runtime: str) -> str:
    """The version of what runs it, and of what makes its files; empty if not here, or unknown."""
    name = runtime.split(":", maxsplit=1)[0]
    own = _find_version(_PACKAGES.get(name, ()))
    if not own:
        return ""
    made_by = [(one[0], _find_version(one)) for one in _CONVERTERS.get(runtime, ())]
    return " ".join([own, *(f"{package} {version}" for package, version in made_by if version)])


def _find_version(packages: Sequence[str]) -> str:
    """That of the first one which is installed; empty if none is."""
    for package in packages:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def check_runtime_name(runtime: str) -> None:
    """Whether a runtime can be used anywhere.

    Args:
        runtime: As `--target` names it.

    Raises:
        ConfigError: There is no such runtime.
    """
    if runtime not in RUNTIMES:
        raise ConfigError(
            f"`--target` must be one of {', '.join(RUNTIMES)} or command:PROGRAM, got {runtime}"
        )


def check_runtime(runtime: str) -> None:
    """Whether a runtime can be used here.

    Args:
        runtime: As `--target` names it.

    Raises:
        ConfigError: It is not installed.
    """
    check_runtime_name(runtime)
    if remedy := find_missing(runtime):
        raise ConfigError(
            f"`--target` must be a runtime that is installed, got {runtime}; install {remedy}"
        )


def find_missing(runtime: str) -> str:
    """What to install for a runtime to be used here; empty where nothing is missing."""
    if runtime in _PROVIDERS:
        import onnxruntime

        provider, package = _PROVIDERS[runtime]
        return "" if provider in onnxruntime.get_available_providers() else package
    if runtime == "torch:compiled":
        return "" if shutil.which("g++") or shutil.which("clang++") else "a C++ compiler"
    modules, package = _MODULES.get(runtime, ((), ""))
    is_missing = any(importlib.util.find_spec(module) is None for module in modules)
    return package if is_missing else ""
