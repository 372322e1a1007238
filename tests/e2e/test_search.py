"""A search from the command line to the file that is deployed."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from sklearn.datasets import load_digits

import autokd

KEYS = {"study", "n_trials", "n_failed", "n_pruned", "wall_s", "hypervolume", "teacher", "baseline",
        "front"}  # fmt: skip
STUDENT_KEYS = {"trial", "val_accuracy", "test_accuracy", "kd_gain", "latency_ms", "n_params",
                "architecture", "recipe"}  # fmt: skip


def test_the_json_of_a_search_has_what_was_promised(searched):
    _, values, err = searched
    assert set(values) >= KEYS
    assert (values["study"], values["n_trials"], values["n_failed"]) == ("tiny", 6, 0)
    assert values["teacher"]["val_accuracy"] > 0.5
    assert values["teacher"]["latency_ms"] > 0
    assert all(set(student) >= STUDENT_KEYS for student in values["front"])
    latencies = [student["latency_ms"] for student in values["front"]]
    assert latencies == sorted(latencies)
    accuracies = [student["val_accuracy"] for student in values["front"]]
    assert accuracies == sorted(accuracies)
    assert values["baseline"]["recipe"]["alpha"] == 0
    assert 0 <= values["hypervolume"] <= 1
    assert "6/6" in err


def test_each_finalist_stands_beside_its_twin(searched):
    _, values, _ = searched
    for student in values["front"]:
        assert student["n_seeds"] == 2
        assert student["test_accuracy_ci95"] is not None
        if student["is_twin"]:
            assert student["recipe"]["alpha"] == 0
        elif student["recipe"]["alpha"] == 0:
            assert student["kd_gain"] == 0


def test_the_front_is_shown_again_as_it_was_found(searched, invoke, monkeypatch):
    folder, values, _ = searched
    monkeypatch.chdir(folder)
    code, out = invoke("front", "--json")
    assert code == 0
    assert json.loads(out) == values
    code, out = invoke("front")
    assert code == 0
    assert "teacher" in out
    assert "baseline" in out


def test_the_front_can_be_loaded_in_python(searched):
    folder, values, _ = searched
    front = autokd.load_front("tiny", runs_dir=folder / "mlruns")
    assert [student.trial for student in front.students] == [s["trial"] for s in values["front"]]


def test_mlflow_has_a_run_for_each_trial_below_the_search(searched):
    from mlflow import MlflowClient

    folder, values, _ = searched
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    trials = [run for run in runs if "autokd.trial" in run.data.tags]
    assert sorted(int(run.data.tags["autokd.trial"]) for run in trials) == list(range(6))
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
    killed = [run for run in runs if run.info.status == "KILLED"]
    assert len(killed) == values["n_pruned"] < 4, "slower than the teacher"
    assert {run.data.tags["autokd.state"] for run in killed} <= {"pruned"}
    parent = next(run for run in runs if run.data.tags.get("autokd.kind") == "search")
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    volumes = client.get_metric_history(parent.info.run_id, "hypervolume")
    assert len(volumes) == values["n_trials"]
    artifacts = {item.path for item in client.list_artifacts(parent.info.run_id, "front")}
    names = ("front.png", "front.html", "curves.png", "coordinates.png", "importance.png")
    assert {f"front/{name}" for name in names} <= artifacts
    assert parent.inputs.dataset_inputs[0].dataset.digest
    one = next(run for run in trials if run.data.tags["autokd.trial"] == "0")
    assert {"latency_ms", "n_params", "macs", "best_val_accuracy"} <= set(one.data.metrics)
    assert len(client.get_metric_history(one.info.run_id, "val_accuracy")) == 1


def test_an_exported_student_does_in_onnxruntime_what_the_table_said(searched, run):
    folder, values, _ = searched
    code, out, err = run(folder, "export", "--pick", "most-accurate", "--out", "best", "--json")
    assert code == 0, err
    figures = json.loads(out)
    assert figures["top1_agreement"] >= 0.99
    assert figures["onnx_test_accuracy"] == pytest.approx(figures["test_accuracy"], abs=0.01)
    names = {Path(file).name for file in figures["files"]}
    pictures = {f"{one}.png" for one in ("front", "curves", "looks", "calibration", "confusion")}
    assert names >= {"model.onnx", "model.pt2", "model.safetensors", "card.md", *pictures}
    card = (folder / "best/card.md").read_text()
    assert all(f"]({name})" in card for name in pictures)
    assert "autokd search --study tiny --train-limit 300" in card
    facts = json.loads((folder / "best/card.json").read_text())
    assert 0 <= facts["teacher_agreement"] <= 1
    assert 0 <= facts["ece"] <= 1
    assert facts["missing"] == {}
    session = onnxruntime.InferenceSession(folder / "best/model.onnx")
    digits = load_digits()
    pixels = (digits.images * (255 / 16)).round().astype(np.uint8)[:, None] / np.float32(255)
    (logits,) = session.run(None, {"image": pixels.astype(np.float32)})
    accuracy = float((logits.argmax(1) == digits.target).mean())
    assert accuracy == pytest.approx(values["front"][-1]["test_accuracy"], abs=0.15)


def test_the_exported_student_is_registered_with_an_alias(searched, invoke, monkeypatch):
    from mlflow import MlflowClient

    folder, _, _ = searched
    monkeypatch.chdir(folder)
    code, output = invoke("export", "--pick", "fastest", "--out", "fast")
    assert code == 0, output
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    version = client.get_model_version_by_alias("tiny", "fastest")
    assert version.run_id


def test_the_same_command_again_has_nothing_left_to_do(searched, run):
    folder, values, _ = searched
    options = ["--train-limit", "300", "--epochs", "1", "--refit-epochs", "1", "--seeds", "2"]
    code, out, err = run(folder, "search", "--budget", 6, "--study", "tiny", "--json", *options)
    assert code == 0, err
    again = json.loads(out)
    assert again["n_trials"] == 6
    assert [s["trial"] for s in again["front"]] == [s["trial"] for s in values["front"]]
    assert [s["test_accuracy"] for s in again["front"]] == [
        s["test_accuracy"] for s in values["front"]
    ]


def test_the_dimensions_of_a_recipe_are_shown_with_what_one_student_gets(invoke):
    code, out = invoke("spaces", "show", "shift", "--shape", "1,8,8")
    rows = {line.split()[1]: line for line in out.splitlines()}
    assert code == 0
    assert rows["is_adaptive"].endswith("default True")
    assert rows["expansion_1"].startswith("architecture")
