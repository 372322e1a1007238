"""Which MLflow store a configuration means."""

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from autokd.config import Config, TowerConfig
from autokd.trackers.mlflow_tracker import MlflowTracker
from autokd.trackers.runs import StudyRuns
from autokd.trackers.spool import SpooledTracker
from autokd.types import Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["artifact_folder", "build_tracker", "find_runs", "is_local_store", "tracking_uri"]

_HOSTED = ("databricks", "databricks-uc")  # which MLflow takes for a service, not a path


def tracking_uri(config: Config | TowerConfig) -> str:
    """The MLflow store: the option, else MLFLOW_TRACKING_URI, else a database in the runs folder.

    Args:
        config: Of the study.

    Returns:
        A URI that means the same in every working directory, unless the user's own does not.
    """
    given = config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    return given or f"sqlite:///{(config.runs_dir.resolve() / 'mlflow.db').as_posix()}"


def is_local_store(config: Config | TowerConfig) -> bool:
    """Whether the MLflow store is files of this machine, rather than a server or its database.

    Args:
        config: Of the study.

    Returns:
        True of a path, of `file:` and of `sqlite:`, wherever those files are mounted from.
    """
    text = tracking_uri(config)
    uri = urlsplit(text)
    is_drive = len(uri.scheme) == 1
    is_path = uri.scheme in ("", "file", "sqlite") and uri.netloc in ("", "localhost")
    return (is_drive or is_path) and text not in _HOSTED


def artifact_folder(config: Config | TowerConfig) -> Path | None:
    """Where artefacts lie, or none where a server has its own place for them."""
    is_database = tracking_uri(config).startswith("sqlite:")
    return config.runs_dir.resolve() / "artifacts" if is_database else None


def find_runs(
    config: Config | TowerConfig,
    client: "MlflowClient",
    *,
    mark: str,
    proof: Mapping[str, float] = MappingProxyType({}),
) -> StudyRuns:
    """The runs of a study in its store.

    Args:
        config: Of the study.
        client: Of its store.
        mark: Of the study's folder, or none, as `StudyRuns` takes it.
        proof: Likewise.

    Returns:
        Its runs; nothing is looked up or made yet.
    """
    return StudyRuns(
        client,
        study=config.study_name,
        artifacts=artifact_folder(config),
        mark=mark,
        proof=proof,
    )


def build_tracker(config: Config, *, mark: Callable[[], str] = str) -> SpooledTracker:
    """The tracker of a study: MLflow, behind a spool in the study's folder.

    Args:
        config: Of the study.
        mark: Gives that of the study's folder; asked with the first event, which is told when the
            study has been found good.

    Returns:
        The tracker; it connects in a thread of its own, with the first event. mlflow is
        imported before: a process forked while another thread imports may wait for ever.
    """
    import_module("mlflow")

    uri, artifacts, study = tracking_uri(config), artifact_folder(config), config.study_name

    def connect() -> Tracker:
        config.runs_dir.mkdir(parents=True, exist_ok=True)
        return MlflowTracker(uri, artifacts=artifacts, study=study, mark=mark())

    return SpooledTracker(connect, folder=config.study_dir / "tracking")
