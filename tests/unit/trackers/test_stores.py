"""Which store a configuration means, and that importing the room is free."""

import subprocess
import sys
from pathlib import Path

import pytest

from autokd.config import Config
from autokd.trackers import build_tracker, is_local_store, tracking_uri
from autokd.trackers.connection import build_client
from autokd.trackers.stores import artifact_folder
from tests.contracts.tracker_contract import copy_store, study


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_the_option_wins_over_the_environment_and_that_over_the_runs_folder(tmp_path, monkeypatch):
    config = Config(runs_dir=tmp_path)
    assert tracking_uri(config) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://env")
    assert tracking_uri(config) == "http://env"
    assert tracking_uri(Config(runs_dir=tmp_path, tracking_uri="http://option")) == "http://option"


def test_the_store_does_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config(runs_dir=Path("runs"))
    assert tracking_uri(config) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert artifact_folder(config) == tmp_path / "runs/artifacts"


@pytest.mark.parametrize(
    ("uri", "is_local"),
    [
        (None, True),
        ("sqlite:///runs.db", True),
        ("sqlite:////mnt/runs.db", True),
        ("file:///mnt/runs", True),
        ("file://other-host/runs", False),
        ("./runs", True),
        ("C:\\runs", True),
        ("http://localhost:5000", False),
        ("https://me:secret@host", False),
        ("postgresql://host/runs", False),
        ("databricks", False),
        ("databricks://profile", False),
    ],
)
def test_a_store_is_of_this_machine_where_it_is_files(tmp_path, uri, is_local):
    assert is_local_store(Config(runs_dir=tmp_path, tracking_uri=uri)) == is_local


def test_a_server_keeps_artefacts_in_its_own_place(tmp_path):
    assert artifact_folder(Config(runs_dir=tmp_path, tracking_uri="http://server")) is None


# mlflow's own mappers, under a recent SQLAlchemy
def test_a_study_lands_in_the_database_of_the_runs_folder(tmp_path):
    from mlflow import MlflowClient

    uri = copy_store(tmp_path)
    tracker = build_tracker(Config(runs_dir=tmp_path, study="digits"))
    for event in study():
        tracker.log(event)
    tracker.close()
    assert tracker.n_unsent == 0
    experiment = MlflowClient(uri).get_experiment_by_name("digits")
    assert experiment.artifact_location == (tmp_path / "artifacts/digits").as_uri()
    assert (tmp_path / "studies/digits/tracking/events.jsonl").read_text().count("\n") == 10


def test_importing_the_room_does_not_import_mlflow():
    code = "import sys, autokd.trackers; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# mlflow's own mappers, under a recent SQLAlchemy
def test_a_database_is_there_with_all_its_tables_or_not_at_all(tmp_path, monkeypatch):
    import mlflow

    class Killed(BaseException):
        pass

    def die_half_way(uri):
        Path(uri.removeprefix("sqlite:///")).write_bytes(b"half a database")
        raise Killed

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with monkeypatch.context() as patch:
        patch.setattr(mlflow, "MlflowClient", die_half_way)
        with pytest.raises(Killed):
            build_client(uri)
    assert list(tmp_path.iterdir()) == []
    assert build_client(uri).search_experiments()
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
