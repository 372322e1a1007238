import dataclasses
import types

import pytest
import torch

from autokd.candidate import (
    CheckpointFolder,
    KnownTeacher,
    StudentSurveyor,
    Workshop,
    evaluate_candidate,
    prepare_candidate,
)
from autokd.config import Config
from autokd.data import load_data
from autokd.distillation import Plan
from autokd.errors import MeasureError
from autokd.spaces import build_space
from autokd.testing import FakeTarget

TINY = {"depth_1": 1, "depth_2": 1, "depth_3": 1, "width_1": 8, "width_2": 16, "width_3": 32}


@pytest.fixture(scope="module")
def data():
    return load_data(Config(train_limit=200))


@pytest.fixture
def workshop(data, tmp_path):
    return Workshop(
        space=build_space("mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10),
        data=data,
        teachers={"teacher": KnownTeacher(network=torch.nn.Identity())},
        target=FakeTarget(),
        plan=Plan(epochs=1, batch_size=32, seed=0, device=torch.device("cpu")),
        max_latency_ms=None,
        weights=tmp_path / "weights",
        checkpoints=CheckpointFolder(tmp_path / "checkpoints", limit_bytes=2**30),
    )


def test_a_prospect_says_what_the_trial_will_measure(workshop):
    (prospect,) = StudentSurveyor(workshop).survey([TINY])
    candidate = prepare_candidate(workshop.space.complete(TINY), workshop)
    assert prospect.latency_ms == candidate.latency.median_ms
    assert len(prospect.traits) == 3 + len(candidate.footprint.paths)


def test_the_recipe_does_not_matter(workshop):
    surveyor = StudentSurveyor(workshop)
    prospects = [surveyor.survey([{**TINY, "alpha": alpha}])[0] for alpha in (0.1, 0.9)]
    assert prospects[0] == prospects[1]
    assert len(workshop.target.measured) == 1


def test_what_a_trial_has_measured_is_not_measured_again(workshop):
    sample = workshop.space.complete({**TINY, "alpha": 0.0})
    result = evaluate_candidate(sample, workshop, trial=0, known={})
    fresh = dataclasses.replace(workshop, target=FakeTarget())
    surveyor = StudentSurveyor(fresh)
    surveyor.remember([result])
    (prospect,) = surveyor.survey([sample])
    assert prospect.latency_ms == result.latency.median_ms
    assert fresh.target.measured == []


def test_a_student_that_cannot_be_measured_is_none(workshop):
    class Broken:
        needs_program = False

        def measure(self, model):
            raise MeasureError(f"{model.name} does not run")

        def measure_together(self, models):
            return [self.measure(model) for model in models]

    surveyor = StudentSurveyor(dataclasses.replace(workshop, target=Broken()))
    assert surveyor.survey([TINY]) == [None]


@pytest.fixture
def clock(monkeypatch):
    """Seconds that tests let pass; a look takes four."""
    from autokd.candidate import surveying

    now = [100.0]
    monkeypatch.setattr(surveying, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    look = StudentSurveyor._look

    def look_slowly(self, sample):
        now[0] += 4.0
        return look(self, sample)

    monkeypatch.setattr(StudentSurveyor, "_look", look_slowly)
    return now


def test_a_search_that_has_just_begun_looks_at_one_student_a_time(workshop, clock):  # noqa: ARG001
    surveyor = StudentSurveyor(workshop)
    samples = [workshop.space.random(seed) for seed in range(5)]
    assert len(surveyor.survey(samples)) == 1
    assert len(surveyor.survey(samples[1:])) == 1
    assert len(surveyor.survey(samples)) == 2  # both are known


def test_looks_take_a_tenth_of_the_time_however_many_train(workshop, clock):
    surveyor = StudentSurveyor(workshop)
    samples = [workshop.space.random(seed) for seed in range(5)]
    clock[0] += 90.0
    assert len(surveyor.survey(samples)) == 3  # 12 of by then 102 seconds
    clock[0] += 17.0
    assert len(surveyor.survey(samples)) == 3  # 11.9 are its due
    clock[0] += 2.0
    assert len(surveyor.survey(samples)) == 4


def test_what_a_trial_could_not_measure_is_not_tried_again(workshop):
    class Broken(FakeTarget):
        def measure(self, model):  # noqa: ARG002
            raise MeasureError("the phone is off")

    broken = dataclasses.replace(workshop, target=Broken())
    result = evaluate_candidate(workshop.space.complete(TINY), broken, trial=0, known={})
    assert result.state == "failed"
    surveyor = StudentSurveyor(workshop)
    surveyor.remember([result])
    assert surveyor.survey([TINY]) == [None]
    assert not workshop.target.measured
