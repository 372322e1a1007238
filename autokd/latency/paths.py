"""What the graph of a network looks like: counts of its layers, and along its paths."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx

from autokd.latency.network_file import load_network

__all__ = ["PATH_COUNTS", "count_paths"]

PATH_COUNTS = (
    "pointwise convolutions",
    "depthwise convolutions",
    "other convolutions",
    "matrix products",
    "poolings",
    "sums",
    "layers with weights on the longest path",
    "layers with weights on the shortest path",
    "layers with weights on a path, in the mean",
    "logarithm of the number of paths",
)
"""What each number of `count_paths` is."""

_PRODUCTS = ("Gemm", "MatMul")
_POOLS = ("AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean")
_MOST_PATHS = 1e300


def count_paths(model: Path) -> tuple[float, ...]:
    """Counts that say much of what a network can learn, before it is trained.

    Args:
        model: An ONNX file; paths lead from its inputs to its first output.

    Returns:
        One number for each name in `PATH_COUNTS`; a `MeasureError` says that it is no ONNX file.

    References:
        White, Nolen & Savani, "Exploring the Loss Landscape in Neural Architecture Search", 2021,
        and White et al., "A Study on Encodings for Neural Architecture Search", 2020 (paths tell
        more than edges). https://arxiv.org/abs/2007.04965
    """
    graph = load_network(model).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    kinds = [_kind(node, shapes) for node in graph.node]
    counts = [float(kinds.count(kind)) for kind in range(6)]
    # Of each tensor: layers on its longest and shortest path, on all of them together, paths.
    known: dict[str, tuple[float, float, float, float]] = {
        value.name: (0.0, 0.0, 0.0, 1.0) for value in graph.input if value.name not in shapes
    }
    for node, kind in zip(graph.node, kinds, strict=True):
        above = [known[name] for name in node.input if name in known]
        if not above:
            continue
        weight = 1.0 if kind in range(4) else 0.0
        n_paths = min(sum(one[3] for one in above), _MOST_PATHS)
        total = min(sum(one[2] for one in above) + weight * n_paths, _MOST_PATHS)
        longest, shortest = max(one[0] for one in above), min(one[1] for one in above)
        for name in node.output:
            known[name] = (longest + weight, shortest + weight, total, n_paths)
    longest, shortest, total, n_paths = known.get(graph.output[0].name, (0.0, 0.0, 0.0, 1.0))
    return (*counts, longest, shortest, total / n_paths, math.log(n_paths))


def _kind(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Which of the first six counts a node belongs to; -1 for none."""
    if node.op_type == "Conv":
        return _kind_of_convolution(node, shapes)
    tests: tuple[tuple[int, Callable[[], bool]], ...] = (
        (3, lambda: node.op_type in _PRODUCTS),
        (4, lambda: node.op_type in _POOLS),
        # A bias that is added is no sum of two paths.
        (5, lambda: node.op_type == "Add" and not any(name in shapes for name in node.input)),
    )
    return next((kind for kind, is_it in tests if is_it()), -1)


def _kind_of_convolution(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    groups = next((one.i for one in node.attribute if one.name == "group"), 1)
    shape = shapes.get(node.input[1], ())
    if groups > 1 and shape and groups == shape[0]:
        return 1
    is_point = bool(shape) and all(side == 1 for side in shape[2:]) and groups == 1
    return 0 if is_point else 2
