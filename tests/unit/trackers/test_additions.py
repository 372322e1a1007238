"""What is added to the run of a trial later."""

import dataclasses

import pytest

from autokd.config import Config
from autokd.errors import TrackingError
from autokd.trackers import MlflowTracker, add_rounds, add_to_trial
from autokd.types import TrialEnded, TrialResult, TrialStarted
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


def test_runs_that_were_made_for_it_are_over_and_stay_when_word_of_the_trial_comes(
    config, tmp_path
):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    add_to_trial(config, trial=3, metrics={"cam_similarity": 0.5}, files=[], folder="explanation")
    client = MlflowClient(uri)
    ids = [client.get_experiment_by_name("digits").experiment_id]
    made = client.search_runs(ids)
    assert [run.info.status for run in made] == ["FINISHED"] * 2, "of trial and study"

    started = TrialStarted(trial=3, sample={"width": 8}, time_ms=1000)
    ended = TrialEnded(
        result=TrialResult(trial=3, state="complete", sample={"width": 8}),
        hypervolume=0.5, time_ms=2000,
    )  # fmt: skip
    for status in ("RUNNING", "FINISHED"):  # told twice, it is the same run
        tracker = MlflowTracker(uri, artifacts=tmp_path, study="digits")
        tracker.log(started)
        (run,) = client.search_runs(ids, filter_string="tags.`autokd.trial` = '3'")
        assert (run.data.metrics["cam_similarity"], run.info.status) == (0.5, status)
        tracker.log(ended)
    (run,) = client.search_runs(ids, filter_string="tags.`autokd.trial` = '3'")
    assert (run.data.params["width"], run.info.status) == ("8", "FINISHED")
    assert (run.data.metrics["cam_similarity"], run.data.tags["autokd.ended_ms"]) == (0.5, "2000")
    tracker.log(dataclasses.replace(started, time_ms=3000))
    (again,) = client.search_runs(ids, filter_string="tags.`autokd.trial` = '3'")
    assert again.info.run_id != run.info.run_id, "begun anew, it is another training"
    assert "cam_similarity" not in again.data.metrics


def test_a_store_that_is_away_is_a_tracking_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    config = Config(tracking_uri=f"sqlite:///{tmp_path}/file/place.db", study="digits")
    with pytest.raises(TrackingError):
        add_to_trial(config, trial=0, metrics={}, files=[], folder="f")


ROUNDS = [{"val_accuracy": 0.25}, {"val_accuracy": 0.5}]


@pytest.fixture
def tell(config, tmp_path):
    """Logs the rounds of a site, and gives the runs there are."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")

    def tell(mark, *, rounds=ROUNDS, **params):
        metrics = {"test_accuracy": rounds[-1]["val_accuracy"]}
        tell.is_beside = add_rounds(
            config, mark=mark, params=params, rounds=rounds, metrics=metrics
        )
        found = client.get_experiment_by_name("digits").experiment_id
        return list(client.search_runs([found], order_by=["start_time ASC"]))

    tell.client = client
    return tell


def test_two_sites_of_one_name_have_runs_of_their_own(tell):
    tell("of a", site="a")
    better = [*ROUNDS, {"val_accuracy": 0.75}]
    for is_first in (True, False):
        one, two = tell("of b", rounds=better, site="b")
        assert tell.is_beside == is_first
    assert (one.data.params["site"], one.data.metrics["test_accuracy"]) == ("a", 0.5)
    assert (two.data.params["site"], two.data.metrics["test_accuracy"]) == ("b", 0.75)
    told = tell.client.get_metric_history(two.info.run_id, "round_val_accuracy")
    assert [(row.step, row.value) for row in told] == [(0, 0.25), (1, 0.5), (2, 0.75)]


def test_rounds_that_were_told_to_their_half_are_told_to_their_end(tell):
    tell("of a", rounds=ROUNDS[:1], wait_s=1)
    (run,) = tell("of a", wait_s=2)
    assert run.data.metrics == {"round_val_accuracy": 0.5, "test_accuracy": 0.5}
    assert (run.data.params["wait_s"], run.data.tags["changed.wait_s"]) == ("1", "2")


@pytest.mark.parametrize(("accuracy", "n_runs"), [(0.5, 1), (0.75, 2)])
def test_a_run_of_before_there_were_marks_is_believed_by_its_figures(tell, accuracy, n_runs):
    (run,) = tell("of a")
    tell.client.delete_tag(run.info.run_id, "autokd.mark")
    rounds = [ROUNDS[0], {"val_accuracy": accuracy}]
    assert len(tell("of a", rounds=rounds)) == n_runs
    assert len(tell("of a", rounds=rounds)) == n_runs
