"""Packages that a file needs wherever it is run, as lines of requirements."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

__all__ = ["ONNXRUNTIMES", "pin_packages"]

ONNXRUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")
"""Distributions of the module `onnxruntime`, of which one is installed."""


def pin_packages(names: Iterable[str]) -> list[str]:
    """Packages with the versions that are installed here.

    Args:
        names: As pip takes them; `onnxruntime` stands for whichever distribution of it is here.

    Returns:
        A line for each, without a version where it is not installed.
    """
    return [_pin(*(ONNXRUNTIMES if name == "onnxruntime" else (name,))) for name in names]


def _pin(*names: str) -> str:
    """The first that is installed."""
    for name in names:
        try:
            return f"{name}=={version(name)}"
        except PackageNotFoundError:
            continue
    return names[0]
