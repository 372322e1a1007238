"""A dual tower in MLflow: its study as an experiment, a run for each training below it."""

import hashlib
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autokd.config import TowerConfig, redacted
from autokd.trackers.batches import (
    add_figures,
    add_metrics,
    add_params,
    add_tags,
    build_metrics,
)
from autokd.trackers.connection import build_client, translated_errors, uploading
from autokd.trackers.runs import ENDED_TAG, StudyRuns
from autokd.trackers.stores import find_runs, tracking_uri
from autokd.types import EpochLog

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["TrainedTowers", "log_towers"]

_DIGEST_TAG = "autokd.digest"
_FIGURE = re.compile(r"(student|twin|teacher)_|gain(_ci95)?$")


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
    mark: str,
    metrics: Mapping[str, float],
    files: Sequence[Path],
) -> bool:
    """Log what is not there yet; told twice, nothing is there twice.

    A figure that the run has and the study has no longer (the gain, once its twin is left out)
    becomes NaN, for MLflow deletes none.

    A `TrackingError` says that the store cannot be used.

    Args:
        config: Of the study.
        trainings: All of them.
        mark: Of its folder. What stands under the same name with another mark is left alone.
        metrics: Of the study.
        files: Kept beside it.

    Returns:
        Whether a run was begun for it beside those of others of its name.
    """
    uri, now = tracking_uri(config), time.time_ns() // 1_000_000
    config.runs_dir.mkdir(parents=True, exist_ok=True)
    client = build_client(uri)
    with translated_errors(uri):
        # Times are taken anew whenever the towers are handed over.
        proof = {key: value for key, value in metrics.items() if not key.endswith("_ms")}
        runs = find_runs(config, client, mark=mark, proof=proof)
        settings = {key: redacted(str(value)) for key, value in config.settings().items()}
        add_params(client, runs.parent_id, values=settings)
        for one in trainings:
            _log_training(client, runs, one, now=now)
        known = client.get_run(runs.parent_id).data.metrics
        gone = dict.fromkeys(filter(_FIGURE.match, known.keys() - metrics.keys()), math.nan)
        add_figures(client, runs.parent_id, values={**gone, **metrics}, time_ms=now)
        for file in files:
            with uploading(uri):
                client.log_artifact(runs.parent_id, str(file), "towers")
        client.set_terminated(runs.parent_id, status="FINISHED")  # begun here, if it is the first
    return runs.is_new_beside_others


def _log_training(client: "MlflowClient", runs: StudyRuns, one: TrainedTowers, *, now: int) -> None:
    """A run with its curve; one of another training under this number is deleted."""
    known, digest = runs.find_trial(one.number), _digest(one)
    if known is not None:
        tags = client.get_run(known).data.tags
        if ENDED_TAG in tags and tags.get(_DIGEST_TAG, digest) == digest:
            return
    spent_ms = round(1000 * sum(row.seconds for row in one.curve))
    run_id = runs.restart_trial(one.number, time_ms=now - spent_ms)
    client.set_tag(run_id, "mlflow.runName", one.name)
    add_params(client, run_id, values=one.params)
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
        found += build_metrics(told, time_ms=time_ms, step=row.epoch)
    found += build_metrics(one.metrics, time_ms=now)
    add_metrics(client, run_id, metrics=found)
    add_tags(client, run_id, values={ENDED_TAG: str(now), _DIGEST_TAG: digest})
    client.set_terminated(run_id, status="FINISHED", end_time=now)


def _digest(one: TrainedTowers) -> str:
    """Tells a training from another under the same number."""
    parts = [[asdict(row) for row in one.curve], dict(one.metrics)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
