"""All trainings of a finalist are computed alike."""

import dataclasses

import pytest
import torch
from torch import nn

from autokd.candidate import (
    CheckpointFolder,
    KnownTeacher,
    Workshop,
    find_engine,
    learn_engine,
    recall_engine,
)
from autokd.config import Config
from autokd.data import load_data, load_test
from autokd.distillation import Engine, Plan
from autokd.errors import BuildError
from autokd.spaces import build_space
from autokd.study import orders
from autokd.study.crew import InlineCrew
from autokd.study.engines import settle_engines
from autokd.study.folder import StudyFolder
from autokd.study.orders import Bench, Order
from autokd.study.refits import Entry
from autokd.testing import FakeTarget
from autokd.types import Recipe, TrialResult, dump_json, load_json

TINY = {"depth_1": 1, "depth_2": 1, "depth_3": 1, "width_1": 8, "width_2": 16, "width_3": 32}
OTHERS = ["fp32 contiguous cpu x1", "bf16 channels_last cpu x1"]


@pytest.fixture(scope="module")
def data():
    return load_data(Config(train_limit=100))


@pytest.fixture
def workshop(data, tmp_path):
    return Workshop(
        space=build_space("mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10),
        data=data,
        teachers={"teacher": KnownTeacher(network=nn.Linear(1, 1))},
        target=FakeTarget(),
        plan=Plan(epochs=1, batch_size=32, seed=0, device=torch.device("cpu")),
        max_latency_ms=None,
        weights=tmp_path / "weights",
        checkpoints=CheckpointFolder(tmp_path / "checkpoints", limit_bytes=2**30),
    )


@pytest.fixture
def bench(workshop, tmp_path):
    return Bench(
        workshop=workshop,
        refits=tmp_path / "refits",
        test=lambda: load_test(Config(train_limit=100)),
    )


@pytest.fixture
def found(monkeypatch):
    """What each look at the clock finds; another engine each time."""
    found = []

    def find(result, _workshop):
        if result.trial == 13:
            raise BuildError("it is no network")
        found.append(OTHERS[len(found) % 2])
        return found[-1]

    monkeypatch.setattr(orders, "find_engine", find)
    return found


@pytest.fixture
def settle(bench, tmp_path):
    def settle(*results, **options):
        settled = settle_engines(
            results, bench=bench, crew=InlineCrew(), folder=StudyFolder(tmp_path / "study"),
            **{"trained": {}, "is_alone": False, **options},
        )  # fmt: skip
        return {trial: result.engine for trial, result in settled.items()}

    return settle


def measured(trial, engine=""):
    return TrialResult(trial=trial, state="measured", sample=TINY, network="n", engine=engine)


def test_a_student_is_timed_once_also_over_sessions(settle, found):
    assert settle(measured(0), measured(1)) == {0: OTHERS[0], 1: OTHERS[1]}
    assert settle(measured(1)) == {1: OTHERS[1]}
    assert found == OTHERS


def test_what_a_trial_was_computed_with_holds_for_its_finals(settle, found):
    assert settle(measured(0, OTHERS[1])) == {0: OTHERS[1]}
    graphed = "bf16 contiguous cuda graphed"
    assert settle(measured(1, graphed)) == {1: graphed}, "on a CPU too, with the same numbers"
    assert found == []


def test_what_others_of_a_student_were_trained_with_goes_before_all_else(settle, found, tmp_path):
    folder = StudyFolder(tmp_path / "study")
    folder.keep_engine(0, OTHERS[0])  # of a session on another device than the trial's
    assert settle(measured(0, OTHERS[1])) == {0: OTHERS[0]}
    graphed = "bf16 contiguous cuda graphed"
    assert settle(measured(0, OTHERS[1]), trained={0: graphed}) == {0: graphed}
    assert found == []


@pytest.mark.usefixtures("found")
def test_who_cannot_be_timed_is_left_to_its_trainings(settle):
    assert settle(measured(13)) == {13: ""}


def test_the_engine_of_the_result_is_computed_with_wherever_it_is_trained(workshop):
    workshop.engines["n"] = Engine(device=torch.device("cpu"), threads=4)
    assert recall_engine(measured(0), workshop) == workshop.engines["n"]
    assert str(recall_engine(measured(0, OTHERS[1]), workshop)) == OTHERS[1]
    elsewhere = recall_engine(measured(0, "bf16 channels_last cuda graphed"), workshop)
    assert str(elsewhere) == OTHERS[1], "the same numbers on a device of another kind"
    workshop.engines.clear()
    assert recall_engine(measured(0), workshop) is None


@pytest.mark.parametrize(
    "unlike", [{"feature_loss": "hint"}, {"exits": 1}, {"resizing": "progressive"}]
)
def test_a_training_that_could_not_be_recorded_takes_no_recording_from_others(workshop, unlike):
    workshop = dataclasses.replace(
        workshop, plan=dataclasses.replace(workshop.plan, device=torch.device("cuda"))
    )
    plain, graphed = "bf16 channels_last cuda", "bf16 channels_last cuda graphed"

    def learn(engine, **changes):
        result = dataclasses.replace(measured(0, engine), recipe=Recipe(**changes))
        learn_engine(result, workshop)
        return {network: str(one) for network, one in workshop.engines.items()}

    assert learn(plain, **unlike) == {}, "another recipe is yet to be timed"
    assert learn(graphed) == {"n": graphed}
    assert learn(plain, **unlike) == {"n": graphed}
    assert learn(OTHERS[0]) == {"n": graphed}, "of a device of another kind"
    assert learn(plain) == {"n": plain}, "one that could have been recorded was not"


@pytest.mark.parametrize("unlike", [{}, {"feature_loss": "hint"}])
def test_on_a_cpu_every_training_tells_how_it_was_computed(workshop, unlike):
    learn_engine(dataclasses.replace(measured(0, OTHERS[1]), recipe=Recipe(**unlike)), workshop)
    assert str(workshop.engines["n"]) == OTHERS[1]
    learn_engine(measured(1), workshop)
    assert str(workshop.engines["n"]) == OTHERS[1]


def test_a_student_and_its_twin_train_with_the_engine_that_was_settled(bench):
    result = measured(0, OTHERS[1])
    for is_twin in (False, True):
        entry = Entry(trial=0, seed=1, is_twin=is_twin, epochs=1)
        plain = dataclasses.replace(result, sample={**TINY, "alpha": 0.0})
        outcome = orders.carry_out(Order(result=plain, refit=entry), bench, lambda _: True)
        assert outcome.refit.engine == OTHERS[1]


def test_a_probe_trains_nothing_and_travels(bench):
    order = load_json(Order, dump_json(Order(result=measured(0), is_probe=True)))
    assert (order.name, bench.files_of(order)) == ("engine-0", {})
    outcome = orders.carry_out(order, bench, lambda _: True)
    assert outcome.is_final
    assert outcome.result is outcome.refit is None
    assert str(Engine.parse(outcome.engine)) == outcome.engine
    assert find_engine(measured(0), bench.workshop).device == torch.device("cpu")
