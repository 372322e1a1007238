"""A network as a graph of single operations, its BatchNorms folded into its convolutions.

Whatever Python a student's forward pass is written in, `torch.export` sees the operations; they
can be told apart, moved and replaced, which modules cannot.

References:
    Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", 2018, section 3.2 (folding).
    https://arxiv.org/abs/1712.05877
"""

import copy
import operator
import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from autokd.errors import BuildError

__all__ = ["CONVOLUTIONS", "capture_network", "keep_sizes", "layer_name", "read_value"]

_aten = torch.ops.aten
CONVOLUTIONS = frozenset({_aten.conv2d.default, _aten.conv2d.padding})
"""Operations that are convolutions of pictures."""

_VIEWS = frozenset({
    _aten.view.default, _aten.slice.Tensor, _aten.select.int, _aten.permute.default,
    _aten.transpose.int, _aten.unsqueeze.default, _aten.squeeze.dim, _aten.expand.default,
    _aten.flatten.using_ints, _aten.chunk.default, _aten.split.Tensor, _aten.detach.default,
})  # fmt: skip


def capture_network(
    network: nn.Module, example: Float[Tensor, "batch channels height width"]
) -> fx.GraphModule:
    """The network in evaluation mode, for batches of any size, as a graph that can be trained.

    A BatchNorm that follows a convolution is folded into it; any other stays, with the statistics
    that it has. Nothing is dropped out.

    Args:
        network: Takes pictures, gives logits; it is not changed.
        example: Two pictures at least.

    Returns:
        The graph; its parameters are copies.

    Raises:
        BuildError: `torch.export` does not understand the network, or it writes into a part
            of a tensor.
    """
    network = copy.deepcopy(network).cpu().eval().requires_grad_()
    batch = {0: torch.export.Dim("batch", min=1)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own use of what it deprecates
            program = torch.export.export(network, (example,), dynamic_shapes=(batch,))
            module: Any = program.module(check_guards=False)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BuildError(
            f"student must be traceable by torch.export to be quantized, got {reason}"
        ) from error
    graph: fx.Graph = module.graph
    for node in list(graph.nodes):
        _simplify(node)
    for node in list(graph.nodes):
        if node.target is _aten.batch_norm.default:
            _fold(module, node)
    graph.eliminate_dead_code()
    return fx.GraphModule(module, graph)


def keep_sizes(graph: fx.Graph) -> None:
    """Calls operations that take the size of a batch as methods of their tensor.

    As they are, the tracer of ONNX would take the size that it sees for a constant.

    Args:
        graph: As it was captured; changed in place.
    """
    for node in graph.nodes:
        name, _ = _operation(node)
        sizes = (one.meta.get("val") for one in node.all_input_nodes)
        if hasattr(Tensor, name) and any(isinstance(size, torch.SymInt) for size in sizes):
            node.op, node.target = "call_method", name


def layer_name(node: fx.Node) -> str:
    """The module that an operation belongs to, for messages.

    Args:
        node: Of a captured graph.

    Returns:
        Its path and the operation.
    """
    stack = list(node.meta.get("nn_module_stack", {}).values())
    path = stack[-1][0].removeprefix("L['self'].") if stack else ""
    return f"{path or 'the network'} ({node.name})"


def read_value(module: nn.Module, node: object) -> Tensor | None:
    """The parameter or buffer that a node stands for.

    Args:
        module: The graph's own.
        node: An argument of an operation.

    Returns:
        The tensor; none where the node is not a fixed one.
    """
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    return operator.attrgetter(str(node.target))(module)


def _simplify(node: fx.Node) -> None:
    """Writes an operation in the form that the rest of the room expects."""
    if node.target is _aten.dropout.default or node.target is _aten.dropout_.default:
        node.replace_all_uses_with(node.all_input_nodes[0])
        node.graph.erase_node(node)
    elif node.target is _aten.sym_size.int:
        node.target = _size  # the tracer of ONNX would take the operation's answer for a constant
    elif _operation(node)[0].endswith("_"):
        _replace_in_place(node)


def _size(tensor: Tensor, dim: int) -> Any:  # noqa: ANN401 - a tensor while it is traced
    return tensor.shape[dim]


def _operation(node: fx.Node) -> tuple[str, str]:
    """Name and overload of an operation of torch, such as `add_` and `Tensor`; empty of others."""
    if not isinstance(node.target, type(_aten.relu.default)):
        return "", ""
    target: Any = node.target
    name, _, overload = target.name().rpartition("::")[2].partition(".")
    return name, overload or "default"


def _replace_in_place(node: fx.Node) -> None:
    """The operation that writes elsewhere; whoever read the old place later reads the new one.

    Raises:
        BuildError: The place is a part of another tensor, or there is no such operation.
    """
    place, (name, variant) = node.args[0], _operation(node)
    overload = getattr(getattr(_aten, name.removesuffix("_"), None), variant, None)
    if not isinstance(place, fx.Node) or place.target in _VIEWS or overload is None:
        raise BuildError(
            f"student must not write into a part of a tensor to be quantized, got "
            f"{layer_name(node)}"
        )
    node.target = overload
    order = {one: index for index, one in enumerate(node.graph.nodes)}
    for user in list(place.users):
        if order[user] > order[node]:
            user.replace_input_with(place, node)


@torch.no_grad()
def _fold(module: nn.Module, node: fx.Node) -> None:
    """Folds a BatchNorm into the convolution before it, if there is one that nobody else reads."""
    source: Any = node.args[0]
    if source.target not in CONVOLUTIONS or len(source.users) > 1:
        return
    weight = read_value(module, source.args[1])
    bias = read_value(module, source.args[2]) if len(source.args) > 2 else None
    gamma, beta, mean, variance = (read_value(module, one) for one in node.args[1:5])
    if weight is None or mean is None or variance is None:
        return
    epsilon: Any = node.args[7]
    factor = (variance + epsilon).rsqrt() * (1.0 if gamma is None else gamma)
    shift = (0.0 if bias is None else bias) - mean
    folded = shift * factor + (0.0 if beta is None else beta)
    name = source.name
    module.register_parameter(f"{name}_weight", nn.Parameter(weight * factor.view(-1, 1, 1, 1)))
    module.register_parameter(f"{name}_bias", nn.Parameter(folded))
    with node.graph.inserting_before(source):
        new = [node.graph.get_attr(f"{name}_{part}") for part in ("weight", "bias")]
    source.args = (source.args[0], *new, *source.args[3:])
    node.replace_all_uses_with(source)
    node.graph.erase_node(node)
