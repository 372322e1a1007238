"""Self-distillation: the end of a student teaches heads on its earlier layers."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autokd.distillation.feature_reader import FeatureReader
from autokd.distillation.logit_losses import soft_target_loss
from autokd.distillation.losses import label_loss
from autokd.distillation.taps import Tap, find_taps
from autokd.errors import BuildError

__all__ = ["ExitTeaching", "build_exits"]

_SOFT_SHARE = 0.3  # of the student's end against the labels, in an exit's loss
_TEMPERATURE = 3.0
_HINT_WEIGHT = 0.03  # of the squared distance to the deepest map


class ExitTeaching(nn.Module):
    """Classifiers on the shallower layers of a student, trained beside it and thrown away.

    References:
        Zhang et al., "Be Your Own Teacher: Improve the Performance of Convolutional Neural
        Networks via Self Distillation", 2019. https://arxiv.org/abs/1905.08094
    """

    def __init__(
        self, taps: tuple[Tap, ...], *, n_classes: int, reader: FeatureReader, seed: int
    ) -> None:
        """Builds the exits.

        Args:
            taps: Of the student, from shallow to deep; each but the deepest gets an exit.
            n_classes: Of the student.
            reader: Of the same taps.
            seed: Of the exits' weights.
        """
        super().__init__()
        self._reader = reader
        width = taps[-1].channels
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.bottlenecks = nn.ModuleList(
                nn.Sequential(nn.Conv2d(tap.channels, width, 1), nn.BatchNorm2d(width), nn.ReLU())
                for tap in taps[:-1]
            )
            self.heads = nn.ModuleList(nn.Linear(width, n_classes) for _ in taps[:-1])

    def loss(
        self,
        student_logits: Float[Tensor, "batch classes"],
        targets: Float[Tensor, "batch classes"],
        *,
        log_prior: Float[Tensor, " classes"] | None = None,
    ) -> Float[Tensor, ""]:
        """What the exits miss of the labels and of the student's own end, after a forward pass.

        Args:
            student_logits: The student's own; no gradient flows into these.
            targets: A probability for each class; zeros where there is no label.
            log_prior: Of the classes, as `label_loss` takes it.

        Returns:
            The sum over the exits, each in nats and the mean over the batch.
        """
        *shallow, deepest = self._reader.features
        learn = partial(label_loss, targets=targets, log_prior=log_prior)
        with torch.autocast(student_logits.device.type, enabled=False):
            goal = deepest.detach().float().mean((2, 3))
            losses = [
                self._exit_loss(project, head, feature.float(), goal, student_logits, learn)
                for project, head, feature in zip(
                    self.bottlenecks, self.heads, shallow, strict=True
                )
            ]
        return torch.stack(losses).sum()

    def _exit_loss(
        self,
        project: nn.Module,
        head: nn.Module,
        feature: Tensor,
        goal: Tensor,
        student_logits: Tensor,
        learn: Callable[[Tensor], Tensor],
    ) -> Tensor:
        vector = project(feature).mean((2, 3))
        logits = head(vector)
        soft = soft_target_loss(logits, student_logits.detach(), temperature=_TEMPERATURE)
        hard = learn(logits)
        # As in the authors' code: a rectified vector need not follow where the goal is negative.
        counts = (vector > 0) | (goal > 0)
        hint = ((vector - goal).square() * counts).sum(1).mean()
        return hard * (1 - _SOFT_SHARE) + soft * _SOFT_SHARE + hint * _HINT_WEIGHT


def build_exits(
    student: nn.Module,
    example: Float[Tensor, "batch channels height width"],
    *,
    n_exits: int,
    n_classes: int,
    seed: int,
) -> tuple[ExitTeaching, FeatureReader]:
    """Exits on a student's last maps before the deepest.

    Args:
        student: A classifier; hooks stay on it until the reader is closed.
        example: Pictures as it wants them.
        n_exits: Wanted at most; a student with fewer maps gets fewer.
        n_classes: Of the student.
        seed: Of the exits' weights.

    Returns:
        The exits, on the CPU, and the reader to be closed after the training.

    Raises:
        BuildError: The student shows fewer than two maps.
    """
    taps = find_taps(student, example)[-n_exits - 1 :]
    if len(taps) < 2:
        raise BuildError(
            f"student must show two maps larger than 1x1 for exits, got {len(taps)}; "
            "pass --fix exits=0"
        )
    reader = FeatureReader(student, taps)
    return ExitTeaching(taps, n_classes=n_classes, reader=reader, seed=seed), reader
