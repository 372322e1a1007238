"""Reading an ONNX file, or saying that it is none."""

from collections.abc import Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from autokd.errors import MeasureError

__all__ = ["input_sides", "is_quantized", "load_network", "tell_apart"]


def load_network(model: Path) -> onnx.ModelProto:
    """The network in an ONNX file, without the weights that lie in files of their own.

    Args:
        model: The file.

    Returns:
        What it holds.

    Raises:
        MeasureError: It is no ONNX file.
    """
    try:
        proto = onnx.load(model, format="protobuf", load_external_data=False)
    except (OSError, DecodeError) as error:
        raise MeasureError(f"{model.name} must be an ONNX file, got {error}") from error
    if not proto.graph.output:
        raise MeasureError(f"{model.name} must be an ONNX file, got one without a network")
    return proto


def is_quantized(network: onnx.ModelProto) -> bool:
    """Whether it computes with whole numbers between scales."""
    return any(node.op_type == "DequantizeLinear" for node in network.graph.node)


def input_sides(network: onnx.ModelProto) -> list[tuple[int | None, ...]]:
    """The shape of each input, weights that are told as inputs aside.

    Args:
        network: As it was read.

    Returns:
        Of each input its sides, the batch first; none for one that is left open.
    """
    weights = {one.name for one in network.graph.initializer}
    return [
        tuple(side.dim_value or None for side in one.type.tensor_type.shape.dim)
        for one in network.graph.input
        if one.name not in weights
    ]


def tell_apart(models: Sequence[Path]) -> list[str]:
    """Names of files, or their paths where names are equal, as those of exported students are."""
    names = [model.name for model in models]
    return names if len(set(names)) == len(names) else [str(model) for model in models]
