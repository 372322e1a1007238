"""A search whose students begin with weights of their relatives."""

import optuna

from autokd.study.journal import open_journal
from autokd.types import TrialResult, load_json

SEARCH = ["search", "--budget", 4, "--study", "kin", "--train-limit", 300, "--epochs", 2,
          "--no-refit", "--workers", 2, "--json", "--warm-start", "relatives"]  # fmt: skip


def test_students_inherit_and_the_table_and_mlflow_say_of_whom(run, tmp_path):
    from mlflow import MlflowClient

    code, _, err = run(tmp_path, *SEARCH)
    assert code == 0, err
    storage = open_journal(tmp_path / "mlruns/optuna.journal")
    trials = optuna.load_study(study_name="kin", storage=storage).trials
    results = [load_json(TrialResult, trial.user_attrs["result"]) for trial in trials]
    heirs = [one for one in results if one.inherited_from is not None]
    assert results[0].inherited_from is None
    assert heirs
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("kin").experiment_id])
    runs = {r.data.tags.get("autokd.trial"): r for r in runs}
    for one in heirs:
        assert one.inherited_from < one.trial
        assert 0 < one.inherited_share <= 1
        assert f"from trial {one.inherited_from} ({one.inherited_share:.0%})" in err
        data = runs[str(one.trial)].data
        assert data.tags["autokd.inherited_from"] == str(one.inherited_from)
        assert data.metrics["inherited_share"] == one.inherited_share
    assert not list((tmp_path / "mlruns/studies/kin/checkpoints").glob("*"))
