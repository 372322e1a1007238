"""The Optuna loop: sampler, resume, front, finals; the only room that imports optuna."""

from autokd.study.delivery import export
from autokd.study.explaining import Explanation, explain
from autokd.study.folder import find_study, list_studies
from autokd.study.session import load_front, search
from autokd.study.worker import work

__all__ = [
    "Explanation",
    "explain",
    "export",
    "find_study",
    "list_studies",
    "load_front",
    "search",
    "work",
]
