"""What a network costs besides time, and what makes two networks the same."""

import hashlib
import math
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from autokd.errors import MeasureError
from autokd.latency.network_file import load_network
from autokd.latency.paths import count_paths
from autokd.types import Footprint, InputShape

__all__ = ["count_macs", "measure_footprint", "network_key"]

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
_NORMALISING = ("Sub", "Div")
_WHOLE = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)


def measure_footprint(student: nn.Module, *, shape: InputShape, model: Path) -> Footprint:
    """Parameters, multiply-accumulates, bytes and paths of a student.

    Args:
        student: Takes pictures of `shape`.
        shape: Channels, height, width.
        model: Its ONNX file.

    Returns:
        The numbers; convolutions and matrix products are what is counted.
    """
    return Footprint(
        n_params=sum(p.numel() for p in student.parameters() if p.requires_grad),
        macs=count_macs(student, shape=shape),
        size_bytes=model.stat().st_size,
        paths=count_paths(model),
    )


def count_macs(student: nn.Module, *, shape: InputShape) -> int:
    """Multiply-accumulates of one picture, of convolutions and matrix products."""
    was_training = student.training
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        student.eval()(torch.zeros(1, *shape))
    student.train(was_training)
    return counter.get_total_flops() // 2


def network_key(model: Path) -> str:
    """A hash of the network in an ONNX file: its nodes, attributes and shapes, not its weights.

    Two samples that freeze to the same network have the same key, however their labels differ;
    so do two that differ only while they are trained, as in a dropout.
    Whole numbers and single values stay in the key, since they can be part of the structure; but
    not those that a quantized network computes with, its weights, biases, scales and zero points,
    nor the mean and the deviation of grey pictures, which are of the data.

    Args:
        model: An ONNX file.

    Returns:
        64 hexadecimal digits; a `MeasureError` says that it is no ONNX file.
    """
    proto = load_network(model)
    digest = hashlib.sha256()
    learnt = _of_scales(proto.graph) | _of_pictures(proto.graph)
    for tensor in proto.graph.initializer:
        digest.update(f"{list(tensor.dims)} {tensor.data_type}".encode())
        is_structure = tensor.data_type in _WHOLE or math.prod(tensor.dims) == 1
        if is_structure and tensor.name not in learnt:
            digest.update(_values_of(tensor, model=model).tobytes())
    for node in proto.graph.node:
        node.ClearField("name")
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
        digest.update(node.SerializeToString(deterministic=True))
    for value in (*proto.graph.input, *proto.graph.output):
        value.ClearField("metadata_props")
        digest.update(value.SerializeToString(deterministic=True))
    return digest.hexdigest()


def _values_of(tensor: TensorProto, *, model: Path) -> np.ndarray:
    """The values of a tensor, wherever they lie.

    Args:
        tensor: Of the network.
        model: Its file.

    Returns:
        Its array.

    Raises:
        MeasureError: They lie in a file that is not there.
    """
    try:
        return numpy_helper.to_array(tensor, base_dir=str(model.parent))
    except (OSError, onnx.checker.ValidationError) as error:
        line = " ".join(str(error).split())
        raise MeasureError(f"{model.name} must have its weights beside it, got {line}") from error


def _of_scales(graph: onnx.GraphProto) -> set[str]:
    """Names of what only quantization and its reverse take."""
    kinds: dict[str, set[bool]] = {}
    for node in graph.node:
        for name in node.input:
            kinds.setdefault(name, set()).add(node.op_type in _QUANTIZERS)
    return {name for name, kind in kinds.items() if kind == {True}}


def _of_pictures(graph: onnx.GraphProto) -> set[str]:
    """Names of what the pictures are normalised by, before anything else is done to them."""
    pictures = {value.name for value in graph.input}
    names: set[str] = set()
    for node in graph.node:
        if node.op_type in _NORMALISING and node.input[0] in pictures:
            names.add(node.input[1])
            pictures.update(node.output)
    return names
