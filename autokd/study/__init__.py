"""The Optuna loop: sampler, resume, front, finals; the only room that imports optuna."""

from autokd.study.aligning import distill_clip
from autokd.study.auto_sampler import AutoSampler
from autokd.study.delivery import export, export_all
from autokd.study.distilling import Distilled, distill
from autokd.study.explaining import Explanation, explain
from autokd.study.federating import Federated, federate
from autokd.study.figures import draw_study
from autokd.study.folder import find_study, find_tracked, list_studies, load_front
from autokd.study.measuring import compare, measure
from autokd.study.session import search
from autokd.study.tower_results import AlignedTowers
from autokd.study.worker import work

__all__ = [
    "AlignedTowers",
    "AutoSampler",
    "Distilled",
    "Explanation",
    "Federated",
    "compare",
    "distill",
    "distill_clip",
    "draw_study",
    "explain",
    "export",
    "export_all",
    "federate",
    "find_study",
    "find_tracked",
    "list_studies",
    "load_front",
    "measure",
    "search",
    "work",
]
