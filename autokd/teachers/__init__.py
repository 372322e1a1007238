"""A teacher from any source: a frozen network that maps the student's view to logits.

`build_teacher_requests` reads what was asked for, `load_teacher` finds or makes it (`auto`, timm,
torchvision, a file, the user's Python), `evaluate_teacher` says how good it is and `check_teacher`
refuses one that knows nothing. `build_committee` joins several. `plan_assistants` and
`load_assistant` make what stands between a teacher and a student. What trains a network lives in
another room and comes in as a `FitNetwork` or, where a teacher teaches it, a `TeachNetwork`.
`load_clip` gives a teacher of two towers, for pictures and for texts.
"""

from autokd.teachers.assistants import plan_assistants
from autokd.teachers.bank import KnowledgeBank, expand_answers, is_abridged
from autokd.teachers.clip_teacher import ClipTeacher, Tokenise, load_clip
from autokd.teachers.committee import AnyTeacher, Committee, build_committee
from autokd.teachers.evaluation import check_teacher, evaluate_teacher
from autokd.teachers.loading import load_alone, load_assistant, load_teacher
from autokd.teachers.plans import FitNetwork, TeacherPlan, TeachNetwork
from autokd.teachers.preprocessing import Preprocessing
from autokd.teachers.requests import (
    TeacherRequest,
    build_assistant_requests,
    build_teacher_requests,
)
from autokd.teachers.teacher import Source, Teacher

__all__ = [
    "AnyTeacher",
    "ClipTeacher",
    "Committee",
    "FitNetwork",
    "KnowledgeBank",
    "Preprocessing",
    "Source",
    "TeachNetwork",
    "Teacher",
    "TeacherPlan",
    "TeacherRequest",
    "Tokenise",
    "build_assistant_requests",
    "build_committee",
    "build_teacher_requests",
    "check_teacher",
    "evaluate_teacher",
    "expand_answers",
    "is_abridged",
    "load_alone",
    "load_assistant",
    "load_clip",
    "load_teacher",
    "plan_assistants",
]
