import dataclasses

import pytest
import torch

from autokd.candidate import (
    CheckpointFolder,
    KnownTeacher,
    Workshop,
    build_student,
    evaluate_candidate,
    load_student,
    prepare_candidate,
)
from autokd.config import Config
from autokd.data import load_data
from autokd.distillation import Plan
from autokd.errors import BuildError
from autokd.spaces import build_space
from autokd.testing import FakeTarget

TINY = {"depth_1": 1, "depth_2": 1, "depth_3": 1, "width_1": 8, "width_2": 16, "width_3": 32}


class Teacher(torch.nn.Module):
    def forward(self, views):
        return views.flatten(1)[:, :10]


@pytest.fixture(scope="module")
def data():
    return load_data(Config(train_limit=200))


@pytest.fixture
def workshop(data, tmp_path):
    return Workshop(
        space=build_space("mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10),
        data=data,
        teachers={"teacher": KnownTeacher(network=Teacher())},
        target=FakeTarget(),
        plan=Plan(epochs=1, batch_size=32, seed=0, device=torch.device("cpu")),
        max_latency_ms=None,
        weights=tmp_path / "weights",
        checkpoints=CheckpointFolder(tmp_path / "checkpoints", limit_bytes=2**30),
    )


def test_a_candidate_becomes_a_complete_result_with_its_weights(workshop):
    rows = []
    result = evaluate_candidate(TINY, workshop, trial=4, known={}, on_epoch=rows.append)
    assert (result.state, result.trial, len(result.curve)) == ("complete", 4, 1)
    assert 0 <= result.val_accuracy <= 1
    assert result.footprint.n_params > 0
    assert list(result.curve) == rows
    student = load_student(
        workshop.space, TINY, data=workshop.data.card,
        weights=workshop.weights / "trial-4.safetensors",
    )  # fmt: skip
    images, labels = workshop.data.val_images, workshop.data.val_labels
    accuracy = (student(images.float() / 255).argmax(1) == labels).float().mean().item()
    assert accuracy == pytest.approx(result.val_accuracy, abs=0.051)


def test_a_candidate_over_the_limit_is_measured_but_never_trained(workshop):
    workshop = dataclasses.replace(workshop, max_latency_ms=1e-9)
    rows = []
    result = evaluate_candidate(TINY, workshop, trial=0, known={}, on_epoch=rows.append)
    assert result.state == "pruned"
    assert "over the limit of 1e-09 ms" in result.reason
    assert result.latency is not None
    assert rows == []


def test_two_that_are_the_same_in_everything_share_the_result(workshop):
    first = evaluate_candidate({**TINY, "alpha": 0.0}, workshop, trial=0, known={})
    known = {(first.network, first.recipe): first}
    sample = {**TINY, "alpha": 0.0, "temperature": 9.0}  # no matter without distillation
    second = evaluate_candidate(sample, workshop, trial=1, known=known)
    assert (second.same_as, second.trial, second.training_s) == (0, 1, 0.0)
    assert second.val_accuracy == first.val_accuracy
    known = {(second.network, second.recipe): second}
    third = evaluate_candidate(sample, workshop, trial=2, known=known)
    assert third.same_as == 0


DROPPING = """
from nni.mutable import Categorical
from nni.nas.nn.pytorch import ModelSpace, ParametrizedModule
from torch import nn


class Head(ParametrizedModule):
    def __init__(self, rate, unused, n_classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Dropout(rate), nn.Linear(64, n_classes))

    def forward(self, views):
        return self.layers(views)


class Dropping(ModelSpace):
    def __init__(self, n_classes):
        super().__init__()
        rate, unused = Categorical([0.0, 0.5], label="rate"), Categorical([1, 2], label="unused")
        self.head = Head(rate, unused, n_classes)

    def forward(self, views):
        return self.head(views)


def build(input_shape, n_classes):
    return Dropping(n_classes)
"""


def test_two_that_differ_only_while_they_are_trained_do_not_share_it(workshop, tmp_path):
    (tmp_path / "net.py").write_text(DROPPING)
    shape = {"input_shape": (1, 8, 8), "n_classes": 10}
    space = build_space(f"{tmp_path / 'net.py'}:build", recipe="default", **shape)
    workshop = dataclasses.replace(workshop, space=space)
    sample = {"rate": 0.0, "unused": 1, "alpha": 0.0}
    first = evaluate_candidate(sample, workshop, trial=0, known={})
    known = {(first.network, first.recipe): first}
    dropping = evaluate_candidate({**sample, "rate": 0.5}, workshop, trial=1, known=known)
    assert (dropping.network, dropping.recipe) in known, "the files are the same"
    assert (dropping.state, dropping.same_as) == ("complete", None)
    assert dropping.curve != first.curve
    other = evaluate_candidate({**sample, "unused": 2}, workshop, trial=2, known=known)
    assert other.same_as == 0


def test_a_candidate_that_diverges_is_a_failed_result(workshop, monkeypatch):
    from autokd.candidate import training

    build = training.build_augmentation

    def build_blinding(*arguments, **options):
        augment = build(*arguments, **options)

        def blind(*batch, **which):
            views = augment(*batch, **which)
            return dataclasses.replace(views, pictures=views.pictures * float("nan"))

        return blind

    monkeypatch.setattr(training, "build_augmentation", build_blinding)
    result = evaluate_candidate({**TINY, "alpha": 0.0}, workshop, trial=0, known={})
    assert result.state == "failed"
    assert "loss is nan in epoch 1" in result.reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
        (MemoryError(), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory"),
        (BuildError("no such layer"), "no such layer"),
    ],
)
def test_what_lies_in_the_candidate_is_recorded(workshop, monkeypatch, error, reason):
    from autokd.candidate import training

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(training, "distill", fail)
    result = evaluate_candidate(TINY, workshop, trial=0, known={})
    assert result.state == "failed"
    assert reason in result.reason


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyError("x"), ZeroDivisionError()])
def test_a_bug_stops_the_search(workshop, monkeypatch, error):
    from autokd.candidate import training

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(training, "distill", fail)
    with pytest.raises(type(error)):
        evaluate_candidate(TINY, workshop, trial=0, known={})


def test_the_weights_of_a_student_come_from_the_seed(workshop):
    def weights(seed):
        student, _ = build_student(workshop.space, TINY, data=workshop.data.card, seed=seed)
        return torch.cat([p.flatten() for p in student.parameters()])

    before = torch.random.get_rng_state()
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_student_of_the_wrong_shape_cannot_be_built(workshop):
    other = build_space("mobile", recipe="default", input_shape=(1, 8, 8), n_classes=7)
    with pytest.raises(BuildError, match=r"\(batch, 10\) logits"):
        build_student(other, TINY, data=workshop.data.card, seed=0)


def test_what_is_known_before_training_needs_no_training(workshop):
    candidate = prepare_candidate(TINY, workshop)
    assert candidate.latency.median_ms > 0
    assert candidate.footprint.macs > 0
    assert len(candidate.network) == 64


def test_the_recipe_says_who_teaches(workshop):
    class Deaf(torch.nn.Module):
        def forward(self, _views):
            raise AssertionError("nobody asked")

    class Counted(Teacher):
        n_asked = 0

        def forward(self, views):
            self.n_asked += 1
            return super().forward(views)

    assistant = Counted()
    teachers = {
        "teacher": KnownTeacher(network=Deaf()),
        "assistant": KnownTeacher(network=assistant),
    }
    workshop = dataclasses.replace(
        workshop,
        teachers=teachers,
        space=build_space(
            "mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10, has_assistant=True
        ),
    )
    result = evaluate_candidate({**TINY, "taught_by": "assistant"}, workshop, trial=0, known={})
    assert (result.state, result.answers) == ("complete", "live")
    assert assistant.n_asked > 0
