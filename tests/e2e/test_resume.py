"""A search that is killed goes on where it stopped."""

import signal
import time
from collections import Counter

import optuna
import pytest

from autokd.study.journal import open_journal
from autokd.types import TrialResult, load_json

OPTIONS = ["--study", "cut", "--train-limit", "300", "--epochs", "4", "--no-refit"]


def trials_of(folder):
    path = folder / "mlruns/optuna.journal"
    if not path.exists():
        return []
    try:
        return optuna.load_study(study_name="cut", storage=open_journal(path)).trials
    except KeyError:
        return []


def wait_for_trial(folder, number):
    """Until the trial is running."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        running = [t.number for t in trials_of(folder) if t.state.name == "RUNNING"]
        if number in running:
            return
        time.sleep(0.1)
    raise AssertionError(f"trial {number} never ran")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_lost_or_twice_after(how, start, run, tmp_path):
    from mlflow import MlflowClient

    budget = 6
    process = start(tmp_path, "search", "--budget", budget, *OPTIONS)
    wait_for_trial(tmp_path, 3)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    before = [trial for trial in trials_of(tmp_path) if trial.state.is_finished()]
    assert len(before) >= 2
    if how == signal.SIGINT:
        assert process.returncode == 130, err
        assert "goes on where it stopped" in err
        assert not [trial for trial in trials_of(tmp_path) if trial.state.name == "RUNNING"]
    code, _, err = run(tmp_path, "search", "--budget", budget, *OPTIONS)
    assert code == 0, err
    trials = trials_of(tmp_path)
    states = Counter(trial.state.name for trial in trials)
    assert states["COMPLETE"] + states["PRUNED"] == budget
    assert states["COMPLETE"] >= 3
    assert [trial.number for trial in trials] == list(range(budget))
    for trial in trials:
        result = load_json(TrialResult, trial.user_attrs["result"])
        expected = "complete" if trial.state.name == "COMPLETE" else "pruned"
        assert (result.trial, result.state) == (trial.number, expected)
        assert {k: result.sample[k] for k in trial.params} == trial.params
    for old in before:
        assert trials[old.number].values == old.values
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("cut")
    runs = client.search_runs([experiment.experiment_id])
    numbers = [int(r.data.tags["autokd.trial"]) for r in runs if "autokd.trial" in r.data.tags]
    assert sorted(numbers) == list(range(budget))
    assert {r.info.status for r in runs} <= {"FINISHED", "KILLED"}
    assert sum(r.info.status == "KILLED" for r in runs) == states["PRUNED"]
