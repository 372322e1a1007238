"""A teacher from any source: a frozen network that maps the student's view to logits.

`load_teacher` finds or makes it (`auto`, timm, torchvision, a file, the user's Python),
`evaluate_teacher` says how good it is and `check_teacher` refuses one that knows nothing. What
trains a network lives in another room and comes in as a `FitNetwork`.
"""

from autokd.teachers.bank import KnowledgeBank
from autokd.teachers.evaluation import check_teacher, evaluate_teacher
from autokd.teachers.loading import load_teacher
from autokd.teachers.plans import FitNetwork, TeacherPlan
from autokd.teachers.preprocessing import Preprocessing
from autokd.teachers.teacher import Source, Teacher

__all__ = [
    "FitNetwork",
    "KnowledgeBank",
    "Preprocessing",
    "Source",
    "Teacher",
    "TeacherPlan",
    "check_teacher",
    "evaluate_teacher",
    "load_teacher",
]
