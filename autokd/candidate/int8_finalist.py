"""The INT8 file of a finalist: quantized as it is or trained on to bear it, the better one."""

import dataclasses
import math
from collections.abc import Collection
from pathlib import Path

from torch import nn

from autokd.candidate.evaluation import explain_failure
from autokd.candidate.objectives import KnownTeacher
from autokd.candidate.precision import quantize_student
from autokd.candidate.quantization_aware import QuantizationSettings, train_quantized_student
from autokd.data import SearchData
from autokd.distillation import Keeper, OnEpoch, Plan
from autokd.types import EpochLog, Recipe

__all__ = ["Int8Finalist", "count_rounding_epochs", "quantize_finalist"]

_SHARE = 1 / 3  # of the epochs of the training before


@dataclasses.dataclass(frozen=True, kw_only=True)
class Int8Finalist:
    """A finalist in INT8.

    Attributes:
        val_accuracy: Of the file in the runtime, in [0, 1].
        is_aware: Whether it is the file of the quantization-aware training, and not that of the
            student as it was before.
        curve: Of the quantization-aware training, its epochs counted on.
        is_stopped: Whether that was ended before its last epoch; nothing is settled then.
        reason: Why nothing came of that training, where nothing did.
    """

    val_accuracy: float
    is_aware: bool
    curve: tuple[EpochLog, ...]
    is_stopped: bool = False
    reason: str = ""


def count_rounding_epochs(epochs: int) -> int:
    """How many epochs a student is trained on to bear INT8, after so many in floating point."""
    return math.ceil(_SHARE * epochs)


def quantize_finalist(  # noqa: PLR0913 - everything that meets in a training, and the file
    student: nn.Module,
    recipe: Recipe,
    *,
    path: Path,
    data: SearchData,
    teacher: KnownTeacher | None,
    plan: Plan,
    float_layers: Collection[str] | None,
    n_before: int,
    on_epoch: OnEpoch,
    keeper: Keeper,
    weight_bits: int | None = None,
) -> Int8Finalist:
    """Quantizes a trained student both ways and keeps the file that is better on validation.

    Without a teacher it does not listen to its former self either, so that a twin without
    distillation is one in INT8 too.

    Args:
        student: Trained in floating point, not changed.
        recipe: As it was trained.
        path: The file to write.
        data: To calibrate, to train and to choose on.
        teacher: Who teaches, if the recipe distils.
        plan: Epochs of the quantization-aware training, batch, seed, device.
        float_layers: Layers that static quantization leaves in FP32; found if none are given.
        n_before: Epochs that it was trained for.
        on_epoch: Called after each epoch, counted on; may end the training.
        keeper: Keeps the quantization-aware training.
        weight_bits: As the processor wants it that the file is deployed to; this one if none.

    Returns:
        What is known of the file.
    """
    static = quantize_student(
        student,
        path,
        data=data,
        float_layers=float_layers,
        seed=plan.seed,
        weight_bits=weight_bits,
    ).val_accuracy
    aware = path.with_suffix(".aware.onnx")

    def tell(row: EpochLog) -> object:
        return on_epoch(dataclasses.replace(row, epoch=row.epoch + n_before))

    try:
        trained = train_quantized_student(
            student,
            recipe,
            data=data,
            teacher=teacher,
            plan=plan,
            model=aware,
            settings=QuantizationSettings(
                self_weight=1.0 if recipe.is_taught else 0.0, weight_bits=weight_bits
            ),
            on_epoch=tell,
            keeper=keeper,
        )
    except Exception as error:
        aware.unlink(missing_ok=True)
        if not (reason := explain_failure(error)):
            raise
        return Int8Finalist(val_accuracy=static, is_aware=False, curve=(), reason=reason)
    curve = tuple(
        dataclasses.replace(row, epoch=row.epoch + n_before) for row in trained.training.curve
    )
    if trained.model is None:
        return Int8Finalist(val_accuracy=static, is_aware=False, curve=curve, is_stopped=True)
    is_better = trained.val_accuracy >= static
    if is_better:
        aware.replace(path)
    aware.unlink(missing_ok=True)
    return Int8Finalist(
        val_accuracy=max(static, trained.val_accuracy), is_aware=is_better, curve=curve
    )
