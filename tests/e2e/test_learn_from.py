"""A search that learns from an earlier one, from the command line."""

import json
import shutil

import optuna
import pytest

from autokd.study.journal import open_journal

OTHER_DATA = ["--train-limit", "250", "--epochs", "1", "--no-refit", "--seed", "3"]


@pytest.fixture
def learnt(searched, tmp_path):
    """A copy of the finished study, so that nothing is added to that of the other tests."""
    shutil.copytree(searched[0], tmp_path / "copy")
    return tmp_path / "copy"


def test_a_study_of_other_data_begins_with_the_front_of_the_earlier_one(learnt, run):
    words = ["search", "--study", "second", "--sampler", "auto", "--learn-from", "tiny"]
    storage = open_journal(learnt / "mlruns/optuna.journal")
    trials = optuna.load_study(study_name="tiny", storage=storage).trials
    n_trained = sum(trial.state.name == "COMPLETE" for trial in trials)
    code, out, err = run(learnt, *words, "--budget", 6, "--json", *OTHER_DATA)
    assert code == 0, err
    assert f"learning from {n_trained} trials of the study tiny" in err
    assert json.loads(out)["n_trials"] == 6
    storage = open_journal(learnt / "mlruns/optuna.journal")
    old, new = (optuna.load_study(study_name=n, storage=storage).trials for n in ("tiny", "second"))
    assert _front_of(old, but=new[:4])[:1] in ([], [new[4].params], [new[5].params])
    settings = json.loads((learnt / "mlruns/studies/second/settings.json").read_text())
    assert settings["config"]["learn_from"] == "tiny"
    # It may go on without, as the sampler may be another one each time.
    code, out, err = run(learnt, "search", "--study", "second", "--budget", 6, *OTHER_DATA)
    assert code == 0, err
    assert "learning from" not in err


def _front_of(trials, *, but):
    """What was trained best for its latency, fastest first, but what was begun anyway."""
    front, best = [], -1.0
    trained = [trial for trial in trials if trial.values]
    for trial in sorted(trained, key=lambda one: (one.values[1], -one.values[0])):
        if trial.values[0] > best:
            best = trial.values[0]
            front.append(trial.params)
    return [params for params in front if params not in [one.params for one in but]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--sampler", "tpe", "--learn-from", "tiny"],
            "`--learn-from` must stand beside `--sampler auto`",
        ),
        (["--sampler", "auto", "--learn-from", "none"], "must be a study in mlruns or in the"),
        (
            ["--sampler", "auto", "--learn-from", "second", "--study", "second"],
            "must name another study than --study, got second",
        ),
        (
            ["--sampler", "auto", "--learn-from", "tiny", "--space", "resnet"],
            "`--learn-from tiny` must have searched the space of this study",
        ),
        (["--sampler", "auto", *["--learn-from", "tiny"] * 2], "must name each study once"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(words, message, searched, invoke, monkeypatch):
    folder, _, _ = searched
    monkeypatch.chdir(folder)
    code, output = invoke("search", *words, *([] if "--study" in words else ["--study", "second"]))
    assert code == 2, output
    assert message in output
    assert output.count("\n") == 1
    assert not (folder / "mlruns/studies/second/settings.json").exists()
