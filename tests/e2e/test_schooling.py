"""Several teachers, an assistant and pictures without labels, from the command line to MLflow."""

import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

TEACHERS = """
import torch
from sklearn.datasets import load_digits
from torch import nn

class Means(nn.Module):
    \"\"\"Tells digits apart by their nearest mean picture.\"\"\"

    def __init__(self, first):
        super().__init__()
        digits = load_digits()
        pixels = torch.tensor(digits.images[first::2] / 16).float().flatten(1)
        labels = torch.tensor(digits.target[first::2])
        means = torch.stack([pixels[labels == label].mean(0) for label in range(10)])
        self.last = nn.Linear(64, 10).requires_grad_(False)
        self.last.weight.copy_(4 * means)
        self.last.bias.copy_(-2 * means.square().sum(1))

    def forward(self, pictures):
        return self.last(pictures.flatten(1))

def even():
    return Means(0)

def odd():
    return Means(1)
"""
N_TRAIN = 240  # of 300, the others validate
STUDENT = ["--student", "mobile:width=0.5,depth=1", "--train-limit", 300, "--epochs", 2]
REST = ["--workers", 1, "--no-register", "--json", "--study", "s"]


@pytest.fixture
def distill(run, tmp_path):
    """Runs `autokd distill`: what it printed as JSON, what it said, and MLflow's runs."""

    def distill(*words):
        (tmp_path / "teachers.py").write_text(TEACHERS)
        code, out, err = run(tmp_path, "distill", *STUDENT, *REST, *words)
        assert code == 0, err
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
        experiment = client.get_experiment_by_name("s").experiment_id
        return json.loads(out), err, _Runs(client, client.search_runs([experiment]))

    return distill


class _Runs:
    """MLflow's runs of one study."""

    def __init__(self, client, runs):
        self._client = client
        kinds = {run.info.run_id: run.data.tags.get("autokd.kind") for run in runs}
        self.trials = [run for run in runs if kinds[run.info.run_id] == "trial"]
        self.tags = {}
        for run in runs:
            self.tags |= run.data.tags if kinds[run.info.run_id] != "trial" else {}

    def count_epochs(self, *, is_twin):
        (trial,) = [one for one in self.trials if one.data.params["is_twin"] == str(is_twin)]
        return len(self._client.get_metric_history(trial.info.run_id, "val_accuracy"))


def test_several_teachers_speak_as_one_of_pictures_without_labels_too(distill, tmp_path):
    folder = tmp_path / "more/below"
    folder.mkdir(parents=True)
    for number, image in enumerate(load_digits().images[:N_TRAIN]):
        pixels = np.roll(image * 255 / 16, 1, axis=1).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    values, err, runs = distill(
        "--teacher", "python:teachers:even", "--teacher", "python:teachers:odd",
        "--teacher-vote", "confidence", "--unlabelled", "more", "--baseline", "--seeds", 1,
    )  # fmt: skip
    name = "python:teachers:even + python:teachers:odd"
    assert values["teacher"]["name"] == runs.tags["teacher.name"] == name
    assert values["teacher"]["n_params"] == 2 * 650
    assert f"teacher {name}: " in err
    assert f"+ {N_TRAIN} without labels" in err
    assert runs.tags["data.n_unlabelled"] == str(N_TRAIN)
    answers = {one.data.params["is_twin"]: one.data.tags.get("autokd.answers", "")
               for one in runs.trials}  # fmt: skip
    assert answers == {"False": "kept", "True": ""}
    assert runs.count_epochs(is_twin=False) == 2
    assert runs.count_epochs(is_twin=True) == 4, "as many steps without the second half"


@pytest.mark.slow
def test_an_assistant_is_taught_and_teaches_beside_the_teacher(distill):
    _, err, runs = distill(
        "--teacher", "python:teachers:even", "--assistant", "timm:test_resnet",
        "--teacher-image-size", 8, "--fix", "taught_by=both",
    )  # fmt: skip
    assert "assistant timm:test_resnet: " in err
    assert "both together: " in err
    (trial,) = runs.trials
    assert trial.data.params["taught_by"] == "both"
    assert trial.data.tags["autokd.answers"] == "kept"
