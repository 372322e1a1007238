"""What is found of a study or a trial when it is over, added to its run in MLflow."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from autokd.config import Config, redacted
from autokd.trackers.batches import add_figures, add_metrics, add_params, build_metrics
from autokd.trackers.connection import build_client, translated_errors, uploading
from autokd.trackers.stores import find_runs, tracking_uri

__all__ = ["add_rounds", "add_to_trial"]


def add_to_trial(
    config: Config,
    *,
    trial: int,
    metrics: Mapping[str, float],
    files: Sequence[Path],
    folder: str,
    mark: str = "",
    proof: Mapping[str, float] = MappingProxyType({}),
) -> None:
    """Adds metrics and files to the run of a trial; a `TrackingError` where MLflow is away.

    Args:
        config: Of the study.
        trial: Its number; it gets a run where it has none.
        metrics: Name to number.
        files: What is kept beside them.
        folder: Of the files among the run's artefacts.
        mark: Of the study's folder, where its run has one.
        proof: As `StudyRuns` takes it.
    """
    from mlflow.entities import Metric

    uri, time_ms = tracking_uri(config), time.time_ns() // 1_000_000
    client = build_client(uri)
    with translated_errors(uri):
        runs = find_runs(config, client, mark=mark, proof=proof)
        run_id = runs.add_trial(trial, time_ms=time_ms)
        runs.end_made()
        found = [Metric(name, float(value), time_ms, 0) for name, value in metrics.items()]
        client.log_batch(run_id, metrics=found)
        for file in files:
            with uploading(uri):
                client.log_artifact(run_id, str(file), folder)


def add_rounds(
    config: Config,
    *,
    mark: str,
    params: Mapping[str, object],
    rounds: Sequence[Mapping[str, float]],
    metrics: Mapping[str, float],
) -> bool:
    """Adds the rounds of a site to the run of its study; a `TrackingError` where MLflow is away.

    Told twice, nothing is there twice.

    Args:
        config: Of the study.
        mark: Of its folder. What stands under the same name with another mark is left alone.
        params: Name to value.
        rounds: Of each, name to number; the first is round 0.
        metrics: What came of all of them.

    Returns:
        Whether a run was begun for it beside those of others of its name.
    """
    uri, time_ms = tracking_uri(config), time.time_ns() // 1_000_000
    client, fresh = build_client(uri), []
    with translated_errors(uri):
        runs = find_runs(config, client, mark=mark, proof=metrics)
        run_id = runs.parent_id
        for name in rounds[0]:
            key = f"round_{name}"
            told = {one.step for one in client.get_metric_history(run_id, key)}
            for step, row in enumerate(rounds):
                if step not in told:
                    fresh += build_metrics({key: row[name]}, time_ms=time_ms, step=step)
        add_metrics(client, run_id, metrics=fresh)
        add_figures(client, run_id, values=metrics, time_ms=time_ms)
        values = {name: redacted(str(value)) for name, value in params.items()}
        add_params(client, run_id, values=values)
        client.set_terminated(run_id, status="FINISHED")  # begun here, if it is the first
    return runs.is_new_beside_others
