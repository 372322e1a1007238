"""A trained student is trained on until it bears 8 bits: teacher, former self and file are joined.

One objective: the labels, the teacher's soft targets, and what the student itself said in
floating point. Step by step from there: observers, then rounded weights, then rounded activations.

References:
    Mishra & Marr, "Apprentice: Using Knowledge Distillation Techniques To Improve Low-Precision
    Network Accuracy", 2017, scheme C. https://arxiv.org/abs/1711.05852
    Polino, Pascanu & Alistarh, "Model compression via distillation and quantization", 2018,
    section 3. https://arxiv.org/abs/1802.05668
"""

import copy
import dataclasses
from pathlib import Path

from torch import nn

from autokd.candidate.objectives import KnownTeacher
from autokd.candidate.precision import score_file
from autokd.candidate.training import train_once
from autokd.data import SearchData, join_unlabelled
from autokd.distillation import (
    Engine,
    Keeper,
    OnEpoch,
    OriginalTeaching,
    Plan,
    Training,
    alpha_at,
    build_quantized_student,
)
from autokd.errors import ExportError
from autokd.exporters import export_quantized, safe_weight_bits
from autokd.types import Recipe

__all__ = ["QuantizationSettings", "QuantizedTraining", "train_quantized_student"]

_TOLERANCE = 0.02  # between the accuracy while training and that of the file
_LEAST_PICTURES = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizationSettings:
    """How a trained student is trained on.

    Attributes:
        learning_rate_ratio: Of the recipe's learning rate, the peak; it falls as a cosine.
        self_weight: Factor of the loss against the student's own float self; 0 for none.
        weight_bits: 8, or 7 for processors whose sums of products overflow; what onnxruntime
            computes with exactly on this one if none.
    """

    learning_rate_ratio: float = 0.1
    self_weight: float = 1.0
    weight_bits: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizedTraining:
    """What came of it.

    Attributes:
        training: The curve; its accuracies are those of the student with everything rounded.
        model: The INT8 file; none where the training was ended before its last epoch.
        val_accuracy: Of the file in onnxruntime, in [0, 1]; while it is not there, of the student
            with everything rounded.
        weight_bits: How many the weights have.
    """

    training: Training
    model: Path | None
    val_accuracy: float
    weight_bits: int


def train_quantized_student(  # noqa: PLR0913 - everything that meets in a training, and the file
    student: nn.Module,
    recipe: Recipe,
    *,
    data: SearchData,
    teacher: KnownTeacher | None,
    plan: Plan,
    model: Path,
    settings: QuantizationSettings = QuantizationSettings(),
    on_epoch: OnEpoch = lambda _: None,
    keeper: Keeper | None = None,
) -> QuantizedTraining:
    """Quantization-aware distillation of a trained student, and its INT8 file.

    The file holds the epoch with the highest accuracy on validation pictures, everything rounded.
    A loss that is not finite any more ends it with a `DivergedError`, an operation that cannot be
    traced with a `BuildError`.

    Args:
        student: Trained in floating point; takes pictures in [0, 1], gives logits. Not changed.
        recipe: As it was trained; loss, alpha, temperature, augmentation and optimiser are kept.
        data: Training and validation pictures.
        teacher: Who teaches; may be none where the recipe does not distil.
        plan: Epochs of this training (a quarter of the student's own is a good start), batch,
            seed and device.
        model: The file to write.
        settings: Learning rate, loss and bits.
        on_epoch: Called after each epoch; may end the training.
        keeper: Keeps the training after each epoch; where it has kept one, that goes on.

    Returns:
        Curve, file and its accuracy in onnxruntime.
    """
    weight_bits = settings.weight_bits or safe_weight_bits()
    original = _original_of(student, recipe, plan=plan, settings=settings)
    recipe = _recipe_of(recipe, settings)
    pictures = join_unlabelled(data) if recipe.is_distilled else data
    n_pictures = len(pictures.train_images)
    n_steps = n_pictures // min(plan.batch_size, n_pictures) * plan.epochs
    example = data.train_images[:2].float() / 255
    rounded = build_quantized_student(student, example, n_steps=n_steps, weight_bits=weight_bits)
    training = train_once(
        rounded,
        recipe,
        data=data,
        teacher=teacher,
        plan=_plan_of(plan),
        on_epoch=on_epoch,
        keeper=keeper,
        original=original,
    )
    if training.is_stopped:
        return QuantizedTraining(
            training=training,
            model=None,
            val_accuracy=training.val_accuracy,
            weight_bits=weight_bits,
        )
    export_quantized(rounded.settle(), model, shape=data.card.shape)
    return QuantizedTraining(
        training=training,
        model=model,
        val_accuracy=_score(model, data, expected=training.val_accuracy),
        weight_bits=weight_bits,
    )


def _recipe_of(recipe: Recipe, settings: QuantizationSettings) -> Recipe:
    """The recipe, its teacher at its loudest, without what only a first training needs."""
    return dataclasses.replace(
        recipe,
        learning_rate=recipe.learning_rate * settings.learning_rate_ratio,
        alpha=max(recipe.alpha, alpha_at(recipe, 1.0)),
        alpha_schedule="constant",
        temperature_schedule="constant",
        feature_loss="none",
        exits=0,
        generations=1,
        resizing="none",
    )


def _plan_of(plan: Plan) -> Plan:
    """The plan in FP32: in bfloat16 there would be two roundings, one of them not the runtime's."""
    engine = plan.engine or Engine(device=plan.device, is_channels_last=True)
    return dataclasses.replace(
        plan, engine=dataclasses.replace(engine, is_bf16=False, is_graphed=False)
    )


def _original_of(
    student: nn.Module, recipe: Recipe, *, plan: Plan, settings: QuantizationSettings
) -> OriginalTeaching | None:
    if settings.self_weight == 0:
        return None
    frozen = copy.deepcopy(student).eval().requires_grad_(requires_grad=False)
    return OriginalTeaching(
        frozen.to(plan.device), temperature=recipe.temperature, weight=settings.self_weight
    )


def _score(model: Path, data: SearchData, *, expected: float) -> float:
    """Accuracy of a file in onnxruntime.

    Returns:
        The share of validation pictures that it gets right.

    Raises:
        ExportError: It is not that of the student.
    """
    accuracy, n = score_file(model, data.val_images, data.val_labels), len(data.val_labels)
    if abs(accuracy - expected) * n > _TOLERANCE * max(_LEAST_PICTURES, n):
        raise ExportError(
            f"{model.name} must be as accurate as the student it was written from "
            f"({expected:.2%}), got {accuracy:.2%} in onnxruntime"
        )
    return accuracy
