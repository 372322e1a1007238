"""What the device is, so that no latency is mistaken for another device's."""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
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
_LIBRARIES = (
    "autokd", "torch", "torchvision", "onnxruntime", "onnx", "nni", "timm", "optuna", "mlflow",
)  # fmt: skip


@functools.cache
def device_fingerprint() -> str:
    """Processor, cores and system, with a short hash of them and what it computes with."""
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    facts = {
        line.split(":")[0].strip(): line.split(":")[-1].strip() for line in lines if ":" in line
    }
    model = facts.get("model name") or platform.processor() or platform.machine()
    n_cores = os.cpu_count()
    name = f"{model} x{n_cores}, {platform.system()} {platform.machine()}"
    flags = " ".join(sorted(_COMPUTING.intersection(facts.get("flags", "").split())))
    return f"{name} [{hashlib.sha256(f'{name} {flags}'.encode()).hexdigest()[:10]}]"


@functools.cache
def accelerator_name() -> str:
    """Name and driver of the GPU that CUDA takes first; `no GPU` where there is none."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "no GPU"
    return next(iter(answer.stdout.splitlines()), "no GPU").strip()


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
