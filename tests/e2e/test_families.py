"""Teachers and students of the same and of different families, from the command line."""

import json

import pytest

TINY = ["--train-limit", "300", "--epochs", "1", "--no-refit", "--json"]


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("dist+fsp", ["--space", "resnet"]),
        ("dkd+attention", ["--space", "vit"]),
        pytest.param(
            "standardised+soft_targets+hint",
            ["--teacher", "timm:test_vit", "--teacher-finetune"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["cnn to cnn", "cnn to vit", "vit to cnn"],
)
def test_any_family_teaches_any_other_logits_and_features(run, tmp_path, loss, options):
    code, out, err = run(
        tmp_path, "search", "--budget", 2, "--study", "pair", "--loss", loss, *TINY, *options
    )
    assert code == 0, err
    values = json.loads(out)
    assert (values["n_trials"], values["n_failed"]) == (2, 0)
    kinds = {student["recipe"]["feature_loss"] for student in values["front"]}
    assert kinds == {loss.split("+")[-1]}
