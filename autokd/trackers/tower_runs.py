"""A dual tower in MLflow: its study as an experiment, a run for each training below it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autokd.config import TowerConfig, redacted
from autokd.trackers.connection import build_client, translated_errors
from autokd.trackers.runs import ENDED_TAG, StudyRuns
from autokd.trackers.stores import artifact_folder, tracking_uri
from autokd.types import EpochLog

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["TrainedTowers", "log_towers"]

_MAX_VALUE = 500


@dataclass(frozen=True, kw_only=True)
class TrainedTowers:
    """One training, as MLflow shows it.

    Attributes:
        number: Of its run among those of the study.
        name: What was trained.
        curve: A row an epoch.
        metrics: What came of it.
        params: What it was trained with, beside the settings of the study.
    """

    number: int
    name: str
    curve: Sequence[EpochLog]
    metrics: Mapping[str, float]
    params: Mapping[str, str]


def log_towers(
    config: TowerConfig,
    trainings: Sequence[TrainedTowers],
    *,
    metrics: Mapping[str, float],
    files: Sequence[Path],
) -> None:
    """Log what is not there yet; told twice, nothing is there twice.

    A `TrackingError` says that the store cannot be used.

    Args:
        config: Of the study.
        trainings: All of them.
        metrics: Of the study.
        files: Kept beside it.
    """
    from mlflow.entities import Metric, Param

    uri, now = tracking_uri(config), time.time_ns() // 1_000_000
    config.runs_dir.mkdir(parents=True, exist_ok=True)
    client = build_client(uri)
    with translated_errors(uri):
        runs = StudyRuns(client, study=config.study_name, artifacts=artifact_folder(config))
        there = client.get_run(runs.parent_id).data.params
        settings = {k: redacted(str(v))[:_MAX_VALUE] for k, v in config.settings().items()}
        fresh = [Param(key, value) for key, value in settings.items() if key not in there]
        client.log_batch(runs.parent_id, params=fresh)
        for one in trainings:
            _log_training(client, runs, one, now=now)
        values = [Metric(key, float(value), now, 0) for key, value in metrics.items()]
        client.log_batch(runs.parent_id, metrics=values)
        for file in files:
            client.log_artifact(runs.parent_id, str(file), "towers")
        client.set_terminated(runs.parent_id, status="FINISHED")  # begun here, if it is the first


def _log_training(client: "MlflowClient", runs: StudyRuns, one: TrainedTowers, *, now: int) -> None:
    """A run with its curve."""
    from mlflow.entities import Metric, Param

    spent_ms = round(1000 * sum(row.seconds for row in one.curve))
    run_id = runs.build_trial(one.number, time_ms=now - spent_ms)
    if ENDED_TAG in client.get_run(run_id).data.tags:
        return
    client.set_tag(run_id, "mlflow.runName", one.name)
    client.log_batch(run_id, params=[Param(key, value) for key, value in one.params.items()])
    time_ms, found = now - spent_ms, []
    for row in one.curve:
        time_ms += round(1000 * row.seconds)
        told = {
            "val_recall": row.val_accuracy,
            "val_loss": row.val_loss,
            "train_loss": row.train_loss,
            "learning_rate": row.learning_rate,
            "temperature": row.temperature,
        }
        found += [Metric(key, float(value), time_ms, row.epoch) for key, value in told.items()]
    found += [Metric(key, float(value), now, 0) for key, value in one.metrics.items()]
    for start in range(0, len(found), 500):
        client.log_batch(run_id, metrics=found[start : start + 500])
    client.set_tag(run_id, ENDED_TAG, str(now))
    client.set_terminated(run_id, status="FINISHED", end_time=now)
