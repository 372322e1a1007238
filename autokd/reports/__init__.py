"""Pictures and tables of what a study has found."""

from autokd.reports.coordinates import draw_coordinates
from autokd.reports.curves import draw_curves
from autokd.reports.front import draw_front
from autokd.reports.importance import draw_importance
from autokd.reports.saliency import build_grad_cam, correlate_maps, spread_maps
from autokd.reports.sheets import Look, draw_looks
from autokd.reports.tables import front_table

__all__ = [
    "Look",
    "build_grad_cam",
    "correlate_maps",
    "draw_coordinates",
    "draw_curves",
    "draw_front",
    "draw_importance",
    "draw_looks",
    "front_table",
    "spread_maps",
]
