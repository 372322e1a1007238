"""The Optuna loop: sampler, resume, front, finals; the only room that imports optuna."""

from autokd.study.delivery import export
from autokd.study.folder import find_study, list_studies, load_front
from autokd.study.measuring import compare, measure
from autokd.study.session import search
from autokd.study.worker import work

__all__ = [
    "compare",
    "export",
    "find_study",
    "list_studies",
    "load_front",
    "measure",
    "search",
    "work",
]
