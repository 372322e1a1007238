"""A search whose students begin with weights of their relatives, killed meanwhile."""

import signal
import time

import optuna

from autokd.study.journal import open_journal
from autokd.types import TrialResult, load_json

SEARCH = ["search", "--budget", 6, "--study", "kin", "--train-limit", 300, "--epochs", 3,
          "--no-refit", "--workers", 1, "--json", "--warm-start", "relatives"]  # fmt: skip


def load_results(folder):
    path = folder / "mlruns/optuna.journal"
    try:
        trials = optuna.load_study(study_name="kin", storage=open_journal(path)).trials
    except (FileNotFoundError, KeyError):
        return {}
    texts = {trial.number: trial.user_attrs.get("result") for trial in trials}
    return {number: load_json(TrialResult, text) for number, text in texts.items() if text}


def test_students_inherit_and_a_killed_one_of_the_same_as_before(start, run, tmp_path):
    process = start(tmp_path, *SEARCH)
    end = time.monotonic() + 200
    while not any(one.inherited_share for one in load_results(tmp_path).values()):
        assert time.monotonic() < end, "nobody has inherited"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    before = load_results(tmp_path)
    code, _, err = run(tmp_path, *SEARCH)
    assert code == 0, err
    after = load_results(tmp_path)
    assert len(after) == 6
    for number, one in before.items():
        assert after[number].inherited_from == one.inherited_from
        assert after[number].inherited_share == one.inherited_share
    heirs = {number: one for number, one in after.items() if one.inherited_from is not None}
    assert after[0].inherited_from is None
    assert len(heirs) >= 2
    assert "from trial" in err
    check_tracking(tmp_path, heirs)
    assert not list((tmp_path / "mlruns/studies/kin/checkpoints").glob("*"))


def check_tracking(folder, heirs):
    """MLflow knows of whom each has inherited, and how much."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("kin").experiment_id])
    runs = {int(r.data.tags["autokd.trial"]): r for r in runs if "autokd.trial" in r.data.tags}
    for number, one in heirs.items():
        assert runs[number].data.tags["autokd.inherited_from"] == str(one.inherited_from)
        assert runs[number].data.metrics["inherited_share"] == one.inherited_share
