"""How the loop learns what a teacher makes of a batch: asked now, or remembered."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autokd.distillation.exits import ExitTeaching
from autokd.distillation.feature_reader import FeatureReader
from autokd.distillation.features import FeatureObjective
from autokd.distillation.logit_losses import soft_target_loss

__all__ = [
    "FeatureTeaching",
    "LiveTeacher",
    "OriginalTeaching",
    "RememberedTeacher",
    "Teaching",
    "Views",
]

Recall = Callable[[int], Tensor]
"""Number of a view to what the teacher says of that view of every picture."""

Expand = Callable[[Tensor, float], Tensor]
"""Rows of that and the temperature by which they will be divided to logits."""

Check = Callable[[Tensor, Tensor], None]
"""Remembered logits and the views that they belong to; raises if the teacher disagrees."""


@runtime_checkable
class Views(Protocol):
    """A batch as teacher and student see it."""

    @property
    def pictures(self) -> Tensor:
        """[batch channels height width] in [0, 1], mixed where the recipe mixes."""
        ...

    @property
    def targets(self) -> Tensor:
        """[batch classes], a probability for each class; zeros where there is no label."""
        ...

    @property
    def clean(self) -> Tensor:
        """The pictures before mixing."""
        ...

    @property
    def indices(self) -> Tensor:
        """Which picture of the data set each row is, on the CPU."""
        ...

    @property
    def view(self) -> int:
        """Number of the view."""
        ...

    def mix(self, rows: Tensor) -> Tensor:
        """Rows that belong to the clean pictures, mixed as the pictures are."""
        ...


@final
class LiveTeacher:
    """Asks the teacher about the pictures that the student sees, or mixes what it says of each.

    Attributes:
        name: `live`, or `mixed` where answers to two pictures are mixed.
    """

    def __init__(self, network: nn.Module, *, is_mixed: bool = False) -> None:
        """Asks nothing yet.

        Args:
            network: Frozen, from views to logits.
            is_mixed: Whether it is asked about the pictures before mixing, as a bank is.
        """
        self.name = "mixed" if is_mixed else "live"
        self._network, self._is_mixed = network, is_mixed

    def __call__(self, views: Views, temperature: float) -> Float[Tensor, "batch classes"]:  # noqa: ARG002
        """Its logits, in full precision as the bank's are, however the student computes."""
        pictures = views.clean if self._is_mixed else views.pictures
        with torch.no_grad(), torch.autocast(pictures.device.type, enabled=False):
            logits = self._network(pictures).float()
        return views.mix(logits) if self._is_mixed else logits


@final
class RememberedTeacher:
    """Looks up what the teacher said; mixes it where pictures are mixed, which is not exact.

    Attributes:
        name: `kept`, or `mixed` where answers to two pictures are mixed.
    """

    def __init__(
        self, recall: Recall, *, expand: Expand, check: Check, device: torch.device, name: str
    ) -> None:
        """Recalls nothing yet.

        Args:
            recall: Gives what is kept of a view, a row for each picture.
            expand: Makes logits of rows.
            check: Compares the first batch with the teacher itself.
            device: Where the student is trained.
            name: For the tracker.
        """
        self.name = name
        self._recall, self._expand, self._check, self._device = recall, expand, check, device
        self._view = -1
        self._kept = torch.empty(0)

    def __call__(self, views: Views, temperature: float) -> Float[Tensor, "batch classes"]:
        """The logits of these rows, to be divided by that temperature."""
        is_first = self._view < 0
        if views.view != self._view:
            self._kept, self._view = self._recall(views.view).to(self._device), views.view
        kept = self._kept[views.indices.to(self._device)]
        if is_first:
            self._check(kept, views.clean)
        return views.mix(self._expand(kept, temperature).float())


@final
class FeatureTeaching:
    """A loss on features, ready for the loop: reads the student, knows the teacher's side."""

    def __init__(
        self,
        objective: FeatureObjective,
        *,
        ours: FeatureReader,
        theirs: Callable[[Views], Sequence[Tensor]],
    ) -> None:
        """Joins both sides.

        Args:
            objective: On the device of the student.
            ours: On the student.
            theirs: The teacher's features of a batch, after the teacher was asked.
        """
        self._objective, self._ours, self._theirs = objective, ours, theirs

    def parameters(self) -> Iterator[nn.Parameter]:
        """Of the projectors, which are trained beside the student."""
        return self._objective.parameters()

    def loss(self, views: Views) -> Float[Tensor, ""]:
        """Of the last forward pass of the student, times the weight of its paper."""
        return self._objective(self._ours.features, self._theirs(views))


@final
class OriginalTeaching:
    """What the student said before its numbers were rounded."""

    def __init__(self, network: nn.Module, *, temperature: float, weight: float = 1.0) -> None:
        """Keeps the float student as it is.

        Args:
            network: A copy of the student, frozen, on the device of the training.
            temperature: Softens what both say; positive.
            weight: Factor of the loss.
        """
        self._network, self._temperature, self._weight = network, temperature, weight

    def loss(
        self, student_logits: Float[Tensor, "batch classes"], views: Views
    ) -> Float[Tensor, ""]:
        """How far rounding has moved the student from itself, in nats."""
        with torch.no_grad():
            before = self._network(views.pictures).float()
        loss = soft_target_loss(student_logits, before, temperature=self._temperature)
        return loss * self._weight


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """What a student has to learn from.

    Attributes:
        logits: The teacher's, of a batch, if there is a teacher.
        is_of_unlabelled: Whether that teacher is heard of pictures without a label alone.
        features: The loss on features, if there is one.
        exits: Classifiers on the student's earlier layers, if there are any.
        original: The student before its numbers were rounded, if they are.
    """

    logits: LiveTeacher | RememberedTeacher | None = None
    is_of_unlabelled: bool = False
    features: FeatureTeaching | None = None
    exits: ExitTeaching | None = None
    original: OriginalTeaching | None = None

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is trained beside the student and thrown away."""
        if self.features is not None:
            yield from self.features.parameters()
        if self.exits is not None:
            yield from self.exits.parameters()
