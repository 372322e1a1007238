"""A search that stops trials early, killed and interrupted while it does."""

import json
import signal
import time
from collections import Counter

import optuna
import pytest

from autokd.study.journal import open_journal
from autokd.types import TrialResult, load_json

BUDGET = 12
OPTIONS = ["--budget", BUDGET, "--study", "rungs", "--train-limit", 300, "--epochs", 4,
           "--no-refit", "--json"]  # fmt: skip


def load_trials(folder):
    path = folder / "mlruns/optuna.journal"
    if not path.exists():
        return []
    try:
        return optuna.load_study(study_name="rungs", storage=open_journal(path)).trials
    except KeyError:
        return []


def wait_until(folder, is_so):
    end = time.monotonic() + 200
    while not is_so(load_trials(folder)):
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.05)


def count_stopped(trials):
    return sum(bool(trial.user_attrs.get("is_stopped")) for trial in trials)


def check(folder, out):
    """Everything agrees: the table, Optuna, MLflow; no epoch is missing or there twice."""
    from mlflow import MlflowClient

    values = json.loads(out)
    trials = load_trials(folder)
    states = Counter(trial.state.name for trial in trials)
    assert states["COMPLETE"] + states["PRUNED"] == BUDGET == len(trials)
    assert values["n_stopped"] + values["n_pruned"] == states["PRUNED"]
    assert values["n_stopped"] > 0
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("rungs")
    runs = client.search_runs([experiment.experiment_id])
    runs = {int(r.data.tags["autokd.trial"]): r for r in runs if "autokd.trial" in r.data.tags}
    assert sorted(runs) == list(range(BUDGET))
    for trial in trials:
        result = load_json(TrialResult, trial.user_attrs["result"])
        is_whole = trial.state.name == "COMPLETE"
        epochs = [row.epoch for row in result.curve]
        n_wanted = {"complete": 4, "stopped": 1, "pruned": 0}[result.state]
        assert is_whole == (result.state == "complete")
        assert epochs == list(range(1, n_wanted + 1))
        run = runs[trial.number]
        assert run.info.status == ("FINISHED" if is_whole else "KILLED")
        logged = client.get_metric_history(run.info.run_id, "val_accuracy")
        assert sorted(metric.step for metric in logged) == epochs
    assert trials[0].state.name == "COMPLETE"
    assert not list((folder / "mlruns/studies/rungs/checkpoints").glob("*"))


@pytest.mark.parametrize(
    "how",
    [
        "killed",
        pytest.param("once", marks=pytest.mark.slow),
        pytest.param("twice", marks=pytest.mark.slow),
    ],
)
def test_stopped_trials_survive(how, start, run, tmp_path):
    process = start(tmp_path, "search", *OPTIONS)
    wait_until(tmp_path, lambda trials: count_stopped(trials) >= 3)
    process.send_signal(signal.SIGKILL if how == "killed" else signal.SIGINT)
    if how == "twice":
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    if how != "killed":
        assert process.returncode == 130, err
        assert "goes on where it stopped" in err
    if how == "once":
        assert "ending after this epoch; Ctrl-C again ends at once" in err
        assert "stopped after epoch 1 of 4" in err
    before = load_trials(tmp_path)
    code, out, err = run(tmp_path, "search", *OPTIONS)
    assert code == 0, err
    assert "stay stopped" in err
    check(tmp_path, out)
    after = load_trials(tmp_path)
    for old in before:
        assert after[old.number].params | old.params == after[old.number].params  # killed mid-ask
        if old.state.is_finished():
            assert after[old.number].values == old.values
