"""One candidate: sample, student, latency, distillation, result; where the rooms meet."""

from autokd.candidate.artefacts import export_for
from autokd.candidate.checkpoints import CheckpointFile, CheckpointFolder
from autokd.candidate.evaluation import (
    Architecture,
    Candidate,
    Known,
    Workshop,
    evaluate_candidate,
    prepare_candidate,
    screen_candidate,
    train_candidate,
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
    "StudentSurveyor",
    "Workshop",
    "build_student",
    "describe_student",
    "evaluate_candidate",
    "export_for",
    "load_student",
    "prepare_candidate",
    "save_student",
    "screen_candidate",
    "train_candidate",
    "train_student",
]
