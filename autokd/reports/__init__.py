"""Pictures and tables of what a study has found."""

from autokd.reports.calibration import Calibration, draw_calibration, measure_calibration
from autokd.reports.confusion import count_confusions, draw_confusions, find_confusions
from autokd.reports.coordinates import draw_coordinates
from autokd.reports.curves import draw_curves
from autokd.reports.front import draw_front
from autokd.reports.importance import Importance, draw_importance
from autokd.reports.points import short_count
from autokd.reports.recalls import draw_recalls
from autokd.reports.saliency import build_grad_cam, correlate_maps, spread_maps, varies
from autokd.reports.sheets import Look, draw_looks
from autokd.reports.tables import front_table

__all__ = [
    "Calibration",
    "Importance",
    "Look",
    "build_grad_cam",
    "correlate_maps",
    "count_confusions",
    "draw_calibration",
    "draw_confusions",
    "draw_coordinates",
    "draw_curves",
    "draw_front",
    "draw_importance",
    "draw_looks",
    "draw_recalls",
    "find_confusions",
    "front_table",
    "measure_calibration",
    "short_count",
    "spread_maps",
    "varies",
]
