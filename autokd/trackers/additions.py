"""What is found of a study or a trial when it is over, added to its run in MLflow."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from autokd.config import Config, redacted
from autokd.trackers.connection import build_client, translated_errors
from autokd.trackers.runs import StudyRuns
from autokd.trackers.stores import artifact_folder, tracking_uri

__all__ = ["add_rounds", "add_to_trial"]

_MAX_VALUE = 6000  # characters of a param, as MLflow limits them


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


def add_rounds(
    config: Config,
    *,
    params: Mapping[str, object],
    rounds: Sequence[Mapping[str, float]],
    metrics: Mapping[str, float],
) -> None:
    """Adds the rounds of a site to the run of its study; a `TrackingError` where MLflow is away.

    Args:
        config: Of the study.
        params: Name to value.
        rounds: Of each, name to number; the first is round 0.
        metrics: What came of all of them; where the run has them, nothing is added twice.
    """
    from mlflow.entities import Metric, Param

    uri, time_ms = tracking_uri(config), time.time_ns() // 1_000_000
    client = build_client(uri)
    with translated_errors(uri):
        runs = StudyRuns(client, study=config.study_name, artifacts=artifact_folder(config))
        run_id = runs.parent_id
        if client.get_run(run_id).data.metrics.keys() >= metrics.keys():
            return
        told = [
            (f"round_{name}", value, step)
            for step, row in enumerate(rounds)
            for name, value in row.items()
        ]
        told += [(name, value, 0) for name, value in metrics.items()]
        client.log_batch(
            run_id,
            metrics=[Metric(name, float(value), time_ms, step) for name, value, step in told],
            params=[
                Param(name, redacted(str(value))[:_MAX_VALUE]) for name, value in params.items()
            ],
        )
        client.set_terminated(run_id, status="FINISHED")  # begun here, if it is the first
