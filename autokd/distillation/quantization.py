"""A student that is trained to be quantized: where numbers are rounded, and from when on.

Rounded is what the integer kernels of a runtime take and give: the weights, inputs and outputs of
convolutions, the inputs of linear layers, both sides of additions, products and concatenations of
feature maps, and what is pooled. Everything else (activation functions other than ReLU, softmax,
LayerNorm, additions of tokens, the logits) stays in floating point.

References:
    Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", 2018. https://arxiv.org/abs/1712.05877
    Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018.
    https://arxiv.org/abs/1806.08342
"""

import copy
import operator
from typing import Any, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from autokd.distillation.capture import CONVOLUTIONS, capture_network, keep_sizes, read_value
from autokd.distillation.fake_quantization import (
    ActivationQuantizer,
    QuantizedConvolution,
    QuantizedLayer,
    QuantizedLinear,
)
from autokd.errors import BuildError

__all__ = ["QuantizedStudent", "Stage", "build_quantized_student", "stage_at"]

Stage = Literal["observers", "weights", "activations", "fixed"]
"""`observers` computes as the float network does; then the weights are rounded, then activations
too; at last the bounds of the activations do not move any more."""

_STAGES: tuple[tuple[float, Stage], ...] = (
    (0.1, "observers"),
    (0.3, "weights"),
    (0.7, "activations"),
    (float("inf"), "fixed"),
)  # until which part of the training

_aten = torch.ops.aten
_JOINS = frozenset({_aten.add.Tensor, _aten.add_.Tensor, _aten.mul.Tensor})
_POOLS = frozenset({_aten.adaptive_avg_pool2d.default, _aten.avg_pool2d.default})
_RECTIFIERS = frozenset({_aten.relu.default, _aten.hardtanh.default, _aten.relu6.default})
_CARRIERS = frozenset({
    _aten.max_pool2d.default, _aten.flatten.using_ints, _aten.view.default, operator.getitem,
    _aten.reshape.default, _aten.permute.default, _aten.transpose.int, _aten.chunk.default,
    _aten.split.Tensor, _aten.split_with_sizes.default, _aten.slice.Tensor, _aten.select.int,
    _aten.contiguous.default, _aten.clone.default, _aten.squeeze.dim, _aten.unsqueeze.default,
})  # fmt: skip
"""What gives nothing but values that it was given."""


def stage_at(progress: float) -> Stage:
    """What is rounded at a point of the training.

    Args:
        progress: 0 before the first step, 1 after the last.

    Returns:
        The stage.
    """
    return next(stage for end, stage in _STAGES if progress < end)


@final
class QuantizedStudent(nn.Module):
    """A student whose numbers are rounded as a runtime of 8 bits would.

    In training, what is rounded depends on the steps that it has made; in evaluation everything
    is, whatever it has learnt so far, so that accuracies of all epochs can be compared.
    """

    n_done: Tensor

    def __init__(self, network: fx.GraphModule, *, n_steps: int) -> None:
        """Begins with the first stage.

        Args:
            network: With quantizers in it.
            n_steps: Of the training; calls in training mode are counted.

        Raises:
            ValueError: There are no steps.
        """
        super().__init__()
        if n_steps < 1:
            raise ValueError(f"`n_steps` must be at least 1, got {n_steps}")
        self.network = network
        self._n_steps = n_steps
        self._stage: Stage | None = None
        self.register_buffer("n_done", torch.zeros((), dtype=torch.int64))

    def forward(
        self, views: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits of pictures in [0, 1]."""
        if self.training:
            self._enter(stage_at(int(self.n_done) / self._n_steps))
            self.n_done += 1
        else:
            self._enter("fixed")
        return self.network(views)

    def _enter(self, stage: Stage) -> None:
        if stage == self._stage:
            return
        self._stage = stage
        for module in self.modules():
            if isinstance(module, ActivationQuantizer):
                module.is_observing = stage != "fixed"
                module.is_quantizing = stage in ("activations", "fixed")
            elif isinstance(module, QuantizedLayer):
                module.is_quantizing = stage != "observers"

    @torch.no_grad()
    def observe(self, pictures: Float[Tensor, "batch channels height width"]) -> None:
        """Lets the quantizers see pictures; nothing is trained, no step is counted.

        Args:
            pictures: In [0, 1].
        """
        self._enter("observers")
        self.network(pictures)

    def settle(self) -> "QuantizedStudent":
        """What is exported.

        Returns:
            A copy in evaluation mode whose scales are constants.
        """
        settled = copy.deepcopy(self).cpu().eval()
        for node in settled.network.graph.nodes:
            module = _module_of(settled.network, node)
            if isinstance(module, ActivationQuantizer):
                module.settle()
            elif isinstance(module, QuantizedLayer):
                before = _module_of(settled.network, node.all_input_nodes[0])
                module.settle(before.scale if isinstance(before, ActivationQuantizer) else None)
        return settled


def build_quantized_student(
    student: nn.Module,
    example: Float[Tensor, "batch channels height width"],
    *,
    n_steps: int,
    weight_bits: int = 8,
) -> QuantizedStudent:
    """Folds a trained student's BatchNorms and puts quantizers into it.

    Args:
        student: Takes pictures in [0, 1], gives logits; it is not changed.
        example: Two pictures at least.
        n_steps: Of the training that follows.
        weight_bits: 8, or 7 for a processor whose sums of two products have only 16 bits.

    Returns:
        A student that computes, at first and in training mode, what the given one does in
        evaluation.

    Raises:
        BuildError: It has no layer that could be quantized.
        ValueError: `weight_bits` is neither 7 nor 8.
    """
    if weight_bits not in (7, 8):
        raise ValueError(f"`weight_bits` must be 7 or 8, got {weight_bits}")
    module = capture_network(student, example)
    rounded: set[fx.Node] = set()
    n_layers = 0
    for node in list(module.graph.nodes):
        layer = _build_layer(module, node, weight_bits=weight_bits)
        if layer is not None:
            node = _replace(module, node, layer=layer, name=f"layer_{n_layers}")
            n_layers += 1
        rounded |= _tensors_to_round(node, layer)
    if not n_layers:
        raise BuildError(
            "student must have convolutions of pictures or linear layers to be quantized, got none"
        )
    _insert_quantizers(module, rounded)
    keep_sizes(module.graph)
    module.graph.eliminate_dead_code()
    module.recompile()
    return QuantizedStudent(fx.GraphModule(module, module.graph), n_steps=n_steps)


def _build_layer(module: nn.Module, node: fx.Node, *, weight_bits: int) -> QuantizedLayer | None:
    """The layer in place of an operation; none where it has no weights of its own."""
    if node.target not in CONVOLUTIONS and node.target is not _aten.linear.default:
        return None
    arguments: list[Any] = [*node.args]
    weight = read_value(module, arguments[1])
    has_bias = len(arguments) > 2 and arguments[2] is not None
    bias = read_value(module, arguments[2]) if has_bias else None
    if weight is None or (has_bias and bias is None):
        return None
    if node.target is _aten.linear.default:
        return QuantizedLinear(weight, bias, weight_bits=weight_bits)
    arguments += [None, (1, 1), (0, 0), (1, 1), 1][len(arguments) - 2 :]
    return QuantizedConvolution(
        weight,
        bias,
        stride=arguments[3],
        padding=arguments[4],
        dilation=arguments[5],
        groups=arguments[6],
        weight_bits=weight_bits,
    )


def _replace(module: nn.Module, node: fx.Node, *, layer: nn.Module, name: str) -> fx.Node:
    module.add_module(name, layer)
    with node.graph.inserting_before(node):
        new = node.graph.call_module(name, (node.args[0],))
    new.meta = dict(node.meta)
    node.replace_all_uses_with(new)
    node.graph.erase_node(node)
    return new


def _tensors_to_round(node: fx.Node, layer: QuantizedLayer | None) -> set[fx.Node]:
    """What an integer kernel for an operation takes and gives; empty where there is none."""
    if isinstance(layer, QuantizedLinear):
        return set(node.all_input_nodes[:1])
    is_joined = node.target in _JOINS and len(node.all_input_nodes) == 2
    is_joined = is_joined or node.target is _aten.cat.default
    if layer is None and not is_joined and node.target not in _POOLS:
        return set()
    tensors = {*node.all_input_nodes, node}
    if any(one.op == "get_attr" or not _is_maps(one) for one in tensors):
        return set()
    users = list(node.users)
    is_rectified = len(users) == 1 and _is_rectifier(users[0])
    return {*node.all_input_nodes, users[0] if is_rectified else node}


def _is_maps(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.ndim == 4 and value.is_floating_point()


def _is_rectifier(node: fx.Node) -> bool:
    """Whether an operation only cuts off what an unsigned range that begins at 0 cannot hold."""
    if node.target is _aten.hardtanh.default:
        return len(node.args) > 1 and bool(node.args[1] == 0)
    return node.target in _RECTIFIERS


def _insert_quantizers(module: nn.Module, rounded: set[fx.Node]) -> None:
    """One for each tensor; those that hold the same values share it."""
    names: dict[fx.Node, str] = {}
    for node in list(next(iter(rounded)).graph.nodes):
        if node not in rounded:
            continue
        source = node.all_input_nodes[0] if node.target in _CARRIERS else None
        name = _name_of(source, names)
        if name is None:
            name = f"quantizer_{len(set(names.values()))}"
            module.add_module(name, ActivationQuantizer())
        names[node] = name
        with node.graph.inserting_after(node):
            quantizer = node.graph.call_module(name, (node,))
        quantizer.meta = dict(node.meta)
        names[quantizer] = name
        for user in list(node.users):
            if user is not quantizer:
                user.replace_input_with(node, quantizer)


def _name_of(node: fx.Node | None, names: dict[fx.Node, str]) -> str | None:
    """Of the quantizer whose values a node carries."""
    while node is not None and node not in names:
        node = node.all_input_nodes[0] if node.target in _CARRIERS else None
    return None if node is None else names[node]


def _module_of(module: nn.Module, node: fx.Node) -> nn.Module | None:
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None
