"""One student from the command line to a program that runs it and a server that serves it."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import onnxruntime
import psutil
import pytest
from filelock import FileLock
from PIL import Image
from sklearn.datasets import load_digits

from tests.e2e.conftest import TINY

STUDENT = ["--student", "mobile:width=0.5,depth=1"]
QUICK = ["--train-limit", "300", "--epochs", "3", "--workers", "1"]


@pytest.fixture(scope="session")
def distilled(run, shared):
    """A folder with a finished student and its twin, and what was printed; made once for all."""
    folder = shared / "distilled"
    with FileLock(shared / "distilled.lock"):
        if not folder.exists():
            folder.mkdir()
            words = ["--study", "one", "--baseline", "--seeds", 2, "--json"]
            code, out, err = run(folder, "distill", *STUDENT, *QUICK, *words)
            assert code == 0, err
            (folder / "out.json").write_text(out)
            (folder / "err.txt").write_text(err)
    return folder, json.loads((folder / "out.json").read_text()), (folder / "err.txt").read_text()


@pytest.fixture(scope="session")
def picture(shared):
    """A digit as a file."""
    pixels = (load_digits().images[0] * 255 / 16).astype(np.uint8)
    Image.fromarray(pixels).save(shared / "digit.png")
    return shared / "digit.png", pixels


def softmax(logits):
    odds = np.exp(logits - logits.max())
    return odds / odds.sum()


def test_a_student_stands_beside_its_teacher_and_its_twin(distilled):
    folder, values, err = distilled
    student, twin = values["student"], values["baseline"]
    assert student["architecture"]["depth_1"] == 1
    assert student["architecture"]["width_1"] == 8
    assert student["n_seeds"] == twin["n_seeds"] == 2
    assert student["kd_gain"] == pytest.approx(student["test_accuracy"] - twin["test_accuracy"])
    assert student["kd_gain_ci95"] is not None
    assert values["teacher"]["latency_ms"] > 0
    assert "trainings of the finals: 4 to do" in err
    assert (folder / "mlruns/studies/one/report/curves.png").exists()


def test_the_files_of_a_student_do_what_it_does(distilled):
    folder, values, _ = distilled
    names = {Path(file).name for file in values["export"]["files"]}
    assert names >= {"model.onnx", "model.pt2", "model.safetensors", "run.py", "requirements.txt"}
    assert values["export"]["top1_agreement"] >= 0.99
    assert all((folder / file).exists() for file in values["export"]["files"])


def test_the_program_of_a_student_classifies_a_picture(distilled, picture):
    folder, _, _ = distilled
    file, pixels = picture
    done = subprocess.run(
        [sys.executable, folder / "student/run.py", file], capture_output=True, text=True,
        check=True, cwd=folder.parent,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(str(folder / "student/model.onnx"))
    (logits,) = session.run(None, {"image": pixels[None, None].astype(np.float32) / 255})
    odds = softmax(logits[0])
    name, share = done.stdout.split()
    assert (name, float(share)) == (str(odds.argmax()), pytest.approx(odds.max(), abs=1e-3))


def test_mlflow_shows_each_training_and_the_registered_student(distilled):
    from mlflow import MlflowClient

    folder, values, _ = distilled
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("one")
    runs = client.search_runs([experiment.experiment_id], "tags.`autokd.kind` = 'trial'")
    told = {run.info.run_name: run for run in runs}
    assert sorted(told) == ["trial-0", "trial-1", "trial-2", "trial-3"]
    assert len({run.data.tags["autokd.engine"] for run in told.values()}) == 1, "twins too"
    for name, run in told.items():
        assert run.info.status == "FINISHED"
        assert run.data.params["is_twin"] == str(name in ("trial-1", "trial-3"))
        history = client.get_metric_history(run.info.run_id, "val_accuracy")
        assert [metric.step for metric in history] == [1, 2, 3]
    version = client.get_model_version_by_alias("one", "knee")
    assert version.tags["protocol"].startswith("undisturbed time of one forward pass out of ")
    assert float(version.tags["test_accuracy"]) == values["export"]["test_accuracy"]
    assert float(version.tags["latency_ms"]) == values["export"]["latency_ms"]


def test_a_killed_student_goes_on_from_its_last_epoch(start, run, tmp_path):
    words = ["distill", *STUDENT, "--study", "cut", "--train-limit", 300, "--epochs", 20]
    words += ["--workers", 1, "--no-register", "--json"]
    process = start(tmp_path, *words)
    checkpoints = tmp_path / "mlruns/studies/cut/checkpoints"
    end = time.monotonic() + 250
    while not list(checkpoints.glob("*.checkpoint")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.05)
    process.kill()
    process.communicate()
    (kept,) = checkpoints.glob("*.checkpoint")
    import torch

    passed = len(torch.load(kept, weights_only=True)["curve"])
    assert 1 <= passed < 20
    code, out, err = run(tmp_path, *words)
    assert code == 0, err
    assert json.loads(out)["student"]["n_seeds"] == 1
    events = (tmp_path / "mlruns/studies/cut/tracking/events.jsonl").read_text().splitlines()
    trained = [json.loads(line) for line in events]
    epochs = [event["epoch"]["epoch"] for event in trained if event.get("kind") == "epoch_ended"]
    assert set(epochs) <= set(range(1, 21))
    assert epochs.count(20) == 1
    assert len(epochs) <= 21, "at most the epoch that was cut is trained twice"
    assert [e["kind"] for e in trained].count("trial_resumed") == 1


def test_a_whole_front_is_exported_at_once(run, searched):
    folder, values, _ = searched
    code, out, err = run(folder, "export", "--study", "tiny", "--all", "--json")
    assert code == 0, err
    rows = json.loads((folder / "students/index.json").read_text())
    assert {row["folder"] for row in rows} == {f"trial-{s['trial']}" for s in values["front"]}
    assert len(json.loads(out)["students"]) == len(rows)
    aliases = [alias for row in rows for alias in row["aliases"]]
    assert sorted(aliases) == ["fastest", "knee", "most-accurate"]
    index = (folder / "students/index.md").read_text()
    for row in rows:
        assert (folder / "students" / row["folder"] / "model.onnx").exists()
        assert f"{row['folder']}/card.md" in index
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    by_name = {row["folder"]: row["aliases"] for row in rows}
    for folder_name, names in by_name.items():
        version = client.get_model_version_by_alias("tiny", folder_name)
        assert all(client.get_model_version_by_alias("tiny", n).version == version.version
                   for n in names)  # fmt: skip


def test_a_student_of_another_device_is_exported_with_a_warning(run, searched, tmp_path):
    shutil.copytree(searched[0] / "mlruns/studies", tmp_path / "mlruns/studies")
    shutil.copy(searched[0] / "mlruns/optuna.journal", tmp_path / "mlruns")
    kept = tmp_path / "mlruns/studies/tiny/device.json"
    assert json.loads(kept.read_text())["latency_device"]
    kept.write_text('{"latency_device": "a node of a cluster"}')
    code, _, err = run(tmp_path, "export", "--study", "tiny", "--no-register")
    assert code == 0, err
    assert re.search("warning: the study's latency of .* ms is that of a node of a cluster", err)
    assert "Beware: the study's latency of" in (tmp_path / "student/card.md").read_text()
    code, _, err = run(tmp_path, "search", "--study", "tiny", "--budget", 7, *TINY)
    assert code == 2
    assert "study `tiny` must go on with latencies of a node of a cluster, got" in err


def test_a_student_under_a_limit_is_registered_as_such(run, searched):
    folder, _, _ = searched
    words = ["export", "--study", "tiny", "--max-latency-ms", 2000, "--out", "under"]
    code, _, err = run(folder, *words)
    assert code == 0, err
    assert "registered as models:/tiny@under-2000ms" in err


@contextlib.contextmanager
def serving(folder, environment, *, model):
    """MLflow's own server of a registered model, all its processes ended afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    unset = {**environment, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlruns/mlflow.db"}
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local",
         "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        env=unset, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        family = [process, *_children(process.pid)]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
        for child in family[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def _children(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def _is_up(url):
    try:
        with urllib.request.urlopen(f"{url}/ping", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mlflow_serves_the_student(distilled, environment, picture):
    folder, _, _ = distilled
    _, pixels = picture
    image = (pixels[None, None].astype(np.float32) / 255).tolist()
    with serving(folder, environment, model="models:/one@knee") as (process, url):
        end = time.monotonic() + 300
        while not _is_up(url):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.5)
        request = urllib.request.Request(
            f"{url}/invocations",
            data=json.dumps({"inputs": image}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            predicted = json.load(answer)["predictions"]
    session = onnxruntime.InferenceSession(str(folder / "student/model.onnx"))
    (logits,) = session.run(None, {"image": np.asarray(image, np.float32)})
    np.testing.assert_allclose(predicted["logits"], logits, rtol=1e-4, atol=1e-5)
