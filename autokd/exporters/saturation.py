"""Whether the runtime computes exactly with eight bits on this processor."""

import functools

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

__all__ = ["safe_weight_bits"]


@functools.cache
def safe_weight_bits() -> int:
    """How many bits of a weight onnxruntime computes with exactly on this processor.

    Without VNNI, x86 adds two products of 8 x 8 bits in 16 bits, which overflow where both
    weights and both inputs are large; tried out on a sum of such products.

    Returns:
        8, or 7 where it overflows.
    """
    n_channels = 64
    largest = np.full((n_channels, n_channels, 1, 1), 127, np.int8)
    ones = np.ones(n_channels, np.float32)
    values = {
        "scale": np.float32(1),
        "zero": np.uint8(0),
        "weight": largest,
        "weight_scale": ones,
        "weight_zero": np.zeros(n_channels, np.int8),
        "wide": np.float32(n_channels * 127),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["maps", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node(
            "DequantizeLinear", ["weight", "weight_scale", "weight_zero"], ["w"], axis=0
        ),
        helper.make_node("Conv", ["d", "w"], ["y"]),
        helper.make_node("QuantizeLinear", ["y", "wide", "zero"], ["r"]),
        helper.make_node("DequantizeLinear", ["r", "wide", "zero"], ["sums"]),
    ]
    shape = [1, n_channels, 8, 8]
    graph = helper.make_graph(
        nodes,
        "overflow",
        [helper.make_tensor_value_info("maps", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("sums", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (sums,) = session.run(None, {"maps": np.full(shape, 255, np.float32)})
    return 8 if np.allclose(np.asarray(sums), n_channels * 127 * 255) else 7
