"""What must hold of a search of four epochs and its study `s`, whatever was killed meanwhile."""

import json
import time
from collections import Counter

from autokd.types import TrialResult, load_json


def wait_until(trials, is_so):
    end = time.monotonic() + 400
    while not is_so(trials()):
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.2)


def count_done(trials):
    return sum(
        trial.state.is_finished() or bool(trial.user_attrs.get("is_stopped")) for trial in trials
    )


def check(folder, trials, out, *, budget, uri=None):
    """The table, Optuna and MLflow agree; no epoch is missing or there twice."""
    from mlflow import MlflowClient

    values = json.loads(out)
    states = Counter(trial.state.name for trial in trials)
    assert states["COMPLETE"] + states["PRUNED"] == budget == len(trials)
    assert values["n_trials"] == budget
    client = MlflowClient(uri or f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("s")
    runs = client.search_runs([experiment.experiment_id])
    runs = {int(r.data.tags["autokd.trial"]): r for r in runs if "autokd.trial" in r.data.tags}
    assert sorted(runs) == list(range(budget))
    for trial in trials:
        result = load_json(TrialResult, trial.user_attrs["result"])
        epochs = [row.epoch for row in result.curve]
        n_wanted = {"complete": 4, "stopped": 1, "pruned": 0}[result.state]
        assert (trial.state.name == "COMPLETE") == (result.state == "complete")
        assert epochs == list(range(1, n_wanted + 1))
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
