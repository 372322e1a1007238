"""What is added to the run of a trial later."""

import pytest

from autokd.config import Config
from autokd.errors import TrackingError
from autokd.trackers import add_to_trial
from tests.contracts.tracker_contract import copy_store


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    copy_store(tmp_path)
    return Config(runs_dir=tmp_path, study="digits")


def test_metrics_and_files_are_added_to_the_run_of_the_trial(config, tmp_path):
    from mlflow import MlflowClient

    (tmp_path / "sheet.png").write_bytes(b"picture")
    for value in (0.25, 0.5):
        add_to_trial(
            config, trial=3, metrics={"cam_similarity": value}, files=[tmp_path / "sheet.png"],
            folder="explanation",
        )  # fmt: skip
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("digits")
    (run,) = client.search_runs(
        [experiment.experiment_id], filter_string="tags.`autokd.trial` = '3'"
    )
    assert run.data.metrics["cam_similarity"] == 0.5
    (file,) = client.list_artifacts(run.info.run_id, "explanation")
    assert file.path == "explanation/sheet.png"


def test_a_store_that_is_away_is_a_tracking_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    config = Config(tracking_uri=f"sqlite:///{tmp_path}/file/place.db", study="digits")
    with pytest.raises(TrackingError):
        add_to_trial(config, trial=0, metrics={}, files=[], folder="f")
