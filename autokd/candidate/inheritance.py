"""What a student inherits of a trained relative, and which relative that should be."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn

from autokd.types import Scalar

__all__ = [
    "Common",
    "Relative",
    "find_common",
    "find_relative",
    "inherit_weights",
    "measure_kinship",
]

_LEAST_MATCH = 0.5  # of the layers of the smaller network; below it they are strangers
_LEAST_KINSHIP = 0.5  # a more distant relative has little to give
_FUSED = re.compile(r"(qkv|query_key_value|in_proj)")  # three projections in one tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relative:
    """A student that has been trained, as a possible relative of another.

    Attributes:
        trial: Its number in the study.
        architecture: The architecture half of its sample.
        accuracy: On validation, so far.
    """

    trial: int
    architecture: Mapping[str, Scalar]
    accuracy: float


def find_relative(
    architecture: Mapping[str, Scalar], candidates: Sequence[Relative]
) -> Relative | None:
    """The trained student that is most alike, one that has learnt little counting less.

    Kinship times accuracy decides. Kinship looks the same from both sides, so that a large
    student, of which every other could cut out its weights, is no nearer for being large.

    Args:
        architecture: Label to value, of the student that is to be trained.
        candidates: Who could be inherited from.

    Returns:
        The relative; of equals the one of the lowest number, none where all are too distant.
    """
    near = [
        (kinship * one.accuracy, -one.trial, one)
        for one in candidates
        if (kinship := measure_kinship(architecture, one.architecture)) >= _LEAST_KINSHIP
        and one.accuracy > 0
    ]
    return max(near, key=lambda entry: entry[:2])[2] if near else None


def measure_kinship(ours: Mapping[str, Scalar], theirs: Mapping[str, Scalar]) -> float:
    """How alike two architectures are, in [0, 1]; 1 for the same.

    The mean over their dimensions: of two numbers the smaller over the larger, of anything else
    1 where both are the same.

    Args:
        ours: Label to value.
        theirs: The same of the other; a label that only one has is a difference.

    Returns:
        The same from both sides.
    """
    labels = ours.keys() | theirs.keys()
    if not labels:
        return 1.0
    alike = (
        _likeness(ours[label], theirs[label]) if label in ours and label in theirs else 0.0
        for label in labels
    )
    return math.fsum(alike) / len(labels)


def _likeness(ours: Scalar, theirs: Scalar) -> float:
    if ours == theirs:
        return 1.0
    if not (_is_amount(ours) and _is_amount(theirs)):
        return 0.0
    return float(min(ours, theirs)) / float(max(ours, theirs))


def _is_amount(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


# ---------------------------------------------------------------------- weights


@torch.no_grad()
def inherit_weights(student: nn.Module, relative_state: Mapping[str, Tensor]) -> float:
    """Gives a student what it has in common with a trained network; the rest stays fresh.

    Layers are matched by their modules' names, in sequences by order and kind, so that depth and
    optional layers may differ. Of two tensors the first channels that both have are common, and
    the centre of their kernels; a kernel that grows has zeros around that, so that it computes
    what the smaller one did. The last layer is kept where the classes are as many. A network
    that matches fewer than half of the layers is no relative: nothing is taken from it.

    Args:
        student: Changed in place; keeps its dtype and device.
        relative_state: State dict of the trained network, of any dtype, on any device.

    Returns:
        The share of the student's parameters that are inherited, in [0, 1].

    References:
        Chen, Goodfellow & Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer", 2016.
        https://arxiv.org/abs/1511.05641
        Wei, Wang, Rui & Chen, "Network Morphism", 2016, section 3 (kernels padded by zeros).
        https://arxiv.org/abs/1603.01670
        Cai, Gan, Wang, Zhang & Han, "Once-for-All", 2020, section 3 (first channels, centre of
        kernels). https://arxiv.org/abs/1908.09791
    """
    state, inherited = student.state_dict(), 0
    parameters = {name: value.numel() for name, value in student.named_parameters()}
    for common in find_common(student, relative_state):
        ours, theirs = state[common.path], relative_state[common.path_of_relative]
        if ours.shape[2:] != theirs.shape[2:]:
            ours[common.part[:2]] = 0  # around the centre of a kernel that grows
        part = ours[common.part]
        part.copy_(theirs[common.part_of_relative])
        inherited += part.numel() if common.path in parameters else 0
    return inherited / max(1, sum(parameters.values()))


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Common:
    """What two networks have in common of one tensor.

    Attributes:
        path: Of the student's tensor, in its state dict.
        part: Of that; a slice for each dimension.
        path_of_relative: Of the other network's tensor.
        part_of_relative: Of that.
    """

    path: str
    part: tuple[slice, ...]
    path_of_relative: str
    part_of_relative: tuple[slice, ...]


def find_common(student: nn.Module, relative_state: Mapping[str, Tensor]) -> list[Common]:
    """The parts of a student's weights that `inherit_weights` would replace, and by what.

    Args:
        student: Not changed.
        relative_state: State dict of the other network.

    Returns:
        Parts that do not overlap; none where the networks are strangers.
    """
    learnt = {path for path, module in student.named_modules() if _has_parameters(module)}
    state = student.state_dict()
    ours = _grow({key: state[key] for key in state if key.rpartition(".")[0] in learnt})
    theirs = _grow(relative_state)
    pairs = _align(ours, theirs)
    if len(pairs) < max(1, _LEAST_MATCH * min(ours.count(), theirs.count())):
        return []
    head = _find_head(student)
    return [
        common
        for mine, other in pairs
        if _fits(mine, other, student=student, head=head)
        for name in sorted(mine.own.keys() & other.own.keys())
        for common in _find_parts(mine, other, name)
    ]


@final
@dataclasses.dataclass(eq=False)
class _Layer:
    """A module as a state dict shows it: its own tensors, and the modules in it."""

    path: str
    own: dict[str, Tensor] = dataclasses.field(default_factory=dict[str, Tensor])
    parts: "dict[str, _Layer]" = dataclasses.field(default_factory=dict[str, "_Layer"])

    def count(self) -> int:
        """Modules with tensors of their own."""
        return bool(self.own) + sum(part.count() for part in self.parts.values())

    def path_of(self, name: str) -> str:
        """Of one of its own tensors."""
        return f"{self.path}.{name}" if self.path else name

    @property
    def is_sequence(self) -> bool:
        """Whether its parts have numbers for names."""
        return bool(self.parts) and all(name.isdigit() for name in self.parts)

    def in_order(self) -> "list[_Layer]":
        """The parts of a sequence, whatever order a file has them in."""
        return [self.parts[name] for name in sorted(self.parts, key=int)]

    @property
    def kind(self) -> object:
        """Equal for layers that may inherit from each other."""
        weight = self.own.get("weight")
        if weight is None:
            return frozenset((name, value.ndim) for name, value in self.own.items())
        is_depthwise = weight.ndim > 2 and weight.shape[1] == 1
        is_pointwise = weight.ndim > 2 and math.prod(weight.shape[2:]) == 1
        return weight.ndim, is_depthwise, is_pointwise, "running_mean" in self.own


def _grow(state: Mapping[str, Tensor]) -> _Layer:
    """The tree of modules that a state dict was made of."""
    root = _Layer("")
    for key, value in state.items():
        *names, last = key.split(".")
        layer = root
        for depth, name in enumerate(names, start=1):
            layer = layer.parts.setdefault(name, _Layer(".".join(names[:depth])))
        layer.own[last] = value
    return root


def _align(ours: _Layer, theirs: _Layer) -> list[tuple[_Layer, _Layer]]:
    """Pairs of layers that match, each layer at most once."""
    pairs = [(ours, theirs)] if ours.own and theirs.own and ours.kind == theirs.kind else []
    if ours.is_sequence and theirs.is_sequence:
        return pairs + _align_sequences(ours.in_order(), theirs.in_order())
    for name in ours.parts.keys() & theirs.parts.keys():
        pairs += _align(ours.parts[name], theirs.parts[name])
    return pairs


def _align_sequences(
    ours: Sequence[_Layer], theirs: Sequence[_Layer]
) -> list[tuple[_Layer, _Layer]]:
    """The most layers that match when both sequences keep their order, the first ones if equal."""
    best: dict[tuple[int, int], list[tuple[_Layer, _Layer]]] = {}
    for i in range(len(ours), -1, -1):
        for j in range(len(theirs), -1, -1):
            if i == len(ours) or j == len(theirs):
                best[i, j] = []
                continue
            together = _align(ours[i], theirs[j]) + best[i + 1, j + 1]
            best[i, j] = max(together, best[i, j + 1], best[i + 1, j], key=len)
    return best[0, 0]


def _has_parameters(module: nn.Module) -> bool:
    """Of its own."""
    return next(module.parameters(recurse=False), None) is not None


def _find_head(student: nn.Module) -> str:
    """The path of the last layer whose weight is a matrix or a kernel."""
    last = ""
    for path, module in student.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim > 1:
            last = path
    return last


def _fits(mine: _Layer, other: _Layer, *, student: nn.Module, head: str) -> bool:
    """Whether first channels of one are first channels of the other."""
    if "weight" not in mine.own:
        return True
    shape, theirs = mine.own["weight"].shape, other.own["weight"].shape
    if mine.path == head:
        return shape[0] == theirs[0]
    groups = getattr(student.get_submodule(mine.path), "groups", 1)
    has_few_groups = isinstance(groups, int) and groups > 1 and shape[1] > 1
    return shape == theirs or not has_few_groups


def _find_parts(mine: _Layer, other: _Layer, name: str) -> list[Common]:
    """The common part of one tensor of two layers; three parts of one that is three in one."""
    ours, theirs = mine.own[name], other.own[name]
    path, path_of_relative = mine.path_of(name), other.path_of(name)
    if ours.ndim != theirs.ndim or ours.is_floating_point() != theirs.is_floating_point():
        return []
    rows, rows_of_relative = (0 if value.ndim == 0 else value.shape[0] for value in (ours, theirs))
    is_fused = _FUSED.search(path) and rows and not (rows % 3 or rows_of_relative % 3)
    n_parts = 3 if is_fused else 1
    shape, shape_of_relative = list(ours.shape), list(theirs.shape)
    if is_fused:
        shape[0], shape_of_relative[0] = rows // 3, rows_of_relative // 3
    slices = _find_slices(path, shape, shape_of_relative)
    if slices is None:
        return []
    part, part_of_relative = zip(*slices, strict=True) if slices else ((), ())
    return [
        Common(
            path=path,
            part=_move(part, index * rows // 3),
            path_of_relative=path_of_relative,
            part_of_relative=_move(part_of_relative, index * rows_of_relative // 3),
        )
        for index in range(n_parts)
    ]


def _move(part: tuple[slice, ...], by: int) -> tuple[slice, ...]:
    """The part so many rows further down."""
    if not by:
        return part
    return slice(part[0].start + by, part[0].stop + by), *part[1:]


def _find_slices(
    path: str, ours: Sequence[int], theirs: Sequence[int]
) -> list[tuple[slice, slice]] | None:
    """What two tensors have in common.

    Args:
        path: Of our tensor; of what is no weight, such as the positions of tokens, only the last
            dimension is one of channels.
        ours: Shape.
        theirs: Shape of as many dimensions.

    Returns:
        For each dimension the part of either: first channels, the centre of kernels with odd
        sides; none where nothing is common.
    """
    is_weight = path.endswith(("weight", "bias", "running_mean", "running_var"))
    common: list[tuple[slice, slice]] = []
    for dim, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        n, first, second = min(mine, other), 0, 0
        if mine != other and is_weight and dim >= 2:
            if not (mine % 2 and other % 2):
                return None
            first, second = (mine - n) // 2, (other - n) // 2
        elif mine != other and not is_weight and dim < len(ours) - 1:
            return None
        common.append((slice(first, first + n), slice(second, second + n)))
    return common
