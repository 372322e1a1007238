"""A dual tower in MLflow: what is there stays once, what is another study's is left alone."""

import dataclasses
import math

import pytest

from autokd.config import TowerConfig
from autokd.trackers import TrainedTowers, log_towers
from autokd.types import EpochLog
from tests.contracts.tracker_contract import copy_store

ROW = EpochLog(
    epoch=1, train_loss=1.0, val_loss=0.9, val_accuracy=0.25, learning_rate=0.1, alpha=0.5,
    temperature=4.0, seconds=2.0,
)  # fmt: skip
STUDENT = TrainedTowers(
    number=0, name="student-seed-0", curve=[ROW, dataclasses.replace(ROW, epoch=2)],
    metrics={"test_recall": 0.5}, params={"seed": "0"},
)  # fmt: skip
TWIN = dataclasses.replace(STUDENT, number=1, name="twin-seed-0")
FIGURES = {"student_test_recall": 0.5, "student_image_ms": 1.0, "gain": 0.25}


@pytest.fixture
def client(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return MlflowClient(copy_store(tmp_path))


@pytest.fixture
def tell(client, tmp_path):
    """Logs, and gives the parents' runs, each with its children by name."""

    def tell(trainings=(STUDENT, TWIN), *, mark="one folder", metrics=FIGURES, **options):
        config = TowerConfig(runs_dir=tmp_path, study="towers", **options)
        tell.is_beside = log_towers(config, trainings, mark=mark, metrics=metrics, files=[])
        (experiment,) = client.search_experiments(filter_string="name = 'towers'")
        runs = list(client.search_runs([experiment.experiment_id], order_by=["start_time ASC"]))
        return [
            (run, {one.info.run_name: one for one in runs if parent_of(one) == run.info.run_id})
            for run in runs
            if parent_of(run) is None
        ]

    return tell


def parent_of(run):
    return run.data.tags.get("mlflow.parentRunId")


def history(client, run, name):
    return [one.value for one in client.get_metric_history(run.info.run_id, name)]


def test_told_twice_nothing_is_there_twice(client, tell):
    tell()
    ((parent, children),) = tell()
    assert not tell.is_beside
    assert {name: history(client, parent, name) for name in FIGURES} == {
        name: [value] for name, value in FIGURES.items()
    }
    assert set(children) == {"student-seed-0", "twin-seed-0"}
    assert history(client, children["twin-seed-0"], "val_recall") == [0.25, 0.25]


def test_what_has_changed_is_told_and_what_is_gone_is_not_a_number(client, tell):
    tell()
    ((parent, _),) = tell([STUDENT], metrics={**FIGURES, "student_image_ms": 2.0, "gain": 0.5})
    assert parent.data.metrics["gain"] == 0.5
    for _ in range(2):
        ((parent, _),) = tell([STUDENT], metrics={"student_test_recall": 0.5})
    assert math.isnan(parent.data.metrics["gain"])
    assert len(history(client, parent, "gain")) == 3
    assert history(client, parent, "student_test_recall") == [0.5]


def test_another_folder_under_the_same_name_has_runs_of_its_own(tell):
    tell()
    other = dataclasses.replace(STUDENT, metrics={"test_recall": 0.75})
    for is_first in (True, False):
        (first, kept), (second, fresh) = tell(
            [other], mark="another", metrics={"student_test_recall": 0.75}, epochs=7
        )
        assert tell.is_beside == is_first
    assert first.data.metrics == FIGURES
    assert kept["student-seed-0"].data.metrics["test_recall"] == 0.5
    assert second.data.params["epochs"] == "7"
    assert second.data.metrics["student_test_recall"] == 0.75
    assert fresh["student-seed-0"].data.metrics["test_recall"] == 0.75


def test_a_training_that_was_made_again_takes_the_place_of_the_former(client, tell):
    tell()
    again = dataclasses.replace(STUDENT, curve=[dataclasses.replace(ROW, val_accuracy=0.75)])
    ((_, children),) = tell([again, TWIN])
    assert set(children) == {"student-seed-0", "twin-seed-0"}
    assert history(client, children["student-seed-0"], "val_recall") == [0.75]


@pytest.mark.parametrize(("recall", "n_parents"), [(0.5, 1), (0.75, 2)])
def test_a_run_of_before_there_were_marks_is_believed_by_its_figures(
    client, tell, recall, n_parents
):
    ((parent, children),) = tell()
    client.delete_tag(parent.info.run_id, "autokd.mark")
    for run in children.values():
        client.delete_tag(run.info.run_id, "autokd.digest")
    figures = {"student_test_recall": recall, "student_image_ms": 9.0}
    assert len(tell([STUDENT], metrics=figures)) == n_parents
    assert len(tell([STUDENT], metrics=figures)) == n_parents
