"""How a student learns: losses, schedules, the engine of a step, one straight training loop."""

from autokd.distillation.alignment import (
    Alignment,
    Exam,
    Lesson,
    PairBatch,
    TeacherRows,
    align,
)
from autokd.distillation.checkpoint import Checkpoint, Keeper
from autokd.distillation.contrastive import (
    clip_loss,
    embedding_loss,
    interactive_loss,
    relational_loss,
)
from autokd.distillation.engine import Engine, clamp_threads, count_cores, measure_engine
from autokd.distillation.evaluation import evaluate
from autokd.distillation.exits import ExitTeaching, build_exits
from autokd.distillation.feature_losses import (
    angle_loss,
    attention_loss,
    contrastive_loss,
    distance_loss,
    fsp_loss,
    fsp_matrix,
    hint_loss,
)
from autokd.distillation.feature_reader import FeatureReader
from autokd.distillation.features import (
    FeatureKind,
    FeatureObjective,
    build_feature_objective,
    check_paths,
)
from autokd.distillation.lens import Lens
from autokd.distillation.logit_losses import (
    adaptive_temperature,
    dist_loss,
    dkd_loss,
    multi_temperature_loss,
    soft_target_loss,
    standardise,
)
from autokd.distillation.losses import (
    consensus_loss,
    distillation_loss,
    label_loss,
    teacher_loss,
)
from autokd.distillation.memory import keep_freed_memory
from autokd.distillation.plan import Augment, OnEpoch, Plan, Training, TrainingData
from autokd.distillation.quantization import QuantizedStudent, build_quantized_student
from autokd.distillation.retrieval import Retrieval, measure_retrieval, measure_zero_shot
from autokd.distillation.schedules import alpha_at, feature_weight_at, scale_at, temperature_at
from autokd.distillation.student import Student
from autokd.distillation.taps import Tap, find_embedding, find_taps, match_taps, named_taps
from autokd.distillation.teaching import (
    FeatureTeaching,
    LiveTeacher,
    OriginalTeaching,
    RememberedTeacher,
    Teaching,
    Views,
)
from autokd.distillation.towers import DualTower, ImageTower, TextTower
from autokd.distillation.training import distill

__all__ = [
    "Alignment",
    "Augment",
    "Checkpoint",
    "DualTower",
    "Engine",
    "Exam",
    "ExitTeaching",
    "FeatureKind",
    "FeatureObjective",
    "FeatureReader",
    "FeatureTeaching",
    "ImageTower",
    "Keeper",
    "Lens",
    "Lesson",
    "LiveTeacher",
    "OnEpoch",
    "OriginalTeaching",
    "PairBatch",
    "Plan",
    "QuantizedStudent",
    "RememberedTeacher",
    "Retrieval",
    "Student",
    "Tap",
    "TeacherRows",
    "Teaching",
    "TextTower",
    "Training",
    "TrainingData",
    "Views",
    "adaptive_temperature",
    "align",
    "alpha_at",
    "angle_loss",
    "attention_loss",
    "build_exits",
    "build_feature_objective",
    "build_quantized_student",
    "check_paths",
    "clamp_threads",
    "clip_loss",
    "consensus_loss",
    "contrastive_loss",
    "count_cores",
    "dist_loss",
    "distance_loss",
    "distill",
    "distillation_loss",
    "dkd_loss",
    "embedding_loss",
    "evaluate",
    "feature_weight_at",
    "find_embedding",
    "find_taps",
    "fsp_loss",
    "fsp_matrix",
    "hint_loss",
    "interactive_loss",
    "keep_freed_memory",
    "label_loss",
    "match_taps",
    "measure_engine",
    "measure_retrieval",
    "measure_zero_shot",
    "multi_temperature_loss",
    "named_taps",
    "relational_loss",
    "scale_at",
    "soft_target_loss",
    "standardise",
    "teacher_loss",
    "temperature_at",
]
