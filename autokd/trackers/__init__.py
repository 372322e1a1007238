"""Where a study is shown: MLflow, behind a spool that never blocks, and a plain in-memory tracker.

Importing this room does not import mlflow (it costs a second); the first connection does.
"""

from autokd.trackers.additions import add_rounds, add_to_trial
from autokd.trackers.memory import MemoryTracker, TrackedTrial
from autokd.trackers.mlflow_tracker import MlflowTracker
from autokd.trackers.registry import register_model
from autokd.trackers.runs import explain_namesake
from autokd.trackers.spool import SpooledTracker
from autokd.trackers.stores import build_tracker, is_local_store, tracking_uri
from autokd.trackers.tower_runs import TrainedTowers, log_towers
from autokd.trackers.ui import serve_ui

__all__ = [
    "MemoryTracker",
    "MlflowTracker",
    "SpooledTracker",
    "TrackedTrial",
    "TrainedTowers",
    "add_rounds",
    "add_to_trial",
    "build_tracker",
    "explain_namesake",
    "is_local_store",
    "log_towers",
    "register_model",
    "serve_ui",
    "tracking_uri",
]
