"""What is found of a trial after its study is over, added to its run in MLflow."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from autokd.config import Config
from autokd.trackers.connection import build_client, translated_errors
from autokd.trackers.runs import StudyRuns
from autokd.trackers.stores import artifact_folder, tracking_uri

__all__ = ["add_to_trial"]


def add_to_trial(
    config: Config,
    *,
    trial: int,
    metrics: Mapping[str, float],
    files: Sequence[Path],
    folder: str,
) -> None:
    """Adds metrics and files to the run of a trial; a `TrackingError` where MLflow is away.

    Args:
        config: Of the study.
        trial: Its number; it gets a run where it has none.
        metrics: Name to number.
        files: What is kept beside them.
        folder: Of the files among the run's artefacts.
    """
    from mlflow.entities import Metric

    uri, time_ms = tracking_uri(config), time.time_ns() // 1_000_000
    client = build_client(uri)
    with translated_errors(uri):
        runs = StudyRuns(client, study=config.study_name, artifacts=artifact_folder(config))
        run_id = runs.build_trial(trial, time_ms=time_ms)
        found = [Metric(name, float(value), time_ms, 0) for name, value in metrics.items()]
        client.log_batch(run_id, metrics=found)
        for file in files:
            client.log_artifact(run_id, str(file), folder)
