"""The network whose time tells how fast a machine is just now, and its time on a quiet one."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from filelock import FileLock
from onnx import TensorProto, helper, numpy_helper

from autokd.config import find_cache
from autokd.errors import ConfigError
from autokd.latency.device import device_fingerprint
from autokd.types import is_same_device

__all__ = ["read_references", "recall_quiet_ms", "write_reference", "write_references"]

_VERSION = 1  # of the network; another one has another time
_SIDE = 32
_PREFIX = "reference-"


def recall_quiet_ms(measure: Callable[[], float], *, home: Path | None = None) -> float:
    """The reference's undisturbed time on this device, measured once and kept.

    It must not change while studies go on, since all latencies are scaled by it: what lies beside
    their latencies outlives the cache.

    Args:
        measure: Called where it is not known yet.
        home: A folder that knows it, or shall, before the cache; the cache alone if none.

    Returns:
        Milliseconds that were measured first on this device, with this version of the runtime.

    Raises:
        ConfigError: The cache cannot be written to.
    """
    known = f"{device_fingerprint()} onnxruntime {onnxruntime.__version__} reference {_VERSION}"
    name = f"{_PREFIX}{hashlib.sha256(known.encode()).hexdigest()[:16]}.json"
    cache = find_cache() / "latency"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = FileLock((cache / name).with_suffix(".lock")).acquire()
    except OSError as error:
        raise ConfigError(
            f"AUTOKD_CACHE must be a folder that can be written to, got {cache}: {error}"
        ) from error
    with lock:
        folders = [cache] if home is None else [home, cache]
        found = [_recall(folder, name, known=known) for folder in folders]
        quiet = next((ms for ms in found if ms is not None), None)
        quiet = measure() if quiet is None else quiet
        for folder, ms in zip(folders, found, strict=True):
            if ms is None:
                _write(folder / name, {"ms": quiet, "of": known})
    return quiet


def read_references(home: Path) -> dict[str, bytes]:
    """The quiet times that a folder knows, as files by name.

    Args:
        home: As `recall_quiet_ms` takes it; it need not be there.

    Returns:
        For `write_references` on another machine of the same kind, so that both scale alike.
    """
    return {path.name: path.read_bytes() for path in home.glob(f"{_PREFIX}*.json")}


def write_references(home: Path, files: Mapping[str, bytes]) -> None:
    """Adds quiet times to a folder; those that it knows stay.

    Args:
        home: As `recall_quiet_ms` takes it; made if missing.
        files: What `read_references` gave.
    """
    for name, content in files.items():
        path = home / Path(name).name
        if not path.exists():
            _replace(path, content)


def _recall(folder: Path, name: str, *, known: str) -> float | None:
    """What a folder knows of this device, perhaps by a name that an older version gave it."""
    for path in (folder / name, *sorted(folder.glob(f"{_PREFIX}*.json"))):
        found = _read(path)
        if found is not None and (path.name == name or is_same_device(found[1], known)):
            return found[0]
    return None


def _read(path: Path) -> tuple[float, str] | None:
    """Milliseconds, and of what they are."""
    try:
        values = json.loads(path.read_text())
        return float(values["ms"]), str(values.get("of", ""))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write(path: Path, values: Mapping[str, object]) -> None:
    _replace(path, f"{json.dumps(values)}\n".encode())


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def write_reference(path: Path, *, batch: int | str = 1) -> Path:
    """A small network of what networks are made of, so that what slows one slows the other.

    Convolutions of 3 by 3, pointwise and depthwise ones, and matrix products: under a steady
    load, each kind is slowed by another factor.

    Args:
        path: Of the ONNX file.
        batch: Pictures at once; a name where that is left open.

    Returns:
        The same.
    """
    random = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def add(
        kind: str, shape: tuple[int, ...], how: dict[str, Any], *, has_relu: bool = True
    ) -> None:
        number = len(weights)
        before = nodes[-1].output[0] if nodes else "image"
        values = random.standard_normal(shape).astype(np.float32) / np.prod(shape[1:]) ** 0.5
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"w{number}"))
        nodes.append(helper.make_node(kind, [before, f"w{number}"], [f"h{number}"], **how))
        if has_relu:
            nodes.append(helper.make_node("Relu", [f"h{number}"], [f"r{number}"]))

    around, halved = {"pads": [1, 1, 1, 1]}, {"pads": [1, 1, 1, 1], "strides": [2, 2]}
    add("Conv", (16, 3, 3, 3), halved)
    add("Conv", (16, 16, 3, 3), around)
    add("Conv", (64, 16, 1, 1), {})
    add("Conv", (64, 1, 3, 3), {"group": 64, **halved})
    add("Conv", (32, 64, 1, 1), {}, has_relu=False)
    nodes.append(helper.make_node("Flatten", [nodes[-1].output[0]], ["flat"]))
    add("MatMul", (32 * (_SIDE // 4) ** 2, 64), {})
    add("MatMul", (64, 10), {}, has_relu=False)
    last = nodes[-1].output[0]
    graph = helper.make_graph(
        nodes,
        "reference",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, _SIDE, _SIDE])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [batch, 10])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path
