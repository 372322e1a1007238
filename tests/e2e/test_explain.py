"""Where students and teachers look, and pictures on demand, from the command line."""

import json

import pytest


def test_a_student_is_compared_with_its_teacher(searched, run):
    from mlflow import MlflowClient

    folder, values, _ = searched
    trial = values["front"][-1]["trial"]
    code, out, err = run(folder, "explain", "tiny", "--trial", trial, "--out", "looks", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["study"], found["trial"], found["n_pictures"]) == ("tiny", trial, 60)
    assert -1 <= found["similarity"]["mean"] <= 1
    low, high = found["similarity"]["ci95"]
    assert low <= found["similarity"]["mean"] <= high
    assert found["similarity"]["n"] + found["n_blank"] == 60
    assert len(found["pictures"]) == 12
    for file in found["files"]:
        assert (folder / file).stat().st_size > 500
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    (logged,) = client.search_runs(
        [experiment.experiment_id], filter_string=f"tags.`autokd.trial` = '{trial}'"
    )
    assert logged.data.metrics["cam_similarity"] == pytest.approx(found["similarity"]["mean"])
    assert logged.data.metrics["teacher_agreement"] == pytest.approx(found["agreement"])
    artifacts = {item.path for item in client.list_artifacts(logged.info.run_id, "explanation")}
    assert f"explanation/explanation-{trial}.png" in artifacts


def test_the_knee_is_explained_for_people_where_no_trial_is_named(searched, invoke, monkeypatch):
    folder, _, _ = searched
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))
    code, out = invoke("explain", "--study", "tiny", "--pictures", "4")
    assert code == 0, out
    assert "all                          r = " in out
    assert "choose the same class on" in out
    assert "mlruns/studies/tiny/report/explanation-" in out


@pytest.mark.parametrize(
    ("words", "words_of_error"),
    [
        (["other"], "must be one of tiny, got other"),
        (["tiny", "--study", "two"], "must be named once, got tiny and two"),
        (["tiny", "--trial", "77"], "`--trial` must be one that was trained to its end"),
        (["tiny", "--trial", "1", "--pick", "knee"], "`--pick` must not stand beside `--trial`"),
        (["tiny", "--out", "file"], "is a file"),
        (["tiny", "--pictures", "1"], "1 is not in the range"),
    ],
)
def test_a_wrong_request_is_one_line(
    searched, invoke, monkeypatch, tmp_path, words, words_of_error
):
    folder, _, _ = searched
    (tmp_path / "file").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))
    words = [str(tmp_path / word) if word == "file" else word for word in words]
    code, out = invoke("explain", *words, "--runs-dir", folder / "mlruns")
    lines = [line for line in out.splitlines() if not line.startswith("looking at")]
    assert code == 2, out
    assert len(lines) == 1
    assert words_of_error in lines[0]


def test_all_pictures_are_drawn_again_on_demand(searched, run):
    folder, values, _ = searched
    code, out, err = run(folder, "front", "--study", "tiny", "--json", "--figures", "figures")
    assert code == 0, err
    assert json.loads(out) == values
    drawn = {path.name for path in (folder / "figures").iterdir()}
    assert drawn == {"front.png", "front.html", "curves.png", "coordinates.png", "importance.png"}
    assert {f"figures/{name}" for name in drawn} <= set(err.split())
