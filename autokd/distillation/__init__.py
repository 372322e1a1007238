"""How a student learns: losses, schedules, the engine of a step, one straight training loop."""

from autokd.distillation.engine import Engine, measure_engine
from autokd.distillation.logit_losses import (
    adaptive_temperature,
    dist_loss,
    dkd_loss,
    multi_temperature_loss,
    soft_target_loss,
    standardise,
)
from autokd.distillation.losses import distillation_loss, label_loss, teacher_loss
from autokd.distillation.schedules import alpha_at, feature_weight_at, temperature_at
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
    "adaptive_temperature",
    "alpha_at",
    "dist_loss",
    "distill",
    "distillation_loss",
    "dkd_loss",
    "evaluate",
    "feature_weight_at",
    "label_loss",
    "measure_engine",
    "multi_temperature_loss",
    "soft_target_loss",
    "standardise",
    "teacher_loss",
    "temperature_at",
]
