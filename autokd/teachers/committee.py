"""Several teachers that speak with one voice."""

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any, Literal, cast, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from autokd.errors import TeacherError
from autokd.teachers.teacher import Teacher, trace_network
from autokd.types import InputShape

__all__ = ["AnyTeacher", "Committee", "build_committee", "weigh_by_accuracy", "weigh_by_confidence"]

_UNSURE = 1e-6  # nats; the confidence below which teachers are not told apart


@final
class Committee(nn.Module):
    """Teachers behind the surface of a `Teacher`: the student's view in, logits out, frozen.

    Each member's logits become probabilities at temperature 1, these are averaged with weights,
    and the logarithm of the average is what the committee gives. Logits themselves are not
    averaged: each network has a scale of its own, which its training leaves to chance, and the
    loudest would drown the others; probabilities all add up to 1. Temperature 1 is the one at
    which each network was trained to predict, so that the average is the prediction of the
    mixture of them (Lakshminarayanan et al.), whatever the recipe's temperature is, and the
    recipe softens what *the committee* says, as it would of one teacher. A logarithm of
    probabilities is as good as any logits: losses see them through a softmax or centred, and
    neither feels the constant by which the logits of one picture are moved. So a committee of
    equal teachers teaches what each of them does.

    Attributes:
        members: In the order of the user.
        name: Theirs, joined.
        digest: SHA-256 of theirs and of how they are weighed; the order does not matter.
        n_params: The sum of theirs; none where a member's is not known.
        view_shape: Channels, height and width of the views it takes.
        onnx_file: None: a committee has no file of its own.
        has_features: No: whose would they be?
        is_exportable: Whether `build_exportable` gives a module that can go to ONNX.
        by_confidence: Whether members are weighed picture by picture.
        weights: Of the members, which add up to 1; all alike where `by_confidence`.

    References:
        Lakshminarayanan, Pritzel & Blundell, "Simple and Scalable Predictive Uncertainty
        Estimation using Deep Ensembles", 2017, section 2.4. https://arxiv.org/abs/1612.01474
    """

    def __init__(
        self,
        members: Sequence["Teacher | Committee"],
        *,
        weights: Sequence[float] | None = None,
        by_confidence: bool = False,
    ) -> None:
        """Joins teachers, wherever they lie.

        Args:
            members: Two or more teachers, or committees of them, of the same views and classes.
            weights: Positive, one for each member; all alike if none.
            by_confidence: Weighs them anew for each picture by `weigh_by_confidence`.

        Raises:
            ValueError: There are no two members, or their views differ, or weights do not fit.
        """
        super().__init__()
        if len(members) < 2 or len({member.view_shape for member in members}) > 1:
            shown = [member.view_shape for member in members]
            raise ValueError(f"`members` must be two or more of the same views, got {shown}")
        if weights is not None and (by_confidence or len(weights) != len(members)):
            raise ValueError(f"`weights` must be one for each fixed member, got {weights}")
        _check_classes(members)
        shares = [1.0] * len(members) if weights is None else list(weights)
        if min(shares) <= 0:
            raise ValueError(f"`weights` must be positive, got {weights}")
        self._members = nn.ModuleList(members)
        self.weights = tuple(share / sum(shares) for share in shares)
        self.by_confidence = by_confidence
        self.training = self._members.training = False
        self.name = " + ".join(member.name for member in members)
        self.view_shape: InputShape = members[0].view_shape
        self.onnx_file = None
        self.has_features = False
        self.is_exportable = all(member.is_exportable for member in members)
        counts = [member.n_params for member in members]
        self.n_params = None if None in counts else sum(count or 0 for count in counts)
        digests = sorted(zip((m.digest for m in members), self.weights, strict=True))
        parts = json.dumps(["committee", by_confidence, digests])
        self.digest = hashlib.sha256(parts.encode()).hexdigest()

    @property
    def members(self) -> tuple["Teacher | Committee", ...]:
        """The teachers, in the order of the user."""
        return cast(Any, tuple(self._members))

    @property
    def device(self) -> torch.device:
        """Where it lies, and wants its views."""
        return self.members[0].device

    def forward(self, views: Tensor) -> Tensor:
        """What the committee makes of pictures, without gradients.

        Unchecked annotations: a shape check inside an ONNX trace warns.

        Args:
            views: Float [batch channels height width] in [0, 1], as the data has them.

        Returns:
            Logarithms of probabilities, Float32 [batch classes].
        """
        with torch.no_grad():
            logs = [F.log_softmax(member(views), dim=1) for member in self._members]
            log_members = torch.stack(logs)  # [members batch classes]
            if self.by_confidence:
                weights = weigh_by_confidence(log_members)
            else:
                weights = torch.tensor(self.weights, device=views.device)[:, None]
            return torch.logsumexp(log_members + weights.log()[..., None], dim=0)

    def train(self, mode: bool = True) -> "Committee":  # noqa: ARG002, FBT001, FBT002 - torch's own
        """Itself, untouched: teachers stay in eval mode.

        Args:
            mode: Not looked at.

        Returns:
            The committee.
        """
        return self

    def build_exportable(self) -> nn.Module:
        """What `torch.onnx.export(dynamo=False)` can write, with any batch size.

        Returns:
            The committee itself, or its trace where a member must be traced.

        Raises:
            TeacherError: A member is an exported program or an ONNX file.
        """
        if not self.is_exportable:
            raise TeacherError(
                f"`--teacher` must be made of PyTorch modules to be exported, got {self.name}"
            )
        if all(member.build_exportable() is member for member in self.members):
            return self
        return trace_network(self, view_shape=self.view_shape)


AnyTeacher = Teacher | Committee
"""One teacher, or several that speak with one voice."""


def build_committee(
    members: Sequence[AnyTeacher],
    *,
    vote: Literal["mean", "accuracy", "confidence"],
    accuracies: Sequence[float],
    n_classes: int,
    n_pictures: int,
) -> AnyTeacher:
    """The voice of one or several teachers, as `--teacher-vote` says.

    Args:
        members: One or more teachers.
        vote: How they are weighed.
        accuracies: Of each on the validation split, in [0, 1].
        n_classes: Of the data.
        n_pictures: Of the validation split.

    Returns:
        The only teacher itself, or a committee.
    """
    if len(members) == 1:
        return members[0]
    if vote != "accuracy":
        return Committee(members, by_confidence=vote == "confidence")
    weights = weigh_by_accuracy(accuracies, n_classes=n_classes, n_pictures=n_pictures)
    return Committee(members, weights=weights)


def weigh_by_accuracy(
    accuracies: Sequence[float], *, n_classes: int, n_pictures: int
) -> tuple[float, ...]:
    """Weights of teachers by the log-odds of their accuracy above those of chance.

    `log(a / (1 - a)) + log(n_classes - 1)` is 0 for a teacher that guesses, and is the weight of
    a classifier in a boosted vote (Zhu et al.); accuracies themselves would hardly tell 99 % from
    90 %, which errs ten times as often. The accuracy is that of one more picture, guessed, so
    that one without a mistake does not outweigh all others.

    Args:
        accuracies: Top-1 of each, in [0, 1], above chance.
        n_classes: What there is to guess from.
        n_pictures: On which the accuracies were measured.

    Returns:
        A positive weight for each; they add up to 1.

    Raises:
        ValueError: A teacher is no better than chance.

    References:
        Zhu, Zou, Rosset & Hastie, "Multi-class AdaBoost", Statistics and Its Interface 2, 2009,
        section 2 (SAMME), step 2c. https://doi.org/10.4310/SII.2009.v2.n3.a8
    """
    if min(accuracies) <= 1 / n_classes:
        raise ValueError(f"`accuracies` must be above 1/{n_classes}, got {list(accuracies)}")
    smoothed = [(a * n_pictures + 1 / n_classes) / (n_pictures + 1) for a in accuracies]
    odds = [math.log(a / (1 - a)) + math.log(n_classes - 1) for a in smoothed]
    return tuple(value / sum(odds) for value in odds)


def weigh_by_confidence(
    log_members: Float[Tensor, "members batch classes"],
) -> Float[Tensor, "members batch"]:
    """Weights of teachers for each picture, by how much each says about it.

    What a teacher says is what its prediction lacks in entropy: `log(classes) - H(p)` nats, from
    0 for a uniform prediction to log(classes) for a certain one. A weight is its share of the
    members' sum, without a softmax and its temperature: one that knows nothing is not heard. No
    label is used: the labels of mixed pictures have no one class, and the loss on the labels sees
    them anyway. (Zhang et al. weigh by the cross-entropy with the labels.)

    Args:
        log_members: Logarithms of each member's probabilities.

    Returns:
        Shares that add up to 1 for each picture; all alike where nobody knows anything.

    References:
        Kwon, Na, Lee & Kim, "Adaptive Knowledge Distillation Based on Entropy", ICASSP 2020:
        labels of lower entropy count more. https://doi.org/10.1109/ICASSP40776.2020.9054698
        Zhang, Chen & Wang, "Confidence-Aware Multi-Teacher Knowledge Distillation", ICASSP 2022.
        https://arxiv.org/abs/2201.00007
    """
    entropy = -(log_members.exp() * log_members).sum(dim=2)
    information = (math.log(log_members.shape[2]) - entropy).clamp(min=_UNSURE)
    return information / information.sum(dim=0, keepdim=True)


def _check_classes(members: Sequence[AnyTeacher]) -> None:
    """Asks each member about one picture.

    Raises:
        TeacherError: They do not predict equally many classes.
    """
    first = members[0]
    views = torch.zeros(1, *first.view_shape)
    counts = [member(views.to(member.device)).shape[1] for member in members]
    for member, count in zip(members, counts, strict=True):
        if count != counts[0]:
            raise TeacherError(
                f"`--teacher` must predict the same classes as the others, got {count} from "
                f"{member.name} and {counts[0]} from {first.name}; pass --teacher-finetune to fit "
                "new heads"
            )
