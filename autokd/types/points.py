"""One point of the joint space: its dimensions, its sample and the recipe that it freezes to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "RECIPE_PRIORS",
    "AlphaSchedule",
    "Augmentation",
    "Dimension",
    "InputShape",
    "Mix",
    "Optimiser",
    "Recipe",
    "Sample",
    "Scalar",
    "TemperatureSchedule",
]

Scalar = str | int | float | bool


Sample = dict[str, Scalar]
"""One point of the joint space: label of a dimension to its value."""


InputShape = tuple[int, int, int]
"""Channels, height and width of one picture, in pixels."""


Augmentation = Literal["none", "crop", "flip_crop", "randaugment"]


Mix = Literal["none", "mixup", "cutmix"]


AlphaSchedule = Literal["constant", "linear", "cosine"]


TemperatureSchedule = Literal["constant", "decay"]


Optimiser = Literal["adamw", "sgd"]


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One searched dimension of the joint space, as any sampler can understand it.

    Attributes:
        label: Unique in the space.
        room: Which half of the space it belongs to.
        choices: The values, where they are a set.
        low: Lower end, where they are a range.
        high: Upper end, included.
        step: Distance of neighbouring values; none for a continuous range.
        is_log: Whether the range is searched evenly in its logarithm.
        default: The value that a specialist would start from.
    """

    label: str
    room: Literal["architecture", "recipe"]
    choices: tuple[Scalar, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    is_log: bool = False
    default: Scalar = 0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a student is trained; what the recipe half of a sample freezes to.

    Attributes:
        alpha: Weight of the distillation loss against the labels' loss at the first epoch,
            in [0, 1]; 0 is plain supervised training.
        alpha_end: The same at the last epoch; unused when `alpha_schedule` is constant.
        alpha_schedule: How alpha goes from its start to its end.
        temperature: Softens teacher and student; at least 1 for most pairs, always positive.
        temperature_schedule: `decay` lowers the temperature linearly to 1.
        augmentation: What is done to each picture of a batch.
        magnitude: Strength of RandAugment in [0, 30]; unused otherwise.
        mix: Whether pictures of a batch are mixed; teacher and student see the same mixture.
        mix_alpha: Parameter of the Beta distribution of the mixing ratio; positive.
        label_smoothing: Share of the label's mass spread over all classes, in [0, 1).
        optimiser: AdamW, or SGD with Nesterov momentum 0.9.
        learning_rate: Peak of a warm-up and cosine schedule.
        weight_decay: As the optimiser understands it; not applied to biases and norms.
    """

    alpha: float = 0.9
    alpha_end: float = 0.9
    alpha_schedule: AlphaSchedule = "constant"
    temperature: float = 4.0
    temperature_schedule: TemperatureSchedule = "constant"
    augmentation: Augmentation = "crop"
    magnitude: int = 0
    mix: Mix = "none"
    mix_alpha: float = 0.2
    label_smoothing: float = 0.0
    optimiser: Optimiser = "adamw"
    learning_rate: float = 5e-3
    weight_decay: float = 5e-4

    @property
    def is_distilled(self) -> bool:
        """Whether the teacher is listened to at any time."""
        return self.alpha > 0 or (self.alpha_schedule != "constant" and self.alpha_end > 0)

    @property
    def is_pure_distillation(self) -> bool:
        """Whether the labels are never listened to."""
        return self.alpha == 1 and (self.alpha_schedule == "constant" or self.alpha_end == 1)


RECIPE_PRIORS: Mapping[str, Mapping[str, Scalar]] = {
    "plain": {"alpha": 0.0, "alpha_schedule": "constant"},
    "textbook": {
        "alpha": 0.9,
        "alpha_schedule": "constant",
        "temperature": 4.0,
        "temperature_schedule": "constant",
    },
}
"""The two recipes every study starts from: no distillation, and Hinton's with T 4, alpha 0.9."""
