"""One candidate: sample, student, latency, distillation, result; where the rooms meet."""

from autokd.candidate.artefacts import export_for
from autokd.candidate.checkpoints import CheckpointFile, CheckpointFolder
from autokd.candidate.dual_towers import build_towers
from autokd.candidate.engines import find_engine, learn_engine, move_engine, recall_engine
from autokd.candidate.evaluation import (
    Known,
    evaluate_candidate,
    explain_failure,
    inherit_candidate,
    recall_candidate,
    screen_candidate,
    settle_latency,
    train_candidate,
)
from autokd.candidate.federated import answer_public, describe_views, train_round
from autokd.candidate.gaze import find_gaze, watch
from autokd.candidate.inheritance import Relative, find_relative, inherit_weights
from autokd.candidate.int8_finalist import (
    Int8Finalist,
    count_rounding_epochs,
    quantize_finalist,
)
from autokd.candidate.objectives import KnownTeacher, check_objective
from autokd.candidate.pair_lesson import PairLesson
from autokd.candidate.precision import (
    INT8_SUFFIX,
    Quantized,
    check_calibration,
    choose_calibration,
    quantize_student,
    score_file,
)
from autokd.candidate.preparation import (
    Candidate,
    NetworkSample,
    Workshop,
    explain_int8,
    explain_slowness,
    prepare_candidate,
)
from autokd.candidate.quantization_aware import (
    QuantizationSettings,
    QuantizedTraining,
    train_quantized_student,
)
from autokd.candidate.students import build_student, load_student, save_student
from autokd.candidate.surveying import StudentSurveyor, describe_student
from autokd.candidate.training import train_student

__all__ = [
    "INT8_SUFFIX",
    "Candidate",
    "CheckpointFile",
    "CheckpointFolder",
    "Int8Finalist",
    "Known",
    "KnownTeacher",
    "NetworkSample",
    "PairLesson",
    "QuantizationSettings",
    "Quantized",
    "QuantizedTraining",
    "Relative",
    "StudentSurveyor",
    "Workshop",
    "answer_public",
    "build_student",
    "build_towers",
    "check_calibration",
    "check_objective",
    "choose_calibration",
    "count_rounding_epochs",
    "describe_student",
    "describe_views",
    "evaluate_candidate",
    "explain_failure",
    "explain_int8",
    "explain_slowness",
    "export_for",
    "find_engine",
    "find_gaze",
    "find_relative",
    "inherit_candidate",
    "inherit_weights",
    "learn_engine",
    "load_student",
    "move_engine",
    "prepare_candidate",
    "quantize_finalist",
    "quantize_student",
    "recall_candidate",
    "recall_engine",
    "save_student",
    "score_file",
    "screen_candidate",
    "settle_latency",
    "train_candidate",
    "train_quantized_student",
    "train_round",
    "train_student",
    "watch",
]
