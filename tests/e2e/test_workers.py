"""A search whose students are trained by other processes, any of which is killed meanwhile."""

import contextlib
import json
import signal
import time
from collections import Counter

import optuna
import psutil
import pytest

from autokd.types import TrialResult, load_json
from tests.postgres import running_postgres

BUDGET = 12


@pytest.fixture(scope="module")
def url():
    with running_postgres() as server:
        yield server.url


@pytest.fixture
def trials(url):
    """What Optuna knows."""
    storage = optuna.storages.RDBStorage(url)  # makes its tables before anybody else does

    def trials():
        try:
            return optuna.load_study(study_name="s", storage=storage).trials
        except KeyError:
            return []

    yield trials
    storage.engine.dispose()


@pytest.fixture
def searching(start, tmp_path, url):
    """Starts a coordinator or a worker; whatever still runs in the end is killed."""
    processes = []

    def launch(command, *words):
        process = start(tmp_path, command, "--study", "s", "--storage", url, *words)
        processes.append(process)
        return process

    yield launch
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def wait_until(trials, is_so):
    end = time.monotonic() + 200
    while not is_so(trials()):
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.2)


def count_done(trials):
    return sum(
        trial.state.is_finished() or bool(trial.user_attrs.get("is_stopped")) for trial in trials
    )


def kill_a_trainer(worker):
    """Kills a process of a worker that trains."""
    for child in psutil.Process(worker.pid).children():
        if child.cpu_times().user > 0.3:
            child.kill()
            return


def check(folder, trials, out):
    """The table, Optuna and MLflow agree; no epoch is missing or there twice."""
    from mlflow import MlflowClient

    values = json.loads(out)
    states = Counter(trial.state.name for trial in trials)
    assert states["COMPLETE"] + states["PRUNED"] == BUDGET == len(trials)
    assert values["n_trials"] == BUDGET
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("s")
    runs = client.search_runs([experiment.experiment_id])
    runs = {int(r.data.tags["autokd.trial"]): r for r in runs if "autokd.trial" in r.data.tags}
    assert sorted(runs) == list(range(BUDGET))
    for trial in trials:
        result = load_json(TrialResult, trial.user_attrs["result"])
        epochs = [row.epoch for row in result.curve]
        assert epochs == (list(range(1, 5)) if trial.state.name == "COMPLETE" else [1])
        run = runs[trial.number]
        logged = client.get_metric_history(run.info.run_id, "val_accuracy")
        assert sorted(metric.step for metric in logged) == epochs
    events = (folder / "mlruns/studies/s/tracking/events.jsonl").read_text().splitlines()
    told = Counter(_epochs_of(events))
    assert set(told.values()) <= {1, 2}, "twice where the coordinator was killed, not trained twice"


def _epochs_of(events):
    for line in events:
        event = json.loads(line)
        if "epoch" in event and "trial" in event:
            yield event["trial"], event["epoch"]["epoch"]


def test_whoever_is_killed_nothing_is_lost(searching, tmp_path, trials):
    search = ["search", "--remote", "--budget", BUDGET, "--train-limit", 300, "--epochs", 4,
              "--refit-epochs", 1, "--seeds", 1, "--json"]  # fmt: skip
    first, worker = searching(*search), searching("worker", "--workers", 2)
    wait_until(trials, lambda trials: count_done(trials) >= 3)
    kill_a_trainer(worker)
    other = searching("worker", "--workers", 1)
    wait_until(trials, lambda trials: count_done(trials) >= 5)
    worker.send_signal(signal.SIGKILL)
    first.send_signal(signal.SIGKILL)
    second = searching(*search)
    out, err = second.communicate(timeout=280)
    assert second.returncode == 0, err
    check(tmp_path, trials(), out)
    _, err = other.communicate(timeout=60)
    assert other.returncode == 0, err
    assert "study s is over" in err


def test_a_worker_says_what_is_wrong(run, tmp_path, url):
    code, _, err = run(tmp_path, "worker", "--study", "none", "--storage", url, "--wait", 0)
    assert code == 2
    assert err.startswith("StudyError: `--study` must be searched with --remote in this storage")
    code, _, err = run(tmp_path, "worker", "--study", "s", "--storage", "journal:x")
    assert code == 2
    assert "`--storage` must be a database that workers reach" in err
    code, _, err = run(tmp_path, "search", "--remote")
    assert code == 2
    assert "`--storage` must be a database that workers reach, got a journal file" in err
