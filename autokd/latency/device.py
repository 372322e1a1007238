"""What the device is, so that no latency is mistaken for another device's."""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = [
    "accelerator_name",
    "describe_device",
    "device_fingerprint",
    "library_versions",
]

_ON_A_GPU = ("onnxruntime:cuda", "onnxruntime:tensorrt")
_COMPUTING = frozenset(
    {"sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512vl",
     "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"}
)  # fmt: skip
"""Flags of a processor that kernels are chosen by; others come and go with Linux and microcode."""
_ARM = ("CPU implementer", "CPU architecture", "CPU variant", "CPU part")
_APPLE = ("sysctl", "-n", "machdep.cpu.brand_string")
_LIBRARIES = (
    "autokd", "torch", "torchvision", "onnxruntime", "onnx", "nni", "timm", "optuna", "mlflow",
)  # fmt: skip


@functools.cache
def device_fingerprint() -> str:
    """Processor, cores and system, with a short hash of them and what it computes with."""
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    parts = [line.partition(":") for line in lines]
    pairs = [(key.strip(), value.strip()) for key, _, value in parts]
    facts = dict(pairs)
    model = facts.get("model name") or _name_arm(pairs) or _ask(_APPLE)
    model = model or platform.processor() or platform.machine()
    n_cores = os.cpu_count()
    name = f"{model} x{n_cores}, {platform.system()} {platform.machine()}"
    flags = " ".join(sorted(_COMPUTING.intersection(facts.get("flags", "").split())))
    computing = facts.get("Features") or flags
    return f"{name} [{hashlib.sha256(f'{name} {computing}'.encode()).hexdigest()[:10]}]"


def _name_arm(facts: Sequence[tuple[str, str]]) -> str:
    """What Linux tells of an ARM processor, which has no name: the board, and each kind of core."""
    numbers: list[list[str]] = [[] for _ in _ARM]
    for key, value in facts:
        if key in _ARM:
            numbers[_ARM.index(key)].append(value)
    kinds = sorted({"/".join(core) for core in zip(*numbers, strict=False)})
    board = dict(facts).get("Model", "")
    return " ".join([board, f"ARM {'+'.join(kinds)}"]).strip() if kinds else ""


def _ask(command: Sequence[str]) -> str:
    """The first line that a program prints; nothing where there is no such program."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return next(iter(answer.stdout.splitlines()), "").strip()


@functools.cache
def accelerator_name() -> str:
    """Name and driver of the GPU that the stopwatch takes.

    Returns:
        Those of the first one that CUDA_VISIBLE_DEVICES leaves, in the order of the bus (the
        stopwatch is told CUDA_DEVICE_ORDER=PCI_BUS_ID, since CUDA by itself takes what it holds
        for the fastest one); `no GPU` where there is none.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    query = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    return _ask([*query, "-i", visible]) or _ask(query) or "no GPU"  # the latter for parts of one


def describe_device(runtime: str) -> str:
    """What runs networks here: the processor, and the GPU before it where a runtime uses that."""
    if runtime in _ON_A_GPU:
        return f"{accelerator_name()}, {device_fingerprint()}"
    return device_fingerprint()


@functools.cache
def library_versions() -> dict[str, str]:
    """Name to version of those installed libraries that a number may depend on."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
