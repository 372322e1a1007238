"""What a study looks like in MLflow."""

import json
import logging
from dataclasses import replace

import pytest

from autokd.errors import TrackingError
from autokd.trackers import MlflowTracker
from autokd.trackers.entries import result_metrics, result_tags
from autokd.types import Recipe
from tests.contracts.tracker_contract import (
    T0_MS,
    closed,
    copy_store,
    ended,
    epoch_ended,
    opened,
    started,
    study,
)


@pytest.fixture
def uri(tmp_path):
    return copy_store(tmp_path)


@pytest.fixture
def client(uri):
    from mlflow import MlflowClient

    return MlflowClient(uri)


@pytest.fixture
def open_tracker(uri, tmp_path):
    return lambda **options: MlflowTracker(
        uri, artifacts=tmp_path / "artifacts", study="digits", **options
    )


def find(client, query):
    experiment = client.get_experiment_by_name("digits")
    return client.search_runs([experiment.experiment_id], query)


def find_parent(client):
    (run,) = find(client, "tags.`autokd.kind` = 'search'")
    return run


def find_trial(client, number):
    (run,) = find(client, f"tags.`autokd.trial` = '{number}'")
    return run


def test_a_study_is_an_experiment_with_a_search_and_its_trials_below(open_tracker, client):
    open_tracker().log_all(study())
    parent = find_parent(client)
    assert parent.info.run_name == "search"
    assert parent.info.status == "FINISHED"
    for number, status in enumerate(("FINISHED", "FAILED", "KILLED")):
        run = find_trial(client, number)
        assert run.info.run_name == f"trial-{number}"
        assert run.info.status == status
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_the_search_shows_settings_data_teacher_and_machine(open_tracker, client):
    open_tracker().log(opened(budget="50"))
    run = find_parent(client)
    assert run.info.status == "RUNNING"
    assert run.data.params == {"budget": "50"}
    assert run.data.metrics == {"teacher_val_accuracy": 0.99, "teacher_latency_ms": 3.0}
    assert run.data.tags["environment.torch"] == "2.9"
    assert run.data.tags["teacher.digest"] == "b" * 64
    (entry,) = run.inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("digits", "a" * 36)


def test_the_search_shows_pictures_without_labels(open_tracker, client):
    event = opened()
    data = replace(event.data, n_unlabelled=1200, unlabelled_digest="c" * 64)
    open_tracker().log(replace(event, data=data))
    run = find_parent(client)
    assert run.data.tags["data.digest"] == "a" * 64
    assert run.data.tags["data.unlabelled_digest"] == "c" * 64
    assert run.data.tags["data.n_unlabelled"] == "1200"
    profile = json.loads(run.inputs.dataset_inputs[0].dataset.profile)
    assert (profile["n_unlabelled"], profile["unlabelled_digest"]) == (1200, "c" * 64)


def test_a_trial_shows_latency_footprint_and_the_whole_recipe(open_tracker, client):
    open_tracker().log_all(study())
    run = find_trial(client, 0)
    metrics = run.data.metrics
    assert metrics["best_val_accuracy"] == 0.9
    assert metrics["latency_ms"] == 0.5
    assert (metrics["latency_ci95_low_ms"], metrics["latency_ci95_high_ms"]) == (0.4, 0.6)
    assert (metrics["n_params"], metrics["macs"], metrics["size_bytes"]) == (10, 20, 30)
    assert run.data.params["block/1"] == "mbconv"
    assert run.data.params["temperature"] == str(Recipe().temperature)
    assert run.data.tags["autokd.network"] == "abc"
    assert run.info.start_time == T0_MS + 1000
    assert run.info.end_time == T0_MS + 4000
    assert find_trial(client, 1).data.tags["autokd.reason"] == "out of memory"


def test_the_search_shows_how_the_hypervolume_grows(open_tracker, client):
    tracker = open_tracker()
    for _ in range(2):
        tracker.log_all(study())
    run_id = find_parent(client).info.run_id
    history = client.get_metric_history(run_id, "hypervolume")
    assert [(m.step, m.value) for m in history] == [(1, 0.0), (2, 0.1), (3, 0.2)]
    counts = client.get_metric_history(run_id, "n_trials")
    assert [m.value for m in counts] == [1, 2, 3]


def test_the_hypervolume_grows_in_the_order_in_which_trials_end(open_tracker, client):
    tracker = open_tracker()
    begun = [opened(), started(0, after_ms=1), started(1, after_ms=2)]
    tracker.log_all([*begun, ended(1, after_ms=5000), ended(0, after_ms=9000)])
    history = client.get_metric_history(find_parent(client).info.run_id, "hypervolume")
    assert [(m.step, m.value) for m in history] == [(1, 0.1), (2, 0.0)]


def test_a_restarted_process_goes_on_in_the_same_runs(open_tracker, client):
    events = study()
    for event in events:
        open_tracker().log(event)
    assert len(find(client, "")) == 4
    assert [m.value for m in client.get_metric_history(find_parent(client).info.run_id, "n_trials")]


def test_a_password_in_a_setting_is_not_shown(open_tracker, client):
    open_tracker().log(opened(storage="mysql://me:secret@db/x"))
    assert find_parent(client).data.params == {"storage": "mysql://***@db/x"}


def test_a_changed_setting_becomes_a_tag(open_tracker, client):
    tracker = open_tracker()
    tracker.log_all([opened(budget="3"), opened(after_ms=5, budget="9", seed="1")])
    run = find_parent(client)
    assert run.data.params == {"budget": "3", "seed": "1"}
    assert run.data.tags["changed.budget"] == "9"


def test_long_and_odd_texts_fit(open_tracker, client):
    sample = {"a b/../c:d*": 1, "//": 2, "x" * 300: "y"}
    result = ended(0, after_ms=9).result
    event = replace(ended(0, after_ms=9), result=replace(result, sample=sample, reason="r" * 9000))
    open_tracker().log_all([opened(long="v" * 9000), event])
    params = find_trial(client, 0).data.params
    assert params["a b/c_d_"] == "1"
    assert params["x" * 250] == "y"
    assert len(find_parent(client).data.params["long"]) == 6000


def test_a_sample_of_three_hundred_dimensions_fits(open_tracker, client):
    event = replace(started(0, after_ms=1), sample={f"d{i}": i for i in range(300)})
    open_tracker().log_all([opened(), event])
    assert len(find_trial(client, 0).data.params) == 300


def test_neighbouring_epochs_go_out_in_one_batch(open_tracker, client, monkeypatch):
    tracker = open_tracker()
    tracker.log_all([opened(), started(0, after_ms=1)])
    calls = []
    log_batch = type(client).log_batch
    monkeypatch.setattr(
        type(client),
        "log_batch",
        lambda *args, **kwargs: (calls.append(len(kwargs["metrics"])), log_batch(*args, **kwargs)),
    )
    tracker.log_all([epoch_ended(0, n, after_ms=n) for n in range(1, 201)])
    assert calls == [1000, 400]
    run_id = find_trial(client, 0).info.run_id
    history = client.get_metric_history(run_id, "val_loss")
    assert [(m.step, m.timestamp) for m in history] == [(n, T0_MS + n) for n in range(1, 201)]


def test_the_curve_of_a_trial_seen_only_at_its_end_is_shown(open_tracker, client):
    rows = tuple(epoch_ended(0, n, after_ms=0).epoch for n in (1, 2))
    event = ended(0, after_ms=5000, curve=rows)
    tracker = open_tracker()
    for _ in range(2):
        tracker.log_all([opened(), event])
    history = client.get_metric_history(find_trial(client, 0).info.run_id, "val_accuracy")
    assert [(m.step, m.timestamp - T0_MS) for m in history] == [(1, 4000), (2, 5000)]


def test_the_front_and_its_pictures_are_artefacts(open_tracker, client, tmp_path):
    picture = tmp_path / "front.png"
    picture.write_bytes(b"png")
    open_tracker().log_all([opened(), closed(picture, tmp_path / "gone.png", is_finished=False)])
    run = find_parent(client)
    assert run.info.status == "KILLED"
    assert run.data.metrics["n_front"] == 1
    assert [f.path for f in client.list_artifacts(run.info.run_id)] == ["front", "front.json"]
    assert (tmp_path / "artifacts/digits" / run.info.run_id / "artifacts/front/front.png").exists()


def test_a_study_of_the_same_name_in_another_folder_is_left_alone(open_tracker, client, caplog):
    open_tracker(mark="first").log_all(study())
    before = {run.info.run_id: run.info.status for run in find(client, "")}
    assert not caplog.records
    open_tracker(mark="second").log_all(study())
    assert "MLflow has a study `digits` of another folder" in caplog.text
    after = {run.info.run_id: run.info.status for run in find(client, "")}
    assert before.items() < after.items()
    assert len(after) == 2 * len(before)
    caplog.clear()
    open_tracker(mark="first").log_all(study())
    assert {run.info.run_id: run.info.status for run in find(client, "")} == after
    assert not caplog.records


def test_runs_of_before_there_were_marks_are_found_by_the_teacher(open_tracker, client):
    open_tracker().log_all(study())
    before = {run.info.run_id for run in find(client, "")}
    first = opened()
    other = replace(first, teacher=replace(first.teacher, val_accuracy=0.125))
    open_tracker(mark="another").log(other)
    assert len(find(client, "")) == len(before) + 1
    open_tracker(mark="ours").log_all(study())
    assert len(find(client, "")) == len(before) + 1
    (ours,) = find(client, "tags.`autokd.mark` = 'ours'")
    assert ours.info.run_id in before


def test_a_place_for_artefacts_that_cannot_be_used_holds_nothing_else_back(
    open_tracker, client, monkeypatch, caplog
):
    tracker = open_tracker()

    def refuse(*_arguments):
        raise ModuleNotFoundError("No module named 'boto3'")

    monkeypatch.setattr(tracker._client, "log_dict", refuse)
    tracker.log(opened())
    for _ in range(2):  # it may be away for a moment
        with pytest.raises(TrackingError, match="got ModuleNotFoundError: No module named 'boto3'"):
            tracker.log(closed(is_finished=True))
    assert find_parent(client).info.status == "FINISHED"
    assert find_parent(client).data.metrics["n_front"] == 1
    tracker.log(closed(is_finished=True))
    assert "in the study's folder, not in MLflow: " in caplog.text
    two_sessions = [opened(), closed(is_finished=True)] * 2
    tracker.log_all([*two_sessions, opened(), started(3, after_ms=9)])
    assert find_trial(client, 3)


def test_an_epoch_that_is_trained_again_is_shown_once(open_tracker, client):
    """After a power cut that spoilt the checkpoint, by the next process too."""
    open_tracker().log_all([opened(), started(0, after_ms=1), epoch_ended(0, 1, after_ms=2000)])
    again = [epoch_ended(0, epoch, after_ms=9000 * epoch) for epoch in (1, 2, 1)]
    open_tracker().log_all(again)
    history = client.get_metric_history(find_trial(client, 0).info.run_id, "val_accuracy")
    assert [metric.step for metric in history] == [1, 2]


def test_a_run_deleted_by_hand_in_mid_study_is_made_again(open_tracker, client):
    tracker = open_tracker()
    tracker.log_all([opened(), started(0, after_ms=1)])
    client.delete_run(find_trial(client, 0).info.run_id)
    with pytest.raises(TrackingError):
        tracker.log(epoch_ended(0, 1, after_ms=2))
    tracker.log(epoch_ended(0, 1, after_ms=2))
    assert find_trial(client, 0).data.metrics["val_accuracy"] == 0.5


def test_a_deleted_experiment_is_brought_back(open_tracker, client):
    open_tracker().log(opened())
    client.delete_experiment(client.get_experiment_by_name("digits").experiment_id)
    open_tracker().log(started(0, after_ms=1))
    assert find_trial(client, 0)


def test_an_unreachable_server_is_a_tracking_error_without_the_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracker = MlflowTracker("http://me:secret@127.0.0.1:9", artifacts=None, study="digits")
    with pytest.raises(TrackingError, match=r"see http://\*\*\*@127.0.0.1:9$") as caught:
        tracker.log(opened())
    assert "secret" not in str(caught.value)


def test_mlflow_is_quiet(open_tracker, capfd):
    open_tracker().log_all(study())
    assert logging.getLogger("mlflow").level == logging.WARNING
    assert capfd.readouterr() == ("", "")


def test_a_trial_in_int8_shows_both_latencies_and_both_accuracies():
    result = ended(0, after_ms=4000).result
    quantized = replace(
        result,
        recipe=Recipe(precision="int8"),
        fp32_latency=replace(result.latency, median_ms=0.75),
        val_accuracy=0.5,
        float_layers=("stem", "head"),
        fp32_val_accuracy=0.625,
    )
    metrics, tags = result_metrics(quantized), result_tags(quantized)
    assert (metrics["latency_ms"], metrics["fp32_latency_ms"]) == (0.5, 0.75)
    assert metrics["best_val_accuracy"] == 0.5
    assert metrics["fp32_val_accuracy"] == 0.625
    assert (tags["autokd.precision"], tags["autokd.float_layers"]) == ("int8", "stem, head")
    assert "fp32_latency_ms" not in result_metrics(result)
    assert result_tags(result)["autokd.precision"] == "fp32"
