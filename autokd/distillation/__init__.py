"""How a student learns: losses, schedules, the engine of a step, one straight training loop."""

from autokd.distillation.engine import Engine, measure_engine
from autokd.distillation.losses import distillation_loss, label_loss, soft_target_loss
from autokd.distillation.schedules import alpha_at, temperature_at
from autokd.distillation.student import Student
from autokd.distillation.training import (
    Augment,
    Plan,
    Training,
    TrainingData,
    distill,
    evaluate,
)

__all__ = [
    "Augment",
    "Engine",
    "Plan",
    "Student",
    "Training",
    "TrainingData",
    "alpha_at",
    "distill",
    "distillation_loss",
    "evaluate",
    "label_loss",
    "measure_engine",
    "soft_target_loss",
    "temperature_at",
]
