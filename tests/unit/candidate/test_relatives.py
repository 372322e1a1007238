"""Who begins with whose weights, and what happens when these are not there any more."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from autokd.candidate import (
    CheckpointFolder,
    KnownTeacher,
    Workshop,
    build_student,
    evaluation,
    inherit_candidate,
    save_student,
    screen_candidate,
    train_candidate,
)
from autokd.config import Config
from autokd.data import load_data
from autokd.distillation import Checkpoint, Plan
from autokd.spaces import build_space
from autokd.testing import FakeTarget
from autokd.types import EpochLog, TrialResult

TINY = {"depth_1": 1, "depth_2": 1, "depth_3": 1, "width_1": 8, "width_2": 16, "width_3": 32,
        "alpha": 0.0}  # fmt: skip
WIDER = {**TINY, "width_3": 64}
EPOCHS = 2


@pytest.fixture(scope="module")
def data():
    return load_data(Config(train_limit=200))


@pytest.fixture
def workshop(data, tmp_path):
    return Workshop(
        space=build_space("mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10),
        data=data, teachers={"teacher": KnownTeacher(network=torch.nn.Identity())},
        target=FakeTarget(), max_latency_ms=None, weights=tmp_path / "weights",
        plan=Plan(epochs=EPOCHS, batch_size=32, seed=0, device=torch.device("cpu")),
        checkpoints=CheckpointFolder(tmp_path / "checkpoints", limit_bytes=2**30),
    )  # fmt: skip


@pytest.fixture
def begun(monkeypatch):
    """What students began with, by a training that ends at once."""
    states = []
    train = evaluation.train_student

    def watch(student, *words, **options):
        states.append({key: value.clone() for key, value in student.state_dict().items()})
        return train(student, *words, **options)

    monkeypatch.setattr(evaluation, "train_student", watch)
    return states


def build(workshop, sample, *, seed=0):
    return build_student(workshop.space, sample, data=workshop.data.card, seed=seed)[0]


def row(epoch):
    return EpochLog(
        epoch=epoch, train_loss=1.0, val_loss=1.0, val_accuracy=0.5, learning_rate=0.1,
        alpha=0.0, temperature=4.0, seconds=1.0,
    )  # fmt: skip


def put(workshop, trial, *, sample=TINY, state="complete", accuracy=0.9, generation=0, **fields):
    """A trained trial with its file; gives result and weights."""
    student = build(workshop, sample, seed=100 + trial)
    if state == "stopped":
        workshop.checkpoints.keepers(f"trial-{trial}")(generation).save(
            Checkpoint(
                curve=(row(1),), weights=build(workshop, sample).state_dict(),
                best_weights=student.state_dict(), beside=[], optimiser={}, schedule={},
                engine="", seconds=1.0,
            )
        )  # fmt: skip
    elif state == "complete":
        save_student(student, workshop.weights / f"trial-{trial}.safetensors")
    full = workshop.space.complete(sample)
    result = TrialResult(trial=trial, state=state, sample=full, val_accuracy=accuracy, **fields)
    return result, student.state_dict()


def screen(workshop, *, sample=WIDER, trial=7):
    return screen_candidate(workshop.space.complete(sample), workshop, trial=trial, known={})


@pytest.mark.parametrize("state", ["complete", "stopped"])
def test_a_student_begins_with_what_it_has_in_common(state, workshop, begun):
    kin, weights = put(workshop, 3, state=state)
    chosen = inherit_candidate(screen(workshop), workshop, results=[kin])
    assert chosen.inherited_from == 3
    assert 0.3 < chosen.inherited_share < 1
    result = train_candidate(chosen, workshop)
    assert (result.state, result.inherited_from) == ("complete", 3)
    assert result.inherited_share == chosen.inherited_share
    assert len(result.curve) == EPOCHS
    for key, value in weights.items():
        if key.startswith("network."):
            assert torch.equal(begun[0][key][tuple(slice(0, n) for n in value.shape)], value)


def test_of_a_student_trained_several_times_over_the_last_generation_counts(workshop, begun):
    put(workshop, 3, state="stopped", generation=0)
    _, last = put(workshop, 4, state="stopped", generation=0)
    kin = workshop.checkpoints.keepers("trial-4")(0).load()
    workshop.checkpoints.keepers("trial-3")(10).save(kin)
    full = workshop.space.complete(TINY)
    result = TrialResult(trial=3, state="stopped", sample=full, val_accuracy=0.9)
    chosen = inherit_candidate(screen(workshop, sample=TINY), workshop, results=[result])
    assert chosen.inherited_share == 1.0
    train_candidate(chosen, workshop)
    assert all(torch.equal(begun[0][key], value) for key, value in last.items())


def test_a_training_that_is_cut_off_begins_with_the_same_again(workshop, begun):
    kin, _ = put(workshop, 3)
    chosen = inherit_candidate(screen(workshop), workshop, results=[kin])

    def kill(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_candidate(chosen, workshop, on_epoch=kill)
    workshop.checkpoints.keepers("trial-7")(0)._path.unlink()  # as if killed before
    (workshop.weights / "trial-3.safetensors").unlink()
    result = train_candidate(chosen, workshop)
    assert result.inherited_share == chosen.inherited_share
    assert all(torch.equal(begun[0][key], begun[1][key]) for key in begun[0])


def test_one_whose_start_is_gone_begins_afresh_and_says_so(workshop, begun, caplog):
    kin, _ = put(workshop, 3)
    chosen = inherit_candidate(screen(workshop), workshop, results=[kin])
    workshop.checkpoints.drop("trial-7")
    result = train_candidate(chosen, workshop)
    assert (result.state, result.inherited_from, result.inherited_share) == ("complete", 3, 0.0)
    assert "trial-7 begins afresh: what it had of trial 3 is gone" in caplog.text
    fresh = build(workshop, WIDER).state_dict()
    assert all(torch.equal(begun[0][key], value) for key, value in fresh.items())


def test_one_that_is_past_its_start_does_not_need_it(workshop, caplog):
    kin, _ = put(workshop, 3)
    chosen = inherit_candidate(screen(workshop), workshop, results=[kin])
    stopped = train_candidate(chosen, workshop, on_epoch=lambda _: False)
    assert stopped.state == "stopped"
    workshop.checkpoints.start("trial-7").unlink()
    result = train_candidate(stopped, workshop)
    assert (result.state, result.inherited_share) == ("complete", chosen.inherited_share)
    assert not caplog.text


@pytest.mark.parametrize("content", [None, b"", b"half a file"])
def test_a_relative_whose_weights_are_gone_gives_way_to_the_next(content, workshop, caplog):
    nearest, _ = put(workshop, 3, sample=WIDER)
    second, weights = put(workshop, 4)
    path = workshop.weights / "trial-3.safetensors"
    path.unlink() if content is None else path.write_bytes(content)
    chosen = inherit_candidate(screen(workshop), workshop, results=[nearest, second])
    assert chosen.inherited_from == 4
    assert bool(caplog.text) is (content is not None)
    start = load_file(workshop.checkpoints.start("trial-7"))
    assert torch.equal(start["network.stem.0.weight"], weights["network.stem.0.weight"])
    (workshop.weights / "trial-4.safetensors").unlink()
    measured = screen(workshop, trial=8)
    lonely = inherit_candidate(measured, workshop, results=[nearest, second])
    assert dataclasses.replace(lonely, overhead_s=0.0) == dataclasses.replace(
        measured, overhead_s=0.0
    )
    assert not workshop.checkpoints.files("trial-8")


@pytest.mark.parametrize(
    "fields", [{"state": "failed"}, {"state": "pruned"}, {"same_as": 1}, {"accuracy": 0.0}]
)
def test_only_trained_ones_of_their_own_are_relatives(fields, workshop):
    kin, _ = put(workshop, 3, **fields)
    assert inherit_candidate(screen(workshop), workshop, results=[kin]).inherited_from is None
    assert inherit_candidate(screen(workshop), workshop, results=[]).inherited_from is None
