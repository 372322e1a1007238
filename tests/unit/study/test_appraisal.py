"""What is found of a student for its card, and what is told where it cannot be found."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from autokd.config import Config
from autokd.data import load_data, load_test
from autokd.errors import TeacherError
from autokd.exporters import render_card
from autokd.study.alumni import recall_teacher
from autokd.study.appraisal import Appraiser
from autokd.study.folder import StudyFolder
from autokd.study.progress import SearchProgress
from autokd.teachers import build_committee, build_teacher_requests, load_teacher
from autokd.types import TeacherCard
from tests.unit.reports.fake_study import build_front

NETWORKS = """
import torch
from torch import nn

def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(384, 10))

def flat():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


@pytest.fixture
def appraise(tmp_path, monkeypatch):
    """The student `convolutional`, with one of the teachers."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("AUTOKD_CACHE", str(tmp_path / "cache"))
    name = f"appraised_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(NETWORKS)
    network = _student()

    def appraise(teacher, *, digest=None):
        config = Config(
            teacher=f"python:{name}:{teacher}", train_limit=200, study="s", device="cpu",
            runs_dir=tmp_path / "runs",
        )  # fmt: skip
        data = load_data(config)
        card = TeacherCard(
            name=teacher, digest="other", n_params=1, val_accuracy=0.9, latency_ms=1.0
        )
        card = dataclasses.replace(card, digest=digest or _find_digest(config, data))
        front = dataclasses.replace(build_front(), study="s", teacher=card)
        appraiser = Appraiser(
            config=config, folder=StudyFolder(config.study_dir), front=front, data=data,
            test=load_test(config), progress=SearchProgress(is_silent=True),
        )  # fmt: skip
        out = tmp_path / "out"
        out.mkdir()
        return appraiser.appraise(network, front.students[0], folder=out)

    return appraise


def _student():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(384, 10)
    ).eval()


def _find_digest(config, data):
    """Of the teacher as it is, which the error about another one does not tell."""
    from autokd.config import find_cache
    from autokd.teachers import build_teacher_requests, load_teacher

    (request,) = build_teacher_requests(config)
    return load_teacher(
        request, config=config, data=data.card, fit=lambda *_, **__: None, cache=find_cache()
    ).digest


def test_a_student_that_is_its_teacher_agrees_with_it_in_everything(appraise):
    found = appraise("convolutional")
    assert found.facts["teacher_agreement"] == 1.0
    assert found.facts["teacher_agreement_n"] == 360
    assert found.facts["cam_similarity"] == pytest.approx(1.0, abs=1e-5)
    assert found.facts["cam_similarity_shuffled"] < 1
    assert set(found.facts["pictures"]) == {"calibration", "confusion", "looks"}
    assert set(found.facts["missing"]) == {"front", "curves"}
    names = {file.name for file in found.files}
    assert names == {"appraisal.json", "calibration.png", "confusion.png", "looks.png"}
    again = found.facts["made_again"]
    assert "autokd search --study s --train-limit 200" in again["command"]
    assert again["export"] == "autokd export --study s --pick 3"
    assert len(again["data_digest"]) == len(again["teacher_digest"]) == 64


def test_all_pictures_of_the_study_go_with_the_card(appraise, tmp_path):
    report = tmp_path / "runs/studies/s/report"
    report.mkdir(parents=True)
    whole = ("front", "curves", "coordinates", "importance")
    for what in whole:
        (report / f"{what}.png").write_bytes(what.encode())
    found = appraise("convolutional")
    assert {what: f"{what}.png" for what in whole}.items() <= found.facts["pictures"].items()
    assert found.facts["missing"] == {}
    files = {file.name: file for file in found.files}
    assert all(files[f"{what}.png"].read_bytes() == what.encode() for what in whole)


def test_importance_that_too_few_trials_tell_is_told_as_missing(appraise, tmp_path):
    report = tmp_path / "runs/studies/s/report"
    report.mkdir(parents=True)
    for what in ("front", "curves", "coordinates"):
        (report / f"{what}.png").write_bytes(b"drawn")
    found = appraise("convolutional")
    assert set(found.facts["missing"]) == {"importance"}
    assert "too few trials" in found.facts["missing"]["importance"]


def test_the_figures_behind_the_pictures_add_up(appraise):
    found = appraise("convolutional")
    (file,) = [file for file in found.files if file.suffix == ".json"]
    figures = json.loads(file.read_text())
    matrix = torch.tensor(figures["confusion_matrix"])
    assert int(matrix.sum()) == 360
    assert int(matrix.diagonal().sum()) / 360 == pytest.approx(
        figures["teacher_test_accuracy"], abs=1e-6
    )
    assert sum(one["n"] for one in figures["calibration"]["bins"]) == 360
    assert figures["calibration"]["ece"] == figures["ece"]


def test_a_teacher_without_maps_is_agreed_with_but_not_looked_through(appraise):
    found = appraise("flat")
    assert "teacher_agreement" in found.facts
    assert "looks" not in found.facts["pictures"]
    assert "must be made of PyTorch modules" in found.facts["missing"]["looks"]


def test_a_teacher_that_is_another_one_now_leaves_a_card_that_says_so(appraise):
    found = appraise("convolutional", digest="d" * 64)
    assert "must be who taught the study" in found.facts["missing"]["agreement"]
    assert "teacher_agreement" not in found.facts
    card = {
        "input": {"shape": ["batch", 1, 8, 8]}, "classes": list("0123456789"), "study": "s",
        "test_accuracy": 0.1, "onnx_test_accuracy": 0.1, "top1_agreement": 1.0, "latency_ms": 1.0,
        **found.facts,
    }  # fmt: skip
    text = render_card(card)
    assert "No picture: `--teacher` must be who taught the study" in text
    assert "](calibration.png)" in text
    assert "](looks.png)" not in text
    assert "autokd search --study s" in text


def test_a_teacher_that_was_trained_is_not_trained_again(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOKD_CACHE", str(tmp_path))
    config = Config(train_limit=200, device="cpu")
    data = load_data(config)
    card = TeacherCard(name="auto", digest="d", n_params=1, val_accuracy=0.9, latency_ms=1.0)
    with pytest.raises(TeacherError, match=r"was trained for the study .* search again"):
        recall_teacher(card, config=config, data=data, device=torch.device("cpu"))


def test_a_committee_is_weighed_as_it_was_when_the_study_was_made(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("AUTOKD_CACHE", str(tmp_path / "cache"))
    (tmp_path / "weighed_networks.py").write_text(NETWORKS)
    config = Config(
        teacher=("python:weighed_networks:convolutional", "python:weighed_networks:flat"),
        teacher_vote="accuracy", train_limit=200, study="s", device="cpu", runs_dir=tmp_path,
    )  # fmt: skip
    data, folder = load_data(config), StudyFolder(config.study_dir)
    members = [
        load_teacher(one, config=config, data=data.card, fit=lambda *_, **__: None, cache=tmp_path)
        for one in build_teacher_requests(config)
    ]
    known = dict(zip((one.digest for one in members), (0.7, 1 / 3), strict=True))
    committee = build_committee(
        members, vote="accuracy", accuracies=list(known.values()), n_classes=10,
        n_pictures=len(data.val_labels),
    )  # fmt: skip
    card = TeacherCard(
        name="both", digest=committee.digest, n_params=1, val_accuracy=0.7, latency_ms=1.0
    )
    appraiser = Appraiser(
        config=config, folder=folder, front=dataclasses.replace(build_front(), teacher=card),
        data=data, test=load_test(config), progress=SearchProgress(is_silent=True),
    )  # fmt: skip
    monkeypatch.setattr("autokd.study.alumni.evaluate_teacher", lambda *_, **__: 0.5)
    folder.path.mkdir(parents=True)
    folder.keep_settings(config, dimensions=(), digests={})  # an older study knows none
    with pytest.raises(TeacherError, match="must be who taught the study"):
        _ = appraiser._teacher
    folder.keep_settings(config, dimensions=(), digests={}, accuracies=known)
    assert appraiser._teacher.digest == committee.digest
