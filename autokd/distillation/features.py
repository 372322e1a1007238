"""What a student learns from a teacher's features, whatever the two networks are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from autokd.distillation.feature_losses import (
    angle_loss,
    attention_loss,
    contrastive_loss,
    distance_loss,
    fsp_loss,
    fsp_matrix,
    hint_loss,
)
from autokd.distillation.taps import Tap, find_embedding, find_taps, match_taps, named_taps
from autokd.errors import BuildError, ConfigError, TeacherError

__all__ = ["FeatureKind", "FeatureObjective", "build_feature_objective", "check_paths"]

FeatureKind = Literal["hint", "attention", "fsp", "rkd", "crd"]
"""FitNets, attention transfer, flow of the solution, relations, contrast."""

_Pair = tuple[Tap, Tap]

_WEIGHTS = {"hint": 100.0, "attention": 1000.0, "fsp": 50.0, "rkd": 1.0, "crd": 0.8}
_RKD_DISTANCE, _RKD_ANGLE = 25.0, 50.0
_CONTRAST_WIDTH = 128
_EMBEDDED = ("rkd", "crd")  # read the embedding; the others read maps
_LEAST_PAIRS = {"fsp": 2}  # a flow has two ends


class FeatureObjective(nn.Module):
    """A loss on features, with the layers that make those of two networks comparable.

    The layers are trained beside the student and thrown away with this module: they are never a
    part of the student.

    Attributes:
        kind: Which loss.
        student_taps: Where the student is read, in the order that `forward` wants.
        teacher_taps: Where the teacher is read, in the same order.
    """

    def __init__(self, kind: FeatureKind, *, pairs: Sequence[tuple[Tap, Tap]], seed: int) -> None:
        """Builds the projectors.

        Args:
            kind: Which loss.
            pairs: Of a student's and a teacher's tap, in order of execution.
            seed: Of the projectors' weights; no other random number depends on it.
        """
        super().__init__()
        self.kind: FeatureKind = kind
        self.student_taps = tuple(student for student, _ in pairs)
        self.teacher_taps = tuple(teacher for _, teacher in pairs)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # `torch.manual_seed` seeds the GPUs too
            built = [_build_projectors(kind, student, teacher) for student, teacher in pairs]
        self.student_projectors = nn.ModuleList(student for student, _ in built)
        self.teacher_projectors = nn.ModuleList(teacher for _, teacher in built)

    def forward(
        self, student_features: Sequence[Tensor], teacher_features: Sequence[Tensor]
    ) -> Float[Tensor, ""]:
        """The loss, in float32 whatever the networks ran in, times the weight of its paper.

        Over several pairs of maps it is their mean: a student with more stages is not held
        harder.

        Args:
            student_features: From a `FeatureReader` of `student_taps`.
            teacher_features: From a `FeatureReader` of `teacher_taps`; get no gradient. Maps are
                resized to the student's.

        Returns:
            The weighted loss.
        """
        with torch.autocast(student_features[0].device.type, enabled=False):
            student = [
                project(value.float())
                for project, value in zip(self.student_projectors, student_features, strict=True)
            ]
            teacher = [
                project(_resize(value.detach().float(), like=other))
                for project, value, other in zip(
                    self.teacher_projectors, teacher_features, student, strict=True
                )
            ]
            return _TERMS[self.kind](student, teacher) * _WEIGHTS[self.kind]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Side:
    """A network, its pictures, and where its user wants it to be read."""

    network: nn.Module
    example: Tensor
    paths: tuple[str, ...]
    option: Literal["--student-tap", "--teacher-tap"]

    def find_maps(self) -> tuple[Tap, ...]:
        """All taps that can be found."""
        return find_taps(self.network, self.example)

    def find_named(self) -> tuple[Tap, ...]:
        """The taps that the user named."""
        return named_taps(self.network, self.example, self.paths, option=self.option)


def check_paths(
    kind: FeatureKind, *, student_paths: Sequence[str], teacher_paths: Sequence[str]
) -> None:
    """Refuses modules that a loss has no use for, or too few of them, whatever the networks are.

    Args:
        kind: Which loss.
        student_paths: Modules of the student; found where there are none.
        teacher_paths: The same of the teacher.

    Raises:
        ConfigError: No networks could be read so with that loss.
    """
    sides = {"--student-tap": student_paths, "--teacher-tap": teacher_paths}
    named = {option: paths for option, paths in sides.items() if paths}
    if not named:
        return
    if kind in _EMBEDDED:
        option, paths = next(iter(named.items()))
        raise ConfigError(
            f"`{option}` must not be given with --loss {kind}, which reads what goes into the last "
            f"layer, got {', '.join(paths)}; use hint, attention or fsp alone: --loss "
            "soft_targets+hint, --fix feature_loss=hint or a recipe without the others"
        )
    least = max(map(len, named.values()))
    wanted = max(_LEAST_PAIRS.get(kind, 1), least)
    for option, paths in named.items():
        if len(paths) < wanted:
            raise ConfigError(
                f"`{option}` must be given {wanted} times, as --loss {kind} and the other "
                f"network's taps want it, got {', '.join(paths)}; give it once for each layer, or "
                "use a loss that is content with one: --loss soft_targets+hint or --fix "
                "feature_loss=hint"
            )


def build_feature_objective(  # noqa: PLR0913 - two networks, each with its example and its names
    kind: FeatureKind,
    *,
    student: nn.Module,
    teacher_network: nn.Module,
    student_example: Float[Tensor, "student_batch student_channels student_height student_width"],
    teacher_example: Float[Tensor, "teacher_batch teacher_channels teacher_height teacher_width"],
    student_paths: Sequence[str] | None = None,
    teacher_paths: Sequence[str] | None = None,
    seed: int = 0,
) -> FeatureObjective:
    """The objective of a student and a teacher, each of which is run a few times to find taps.

    A teacher whose network shows no features is a `TeacherError`, a student without them a
    `BuildError`, a path that is wrong or of no use to the loss a `ConfigError`.

    Args:
        kind: Which loss.
        student: A classifier.
        teacher_network: A classifier.
        student_example: Pictures as the student wants them, on its device.
        teacher_example: Pictures as the teacher's network wants them, on its device.
        student_paths: Modules to read maps from; found where there are none.
        teacher_paths: Modules to read maps from; found where there are none.
        seed: Of the projectors' weights.

    Returns:
        The objective, on the CPU.
    """
    check_paths(kind, student_paths=student_paths or (), teacher_paths=teacher_paths or ())
    student_side = _Side(
        network=student,
        example=student_example,
        paths=tuple(student_paths or ()),
        option="--student-tap",
    )
    teacher_side = _Side(
        network=teacher_network,
        example=teacher_example,
        paths=tuple(teacher_paths or ()),
        option="--teacher-tap",
    )
    pair = _pair_embeddings if kind in _EMBEDDED else _pair_maps
    return FeatureObjective(kind, pairs=pair(kind, student_side, teacher_side), seed=seed)


def _pair_embeddings(kind: FeatureKind, student: _Side, teacher: _Side) -> Sequence[_Pair]:
    """What goes into the last layers of both."""
    teacher_tap = find_embedding(teacher.network, teacher.example)
    if teacher_tap is None:
        raise TeacherError(_say_no_features(kind))
    student_tap = find_embedding(student.network, student.example)
    if student_tap is None:
        raise BuildError(
            f"student must end in a linear layer or a 1x1 convolution for --loss {kind}, got "
            "neither; use another loss"
        )
    return ((student_tap, teacher_tap),)


def _pair_maps(kind: FeatureKind, student: _Side, teacher: _Side) -> Sequence[_Pair]:
    """Maps that the user named, or found ones."""
    least = _LEAST_PAIRS.get(kind, 1)
    found, theirs = student.find_maps(), teacher.find_maps()
    if not theirs:
        raise TeacherError(_say_no_features(kind))
    if student.paths or teacher.paths:
        return _pair_named(student, teacher, found, theirs)
    if len(theirs) < least:
        raise TeacherError(
            f"`--teacher` must show {least} layers for --loss {kind}, got {theirs[0].path} alone; "
            "name more with --teacher-tap, or use --loss hint"
        )
    if len(found) < least:
        raise BuildError(
            f"student must show {least} maps larger than 1x1 for --loss {kind}, got {len(found)}; "
            "use another loss"
        )
    return match_taps(found, theirs, at_least=least)


def _pair_named(
    student: _Side, teacher: _Side, found: Sequence[Tap], theirs: Sequence[Tap]
) -> Sequence[_Pair]:
    """Named taps in their order; those of one side alone get the nearest of the other."""
    named, their_named = student.find_named(), teacher.find_named()
    if not their_named:
        return [(tap, _nearest(tap, theirs)) for tap in named]
    if not named and not found:
        raise BuildError("student must show a map larger than 1x1 for its taps, got none")
    ours = named or [_nearest(tap, found) for tap in their_named]
    return list(zip(ours, their_named, strict=True))


def _nearest(tap: Tap, others: Sequence[Tap]) -> Tap:
    """The tap of equal resolution, or else of the most like depth."""
    return min(others, key=lambda other: (other.size != tap.size, abs(other.depth - tap.depth)))


def _say_no_features(kind: FeatureKind) -> str:
    """The line about a teacher that cannot be looked into."""
    return (
        f"`--loss {kind}` needs features of the teacher, got a teacher that exposes none, as "
        "TorchScript, exported programs and ONNX files do; use a loss on logits, or a teacher of "
        "timm:, torchvision: or python:"
    )


def _build_projectors(kind: FeatureKind, student: Tap, teacher: Tap) -> tuple[nn.Module, nn.Module]:
    """What brings both to the same channels, where the loss needs that."""
    if kind in ("hint", "fsp"):
        return nn.Conv2d(student.channels, teacher.channels, 1), nn.Identity()
    if kind == "crd":
        return (
            nn.Linear(student.channels, _CONTRAST_WIDTH),
            nn.Linear(teacher.channels, _CONTRAST_WIDTH),
        )
    return nn.Identity(), nn.Identity()


def _resize(value: Tensor, *, like: Tensor) -> Tensor:
    """A map at the resolution of another: averaged down, or interpolated up."""
    if value.ndim != 4 or value.shape[2:] == like.shape[2:]:
        return value
    size = (like.shape[2], like.shape[3])
    if value.shape[2] >= size[0] and value.shape[3] >= size[1]:
        return F.adaptive_avg_pool2d(value, size)
    return F.interpolate(value, size=size, mode="bilinear", align_corners=False)


def _mean_of_pairs(
    loss: Callable[[Tensor, Tensor], Tensor], student: Sequence[Tensor], teacher: Sequence[Tensor]
) -> Tensor:
    """The mean loss of several pairs."""
    losses = [loss(ours, theirs) for ours, theirs in zip(student, teacher, strict=True)]
    return torch.stack(losses).mean()


def _compare_flows(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """The loss of the flow from each map to the next."""
    ours, theirs = (
        [fsp_matrix(front, back) for front, back in pairwise(maps)] for maps in (student, teacher)
    )
    return _mean_of_pairs(fsp_loss, ours, theirs)


def _compare_relations(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Distances and angles, each with the paper's weight."""
    distance = _mean_of_pairs(distance_loss, student, teacher)
    return distance * _RKD_DISTANCE + _mean_of_pairs(angle_loss, student, teacher) * _RKD_ANGLE


_TERMS: dict[FeatureKind, Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]] = {
    "hint": partial(_mean_of_pairs, hint_loss),
    "attention": partial(_mean_of_pairs, attention_loss),
    "fsp": _compare_flows,
    "rkd": _compare_relations,
    "crd": partial(_mean_of_pairs, contrastive_loss),
}
