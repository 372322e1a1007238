"""Writing a student that was trained to be quantized, so that a runtime finds its integers.

The tracer writes what the fake quantization does to the weights at each step; here that is done
once and for all: integers are stored in place of weights and biases, in the form of pairs of
QuantizeLinear and DequantizeLinear around each operation that onnxruntime has an integer kernel
for, which it then puts in their place.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import nn

from autokd.errors import ExportError
from autokd.exporters.onnx_file import export_onnx
from autokd.types import InputShape

__all__ = ["export_quantized"]

_BIASED = ("Conv", "Gemm")
_OUTPUT_AXES = {"Conv": 0, "Gemm": 0, "MatMul": 1}
_INT32 = 2**31 - 1


def export_quantized(
    network: nn.Module,
    path: Path,
    *,
    shape: InputShape,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Writes a network with fake quantization as ONNX with integers for its weights.

    Args:
        network: Takes pictures in [0, 1], gives logits; a `QuantizedStudent` that is settled.
        path: The file to write; input and output as of `export_onnx`.
        shape: Channels, height, width.
        metadata: Kept in the file.

    Returns:
        The file.

    Raises:
        ExportError: Nothing in the network is quantized.
    """
    export_onnx(network, path, shape=shape, metadata=metadata)
    model = onnx.load(path)
    graph = _Graph(model)
    for node in list(model.graph.node):
        if node.op_type == "QuantizeLinear" and node.input[0] in graph.values:
            graph.store_weight(node)
    for node in list(model.graph.node):
        if node.op_type in _BIASED:
            graph.store_bias(node)
    if not graph.n_weights:
        raise ExportError("student must have quantized layers to be written as INT8, got none")
    graph.drop_unused()
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@final
class _Graph:
    """A model whose weights are being replaced."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Reads what is fixed.

        Args:
            model: Changed in place.
        """
        self.n_weights = 0
        self._graph = model.graph
        self.values: dict[str, Any] = {
            one.name: numpy_helper.to_array(one) for one in model.graph.initializer
        }
        for node in model.graph.node:
            if node.op_type == "Constant":
                self.values[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            elif node.op_type == "Identity" and node.input[0] in self.values:
                self.values[node.output[0]] = self.values[node.input[0]]  # equal ones are one
        self._makers = {name: node for node in model.graph.node for name in node.output}

    def store_weight(self, node: onnx.NodeProto) -> None:
        """Rounds a weight, and turns it round where the tracer multiplies by its transpose.

        Args:
            node: The QuantizeLinear that the weight goes through.
        """
        weight, scale, zero = (self.values[name] for name in node.input)
        axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
        wide = [-1 if dim == axis else 1 for dim in range(weight.ndim)]
        wide = wide if scale.ndim else []
        rounded = np.rint(weight / scale.reshape(wide)) + zero.reshape(wide)
        info = np.iinfo(zero.dtype)
        integers = rounded.clip(info.min, info.max).astype(zero.dtype)
        (reader,) = self._readers(node.output[0])
        turned = self._readers(reader.output[0])
        if [one.op_type for one in turned] == ["Transpose"] and integers.ndim == 2:
            integers, axis = np.ascontiguousarray(integers.T), 1 - axis
            self._redirect(turned[0].output[0], reader.output[0])
            self._graph.node.remove(turned[0])
        name = f"{node.output[0]}_int8"
        self._store(name, integers)
        reader.input[0] = name
        for one in reader.attribute:
            if one.name == "axis":
                one.i = axis
        self._graph.node.remove(node)
        self.n_weights += 1

    def store_bias(self, node: onnx.NodeProto) -> None:
        """Rounds the bias of an operation whose input and weight are rounded.

        Args:
            node: Of a kind that has a bias.
        """
        makers = [self._makers.get(name) for name in node.input]
        is_ready = len(makers) == 3 and node.input[2] in self.values
        if not is_ready or any(
            one is None or one.op_type != "DequantizeLinear" for one in makers[:2]
        ):
            return
        scales = [self.values[one.input[1]] for one in makers[:2] if one is not None]
        scale = (scales[0] * scales[1]).astype(np.float32)
        bias = self.values[node.input[2]]
        integers = np.rint(bias / scale).clip(-_INT32, _INT32).astype(np.int32)
        names = [f"{node.output[0]}_bias_{part}" for part in ("int32", "scale", "zero")]
        self._store(names[0], integers)
        self._store(names[1], scale)
        self._store(names[2], np.zeros_like(integers))
        reader = helper.make_node("DequantizeLinear", names, [f"{names[0]}_float"])
        if scale.ndim:
            reader.attribute.append(helper.make_attribute("axis", 0))
        self._graph.node.insert(list(self._graph.node).index(node), reader)
        node.input[2] = reader.output[0]

    def drop_unused(self) -> None:
        """Removes fixed values that nothing reads any more."""
        read = {name for node in self._graph.node for name in node.input}
        for node in [one for one in self._graph.node if one.op_type in ("Constant", "Identity")]:
            if node.output[0] in self.values and node.output[0] not in read:
                self._graph.node.remove(node)
        read = {name for node in self._graph.node for name in node.input}
        for one in [one for one in self._graph.initializer if one.name not in read]:
            self._graph.initializer.remove(one)

    def _readers(self, name: str) -> list[onnx.NodeProto]:
        return [node for node in self._graph.node if name in node.input]

    def _redirect(self, old: str, new: str) -> None:
        for node in self._readers(old):
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new

    def _store(self, name: str, value: Any) -> None:  # noqa: ANN401 - an array of any kind
        self._graph.initializer.append(numpy_helper.from_array(value, name))
