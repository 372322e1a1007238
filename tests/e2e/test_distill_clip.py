"""A light dual tower from the command line, under a model of open_clip."""

import json
import subprocess
import sys

import pytest
from mlflow import MlflowClient

from tests import tiles

pytest.importorskip("open_clip", reason="needs open_clip: pip install autokd[clip]")


@pytest.mark.slow
def test_a_dual_tower_is_trained_measured_exported_and_run(run, tmp_path):
    (tmp_path / "clip").mkdir()
    tiles.write_open_clip(tmp_path / "clip")
    tiles.write_pairs(tmp_path)
    words = [
        "distill-clip", "--pairs", "tiles.csv", "--teacher", "clip:local-dir:clip",
        "--image-tower", "mobile:width=0.5", "--text-layers", 1, "--text-width", 16,
        "--text-heads", 2, "--epochs", 2, "--batch-size", 16, "--seeds", 1, "--study", "t",
    ]  # fmt: skip
    code, _, err = run(tmp_path, *words, "--image-tower", "mobile:width=99")
    assert code == 2
    assert "SpaceError: `width_1` must be one of" in err
    code, out, err = run(tmp_path, *words, "--json")
    assert code == 0, err
    done = json.loads(out)
    assert done["student"]["image_ms"] > 0
    assert done["teacher"]["text_ms"] > 0
    assert done["gain"]["n"] == 1
    assert "times as fast as the teacher" in err
    program = [sys.executable, "towers/run.py", "0.png", "a red tile", "a green tile"]
    said = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    odds = {line.split(" ", 1)[1]: float(line.split()[0]) for line in said.splitlines()}
    assert set(odds) == {"a red tile", "a green tile"}
    assert sum(odds.values()) == pytest.approx(1, abs=1e-3)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("t")
    runs = {r.info.run_name: r for r in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"search", "student-seed-0", "twin-seed-0"}
    code, out, err = run(tmp_path, *words)
    assert code == 0, err
    assert "gain by the teacher" in out
    assert "towers/image.onnx" in out
