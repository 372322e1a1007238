"""One point of the joint space: its dimensions, its sample and the recipe that it freezes to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "RECIPE_PRIORS",
    "SMALLEST_SCALE",
    "Augmentation",
    "Dimension",
    "FeatureLoss",
    "InputShape",
    "Loss",
    "Mix",
    "MixTargets",
    "Optimiser",
    "Precision",
    "Recipe",
    "Resizing",
    "Room",
    "Sample",
    "Scalar",
    "Schedule",
    "TaughtBy",
    "TemperatureSchedule",
]

Scalar = str | int | float | bool


Sample = dict[str, Scalar]
"""One point of the joint space: label of a dimension to its value."""


InputShape = tuple[int, int, int]
"""Channels, height and width of one picture, in pixels."""


Augmentation = Literal["none", "crop", "flip_crop", "randaugment"]


Resizing = Literal["none", "progressive"]


SMALLEST_SCALE = 0.5
"""Of a picture's side, where a training begins with smaller ones."""


Mix = Literal["none", "mixup", "cutmix"]


MixTargets = Literal["exact", "mixed"]


Loss = Literal["soft_targets", "dkd", "dist", "multi_temperature", "cross_entropy"]
"""What a student learns from the teacher's logits; `cross_entropy` is from the labels alone."""


FeatureLoss = Literal["none", "hint", "attention", "fsp", "rkd", "crd"]
"""What a student learns from the teacher's inner layers."""


Schedule = Literal["constant", "linear", "cosine", "step", "warm_up"]
"""How a number goes from its start to its end through a training.

`constant` stays at the start. `linear` and `cosine` go to the end. `step` is the start until half
of the training, then the end. `warm_up` rises linearly from nothing (0; for the temperature 1) to
the start over the first fifth of the training and stays there; it has no end.
"""


TemperatureSchedule = Literal[Schedule, "decay"]
"""A `Schedule`, or `decay`: linearly to 1, whatever the end is."""


Optimiser = Literal["adamw", "sgd"]


Precision = Literal["fp32", "int8"]
"""The numbers that a student is computed in where it is deployed; it is trained in its own."""


TaughtBy = Literal["teacher", "assistant", "both"]
"""Who a student listens to; `both` is what teacher and assistant say together."""


Room = Literal["architecture", "precision", "recipe"]


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One searched dimension of the joint space, as any sampler can understand it.

    Attributes:
        label: Unique in the space.
        room: What it belongs to: the network, the numbers that it is deployed in, or how it is
            trained. What is known before training depends on the first two.
        choices: The values, where they are a set.
        low: Lower end, where they are a range.
        high: Upper end, included.
        step: Distance of neighbouring values; none for a continuous range.
        is_log: Whether the range is searched evenly in its logarithm.
        default: The value that a specialist would start from.
    """

    label: str
    room: Room
    choices: tuple[Scalar, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    is_log: bool = False
    default: Scalar = 0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a student is trained and deployed; what the recipe half of a sample freezes to.

    Attributes:
        alpha: Weight of the distillation loss against the labels' loss at the first epoch,
            in [0, 1]; 0 leaves the teacher's logits alone.
        alpha_end: The same at the last epoch; unused when `alpha_schedule` is constant or warm_up.
        alpha_schedule: How alpha goes from its start to its end: `linear`, `cosine`, `step` (the
            start until half of the training, then the end) or `warm_up` (from 0 to `alpha` over
            the first fifth of the training, then constant).
        temperature: Softens teacher and student; at least 1 for most pairs, always positive.
        temperature_end: The same at the last epoch; unused when `temperature_schedule` is
            constant, warm_up or decay.
        temperature_schedule: As of alpha, but `warm_up` rises from 1 to `temperature`, and `decay`
            lowers the temperature linearly to 1.
        loss: What is learnt from the teacher's logits: `soft_targets` (Hinton's), `dkd`, `dist`,
            `multi_temperature`; with `cross_entropy` the teacher is not listened to at all, which
            is plain supervised training.
        taught_by: Whose predictions and layers are meant wherever the teacher is named here.
        is_standardised: Whether each picture's logits, the teacher's and the student's, are
            brought to mean 0 and standard deviation 1 before the loss.
        is_adaptive: Whether each picture has its own temperature, between 1 where the teacher
            knows nothing and `temperature` where it is sure.
        dkd_beta: Weight of the classes other than the label's in `dkd`; unused otherwise.
        teacher_confidence: Pictures whose teacher's highest probability is below it are left out
            of the loss on logits; in [0, 1), 0 leaves none out.
        feature_loss: What is learnt from the teacher's inner layers besides.
        feature_weight: Factor of the paper's own weight of that loss at the first epoch.
        feature_weight_end: The same at the last epoch; unused when `feature_schedule` is constant
            or warm_up.
        feature_schedule: As of alpha.
        exits: Classifiers on earlier layers, taught by the student's own end and left out of
            what is exported; 0 for none.
        generations: How often the student is trained; each time after the first, its former self
            is the teacher.
        augmentation: What is done to each picture of a batch.
        magnitude: Strength of RandAugment in [0, 30]; unused otherwise.
        resizing: `progressive` shows the student smaller pictures at first: half the side for
            two fifths of the training, three quarters until seven tenths of it.
        mix: Whether pictures of a batch are mixed; teacher and student see the same mixture.
        mix_targets: What the teacher says of a mixture: `exact` asks it, `mixed` mixes what it
            said of both pictures, which costs nothing and is not the same; with a loss on
            features it is always `exact`.
        mix_alpha: Parameter of the Beta distribution of the mixing ratio; positive.
        label_smoothing: Share of the label's mass spread over all classes, in [0, 1).
        is_balanced: Whether labels are learnt as if all classes were as frequent as each other.
        optimiser: AdamW, or SGD with Nesterov momentum 0.9.
        learning_rate: Peak of a warm-up and cosine schedule.
        weight_decay: As the optimiser understands it; not applied to biases and norms.
        precision: What the student is deployed in; it is trained in floating point all the same.
    """

    alpha: float = 0.9
    alpha_end: float = 0.9
    alpha_schedule: Schedule = "constant"
    temperature: float = 4.0
    temperature_end: float = 1.0
    temperature_schedule: TemperatureSchedule = "constant"
    loss: Loss = "soft_targets"
    taught_by: TaughtBy = "teacher"
    is_standardised: bool = False
    is_adaptive: bool = False
    dkd_beta: float = 8.0
    teacher_confidence: float = 0.0
    feature_loss: FeatureLoss = "none"
    feature_weight: float = 1.0
    feature_weight_end: float = 0.0
    feature_schedule: Schedule = "constant"
    exits: int = 0
    generations: int = 1
    augmentation: Augmentation = "crop"
    magnitude: int = 0
    resizing: Resizing = "none"
    mix: Mix = "none"
    mix_targets: MixTargets = "mixed"
    mix_alpha: float = 0.2
    label_smoothing: float = 0.0
    is_balanced: bool = False
    optimiser: Optimiser = "adamw"
    learning_rate: float = 5e-3
    weight_decay: float = 5e-4
    precision: Precision = "fp32"

    @property
    def has_logit_loss(self) -> bool:
        """Whether what the teacher predicts is listened to at any time."""
        ends = _ends(self.alpha, self.alpha_end, schedule=self.alpha_schedule)
        return self.loss != "cross_entropy" and max(ends) > 0

    @property
    def has_feature_loss(self) -> bool:
        """Whether the teacher's inner layers are looked at at any time."""
        ends = _ends(self.feature_weight, self.feature_weight_end, schedule=self.feature_schedule)
        return self.loss != "cross_entropy" and self.feature_loss != "none" and max(ends) > 0

    @property
    def has_label_loss(self) -> bool:
        """Whether the labels' own loss has a weight at any time."""
        ends = _ends(self.alpha, self.alpha_end, schedule=self.alpha_schedule)
        return self.loss == "cross_entropy" or min(ends) < 1

    @property
    def is_distilled(self) -> bool:
        """Whether the teacher is listened to at any time."""
        return self.has_logit_loss or self.has_feature_loss

    @property
    def is_self_distilled(self) -> bool:
        """Whether the student teaches itself."""
        return self.exits > 0 or self.generations > 1

    @property
    def is_taught(self) -> bool:
        """Whether anything but the labels teaches: who is not is the baseline itself."""
        return self.is_distilled or self.is_self_distilled

    @property
    def is_replayable(self) -> bool:
        """Whether a step can be recorded for a GPU: no looks inside, pictures of one size."""
        return not self.has_feature_loss and self.exits == 0 and self.resizing == "none"

    @property
    def needs_all_logits(self) -> bool:
        """Whether the teacher's logits are looked at before a temperature softens them.

        A bank that keeps the likeliest classes alone does not tell how far the others spread.
        """
        return self.is_standardised or self.is_adaptive or self.teacher_confidence > 0

    @property
    def is_pure_distillation(self) -> bool:
        """Whether the labels are never listened to; `dkd` always asks for the label's class."""
        return not self.has_label_loss and self.loss != "dkd"


def _ends(start: float, end: float, *, schedule: Schedule) -> tuple[float, float]:
    """The two values between which a scheduled weight stays."""
    if schedule == "constant":
        return start, start
    return (0.0, start) if schedule == "warm_up" else (start, end)


RECIPE_PRIORS: Mapping[str, Mapping[str, Scalar]] = {
    "plain": {"alpha": 0.0, "alpha_schedule": "constant", "feature_loss": "none"},
    "textbook": {
        "loss": "soft_targets",
        "is_standardised": False,
        "is_adaptive": False,
        "feature_loss": "none",
        "alpha": 0.9,
        "alpha_schedule": "constant",
        "temperature": 4.0,
        "temperature_schedule": "constant",
    },
}
"""The two recipes every study starts from: no distillation, and Hinton's with T 4, alpha 0.9."""
