"""Pictures and tables of what a study has found."""

from autokd.reports.curves import draw_curves
from autokd.reports.front import draw_front
from autokd.reports.tables import front_table

__all__ = ["draw_curves", "draw_front", "front_table"]
