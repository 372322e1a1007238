import dataclasses

import pytest
import torch
from torch import nn

from autokd.candidate import (
    INT8_SUFFIX,
    CheckpointFolder,
    KnownTeacher,
    StudentSurveyor,
    Workshop,
    check_calibration,
    choose_calibration,
    describe_student,
    evaluate_candidate,
    load_student,
    prepare_candidate,
    quantize_student,
    score_file,
    screen_candidate,
    settle_latency,
)
from autokd.config import Config
from autokd.data import load_data
from autokd.distillation import Plan
from autokd.errors import DataError
from autokd.spaces import build_space
from autokd.testing import FakeTarget

TINY = {"depth_1": 1, "depth_2": 1, "depth_3": 1, "width_1": 8, "width_2": 16, "width_3": 32,
        "alpha": 0.0}  # fmt: skip
INT8 = {**TINY, "precision": "int8"}


class NamedTarget:
    """A target that knows an INT8 file by its name."""

    needs_program = False

    def __init__(self, int8_ms):
        self.int8_ms, self.measured = int8_ms, []

    def measure(self, model):
        self.measured.append(model.name)
        latency = FakeTarget().measure(model)
        return dataclasses.replace(latency, median_ms=self.int8_ms if "int8" in model.name else 1.0)

    def measure_together(self, models):
        return [self.measure(model) for model in models]


@pytest.fixture(scope="module")
def data():
    return load_data(Config(train_limit=400))


@pytest.fixture(scope="module")
def space():
    return build_space(
        "mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10, precision="both"
    )


@pytest.fixture
def open_workshop(data, space, tmp_path):
    def open_workshop(int8_ms=0.5):
        return Workshop(
            space=space,
            data=data,
            teachers={"teacher": KnownTeacher(network=nn.Identity())},
            target=NamedTarget(int8_ms),
            plan=Plan(epochs=1, batch_size=32, seed=0, device=torch.device("cpu")),
            max_latency_ms=None,
            weights=tmp_path / "weights",
            checkpoints=CheckpointFolder(tmp_path / "checkpoints", limit_bytes=2**30),
        )

    return open_workshop


# ---------------------------------------------------------------------- a student


class Fragile(nn.Module):
    """One feature of its middle is so large that the others vanish in a byte."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.middle = nn.Linear(64, 16), nn.Linear(16, 16)
        self.third, self.last = nn.Linear(16, 16), nn.Linear(16, 10)
        with torch.no_grad():
            self.middle.weight[0] *= 1e5
            self.third.weight[:, 0] = 0

    def forward(self, views):
        hidden = torch.relu(self.middle(torch.relu(self.first(views.flatten(1)))))
        return self.last(torch.relu(self.third(hidden)))


@pytest.fixture(scope="module")
def fragile(data):
    """A student, and pictures labelled with what it says of them."""
    student, pictures = Fragile(), data.val_images.float() / 255
    with torch.no_grad():
        student.last.bias -= student(pictures).mean(0)  # on some processors all are one class
        logits = student(pictures)
    best, second = logits.topk(2).values.unbind(1)
    sure = (best - second).argsort()[len(pictures) // 2 :]  # no rounding makes these others
    images, labels = data.val_images[sure], logits[sure].argmax(1)
    return student, dataclasses.replace(data, val_images=images, val_labels=labels)


def test_the_accuracy_is_that_of_the_file_in_the_runtime(fragile, tmp_path):
    student, data = fragile
    quantized = quantize_student(student, tmp_path / f"a{INT8_SUFFIX}", data=data, limit=1.0)
    assert quantized.path == tmp_path / "a.int8.onnx"
    assert quantized.fp32_val_accuracy == 1.0
    accuracy = score_file(quantized.path, data.val_images, data.val_labels)
    assert quantized.val_accuracy == accuracy
    assert quantized.float_layers == ()


def test_layers_that_cost_too_much_stay_in_float(fragile, tmp_path):
    student, data = fragile
    whole = quantize_student(student, tmp_path / "whole.onnx", data=data, limit=1.0)
    assert whole.val_accuracy < 0.9
    kept = quantize_student(student, tmp_path / "kept.onnx", data=data)
    assert kept.val_accuracy > 0.98
    assert 1 <= len(kept.float_layers) <= 2
    assert all("middle" in layer or "third" in layer for layer in kept.float_layers)


def test_layers_that_are_given_stay_in_float_and_no_others(fragile, tmp_path):
    student, data = fragile
    kept = quantize_student(student, tmp_path / "kept.onnx", data=data)
    again = quantize_student(
        student, tmp_path / "again.onnx", data=data, float_layers=kept.float_layers
    )
    assert (again.float_layers, again.val_accuracy) == (kept.float_layers, kept.val_accuracy)
    none = quantize_student(student, tmp_path / "none.onnx", data=data, float_layers=())
    assert none.float_layers == ()
    assert none.val_accuracy < 0.9


def test_too_few_pictures_are_the_users_fault(data):
    check_calibration(data.card)
    with pytest.raises(DataError, match=r"must have 300 training pictures .* got 299; use"):
        check_calibration(dataclasses.replace(data.card, n_train=299))


def test_calibration_pictures_are_training_pictures_by_seed(data):
    chosen = choose_calibration(data, n=20, seed=3)
    known = {picture.numpy().tobytes() for picture in data.train_images}
    assert all(picture.numpy().tobytes() in known for picture in chosen)
    assert torch.equal(chosen, choose_calibration(data, n=20, seed=3))
    assert not torch.equal(chosen, choose_calibration(data, n=20, seed=4))


# ---------------------------------------------------------------------- a candidate


def test_an_int8_candidate_is_timed_beside_its_fp32_self(open_workshop):
    workshop = open_workshop()
    candidate = prepare_candidate(INT8, workshop)
    assert (candidate.latency.median_ms, candidate.fp32_latency.median_ms) == (0.5, 1.0)
    plain = prepare_candidate(TINY, workshop)
    assert (plain.latency.median_ms, plain.fp32_latency) == (1.0, None)
    assert plain.network == candidate.network
    n_measured = len(workshop.target.measured)
    assert prepare_candidate({**INT8, "alpha": 0.5}, workshop).latency == candidate.latency
    assert len(workshop.target.measured) == n_measured


def test_one_that_is_no_faster_in_int8_is_never_trained(open_workshop):
    result = evaluate_candidate(INT8, open_workshop(int8_ms=1.25), trial=0, known={})
    assert (result.state, result.curve) == ("pruned", ())
    assert result.reason == "INT8 takes 1.25 ms, no less than FP32 with 1 ms"


def test_a_trained_int8_candidate_has_the_accuracy_of_its_file(open_workshop):
    workshop = open_workshop()
    result = evaluate_candidate(INT8, workshop, trial=3, known={})
    assert (result.state, result.precision) == ("complete", "int8")
    assert result.latency.median_ms == 0.5
    file = workshop.weights / f"trial-3{INT8_SUFFIX}"
    data = workshop.data
    assert result.val_accuracy == score_file(file, data.val_images, data.val_labels)
    student = load_student(
        workshop.space, INT8, data=data.card, weights=workshop.weights / "trial-3.safetensors"
    )
    logits = student(data.val_images.float() / 255)
    accuracy = (logits.argmax(1) == data.val_labels).float().mean().item()
    assert result.curve[-1].val_accuracy == pytest.approx(accuracy, abs=0.03)


def test_the_same_recipe_in_another_precision_is_another_candidate(open_workshop):
    workshop = open_workshop()
    first = evaluate_candidate(TINY, workshop, trial=0, known={})
    known = {(first.network, first.recipe): first}
    assert screen_candidate(INT8, workshop, trial=1, known=known).state == "measured"
    assert screen_candidate(TINY, workshop, trial=2, known=known).same_as == 0


def test_layers_left_in_float_are_timed_again(open_workshop):
    workshop = open_workshop()
    result = evaluate_candidate(INT8, workshop, trial=0, known={})
    layers = ("/network/stem/stem.0/Conv",)
    partly = dataclasses.replace(result, float_layers=layers)
    workshop.target.int8_ms = 0.75
    assert settle_latency(partly, workshop).latency.median_ms == 0.75
    workshop.target.int8_ms = 2.0
    pruned = settle_latency(partly, workshop)
    assert pruned.state == "pruned"
    assert pruned.reason.endswith("no less than FP32 with 1 ms, with 1 layers left in float")
    assert settle_latency(result, workshop) == result


# ---------------------------------------------------------------------- a survey


def test_a_prospect_has_the_latency_of_its_precision_and_the_traits_of_its_network(open_workshop):
    surveyor = StudentSurveyor(open_workshop())
    plain, quantized = (surveyor.survey([sample])[0] for sample in (TINY, INT8))
    assert (plain.latency_ms, quantized.latency_ms) == (1.0, 0.5)
    assert plain.traits == quantized.traits


def test_what_is_not_offered_is_not_proposed(open_workshop):
    workshop = open_workshop(int8_ms=1.5)
    result = evaluate_candidate(INT8, workshop, trial=0, known={})
    assert describe_student(result) is None
    fresh = dataclasses.replace(workshop, target=NamedTarget(1.5), candidates={})
    surveyor = StudentSurveyor(fresh)
    surveyor.remember([result])
    sample = workshop.space.complete(INT8)
    surveyor.remember([dataclasses.replace(result, sample=sample)])
    assert surveyor.survey([sample]) == [None]
    assert fresh.target.measured == []
