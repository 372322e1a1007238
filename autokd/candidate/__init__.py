"""One candidate: sample, student, latency, distillation, result; where the rooms meet."""

from autokd.candidate.checkpoints import CheckpointFile, CheckpointFolder
from autokd.candidate.evaluation import (
    Architecture,
    Candidate,
    Known,
    Workshop,
    evaluate_candidate,
    inherit_candidate,
    prepare_candidate,
    screen_candidate,
    train_candidate,
)
from autokd.candidate.gaze import find_gaze, watch
from autokd.candidate.inheritance import Relative, find_relative, inherit_weights
from autokd.candidate.quantization_aware import (
    QuantizationSettings,
    QuantizedTraining,
    train_quantized_student,
)
from autokd.candidate.students import build_student, load_student, save_student
from autokd.candidate.surveying import StudentSurveyor, describe_student
from autokd.candidate.training import KnownTeacher, train_student

__all__ = [
    "Architecture",
    "Candidate",
    "CheckpointFile",
    "CheckpointFolder",
    "Known",
    "KnownTeacher",
    "QuantizationSettings",
    "QuantizedTraining",
    "Relative",
    "StudentSurveyor",
    "Workshop",
    "build_student",
    "describe_student",
    "evaluate_candidate",
    "find_gaze",
    "find_relative",
    "inherit_candidate",
    "inherit_weights",
    "load_student",
    "prepare_candidate",
    "save_student",
    "screen_candidate",
    "train_candidate",
    "train_quantized_student",
    "train_student",
    "watch",
]
