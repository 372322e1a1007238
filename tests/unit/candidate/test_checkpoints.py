import dataclasses
import os

import pytest
import torch

from autokd.candidate import (
    CheckpointFolder,
    KnownTeacher,
    Workshop,
    build_student,
    recall_candidate,
    screen_candidate,
    train_candidate,
    train_student,
)
from autokd.config import Config
from autokd.data import load_data
from autokd.distillation import Checkpoint, Keeper, Plan
from autokd.spaces import build_space
from autokd.testing import FakeTarget
from autokd.types import EpochLog, Recipe

EPOCHS = 3
PLAN = Plan(epochs=EPOCHS, batch_size=32, seed=3, device=torch.device("cpu"))
TINY = {"depth_1": 1, "depth_2": 1, "depth_3": 1, "width_1": 8, "width_2": 16, "width_3": 32}


class Teacher(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(1, 8, 3, padding=1)
        self.head = torch.nn.Linear(8, 10)

    def forward(self, views):
        return self.head(self.conv(views).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def data():
    return load_data(Config(train_limit=200))


@pytest.fixture(scope="module")
def space():
    return build_space("mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10)


@pytest.fixture
def folder(tmp_path):
    return CheckpointFolder(tmp_path / "checkpoints", limit_bytes=2**30)


def row(epoch: int) -> EpochLog:
    return EpochLog(
        epoch=epoch, train_loss=1.0, val_loss=1.0, val_accuracy=0.5, learning_rate=0.1,
        alpha=0.5, temperature=4.0, seconds=1.0,
    )  # fmt: skip


def checkpoint(*, n: int = 4, epoch: int = 1) -> Checkpoint:
    return Checkpoint(
        curve=(row(epoch),), weights={"w": torch.arange(float(n))}, best_weights={}, beside=[],
        optimiser={"state": {0: {"step": torch.tensor(3.0)}}}, schedule={"last_epoch": 3},
        engine="fp32 contiguous cpu x1", seconds=2.5,
    )  # fmt: skip


RECIPES = {
    "plain": Recipe(alpha=0.0, alpha_end=0.0),
    "sgd": Recipe(optimiser="sgd", alpha_schedule="linear", alpha_end=0.2),
    "mixed": Recipe(mix="cutmix", mix_targets="exact", augmentation="randaugment"),
    "features": Recipe(feature_loss="hint"),
    "exits": Recipe(exits=1),
    "again": Recipe(generations=2),
    "resized": Recipe(resizing="progressive"),
}


def timeless(curve):
    return [dataclasses.replace(one, seconds=0.0) for one in curve]


@pytest.mark.parametrize("cut", [1, 2])
@pytest.mark.parametrize("name", RECIPES)
def test_a_training_that_was_cut_off_gives_what_it_would_have_given(name, cut, data, space, folder):
    recipe, plan = RECIPES[name], PLAN

    def train(**options):
        student, _ = build_student(space, space.complete(TINY), data=data.card, seed=3)
        torch.manual_seed(len(options))  # whatever was drawn before does not matter
        teacher = KnownTeacher(network=Teacher())
        training = train_student(student, recipe, data=data, teacher=teacher, plan=plan, **options)
        return training, student.state_dict()

    plan = dataclasses.replace(
        PLAN, engine=train()[0].engine
    )  # the fastest one is a matter of luck
    whole, weights = train()
    first, _ = train(keepers=folder.keepers("it"), on_epoch=lambda one: one.epoch < cut)
    assert (first.is_stopped, len(first.curve)) == (True, cut)
    rest, resumed = train(keepers=folder.keepers("it"))
    assert not rest.is_stopped
    assert timeless(rest.curve) == timeless(whole.curve)
    assert rest.val_accuracy == whole.val_accuracy
    for key, value in weights.items():
        assert torch.equal(value, resumed[key]), key


def test_a_second_generation_goes_on_too(data, space, folder):
    recipe, plan = RECIPES["again"], PLAN

    def train(**options):
        student, _ = build_student(space, space.complete(TINY), data=data.card, seed=3)
        teacher = KnownTeacher(network=Teacher())
        return train_student(student, recipe, data=data, teacher=teacher, plan=plan, **options)

    plan = dataclasses.replace(PLAN, engine=train().engine)
    whole = train()
    train(keepers=folder.keepers("it"), on_epoch=lambda one: one.epoch < EPOCHS + 2)
    seen: list[int] = []
    rest = train(keepers=folder.keepers("it"), on_epoch=lambda one: seen.append(one.epoch))
    assert seen == [EPOCHS + 3]
    assert timeless(rest.curve) == timeless(whole.curve)


def test_a_training_goes_on_on_a_device_of_another_kind(data, space, folder):
    def train(**options):
        student, _ = build_student(space, space.complete(TINY), data=data.card, seed=3)
        keepers, plain = folder.keepers("it"), RECIPES["plain"]
        return train_student(
            student, plain, data=data, teacher=None, plan=PLAN, keepers=keepers, **options
        )

    train(on_epoch=lambda one: one.epoch < 1)
    keeper = folder.keepers("it")(0)
    keeper.save(dataclasses.replace(keeper.load(), engine="bf16 channels_last cuda x16"))
    training = train()
    assert len(training.curve) == EPOCHS
    assert training.engine.device.type == "cpu"


def test_a_checkpoint_comes_back_as_it_was(folder):
    keeper = folder.keepers("trial-7")(0)
    assert isinstance(keeper, Keeper)
    assert keeper.load() is None
    assert "trial-7" not in folder
    keeper.save(checkpoint())
    back = keeper.load()
    assert "trial-7" in folder
    assert back.curve == checkpoint().curve
    assert torch.equal(back.weights["w"], torch.arange(4.0))
    assert back.optimiser["state"][0]["step"] == 3.0
    assert (back.schedule, back.engine, back.seconds) == (
        {"last_epoch": 3}, "fp32 contiguous cpu x1", 2.5,
    )  # fmt: skip
    folder.drop("trial-7")
    assert "trial-7" not in folder


@pytest.mark.parametrize("harm", ["half", "garbage", "empty", "other"])
def test_a_file_that_cannot_be_read_is_told_and_not_used(harm, folder, tmp_path, caplog):
    keeper = folder.keepers("trial-7")(0)
    keeper.save(checkpoint())
    (file,) = (tmp_path / "checkpoints").iterdir()
    if harm == "other":
        torch.save({"curve": [], "weights_of_another_version": 1}, file)
    else:
        whole = file.read_bytes()
        file.write_bytes({"half": whole[: len(whole) // 2], "garbage": b"x" * 99}.get(harm, b""))
    assert keeper.load() is None
    assert "checkpoint trial-7.0.checkpoint cannot be used" in caplog.text


def test_a_full_disk_keeps_the_checkpoint_before(folder, tmp_path, monkeypatch, caplog):
    keeper = folder.keepers("trial-7")(0)
    keeper.save(checkpoint())

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    keeper.save(checkpoint(epoch=2))
    assert "trial-7.0.checkpoint is not written: [Errno 28] No space left" in caplog.text
    assert keeper.load().curve == (row(1),)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


def test_the_oldest_go_first_and_what_is_needed_stays(folder, tmp_path):
    for age, name in enumerate(["trial-1", "trial-2", "trial-3", "trial-10"]):
        folder.keepers(name)(0).save(checkpoint(n=10_000))
        (file,) = (tmp_path / "checkpoints").glob(f"{name}.*")
        os.utime(file, (1000 + age, 1000 + age))
    assert folder.collect(needed=[]) == []
    size = file.stat().st_size
    small = CheckpointFolder(tmp_path / "checkpoints", limit_bytes=2 * size)
    assert small.collect(needed=["trial-1"]) == ["trial-2", "trial-3"]
    assert "trial-1" in small
    assert "trial-10" in small


def test_a_candidate_that_was_stopped_goes_on(data, space, folder, tmp_path):
    workshop = Workshop(
        space=space, data=data, teachers={"teacher": KnownTeacher(network=Teacher())},
        target=FakeTarget(), plan=PLAN, max_latency_ms=None, weights=tmp_path, checkpoints=folder,
    )  # fmt: skip
    measured = screen_candidate(space.complete(TINY), workshop, trial=7, known={})
    stopped = train_candidate(measured, workshop, on_epoch=lambda one: one.epoch < 2)
    assert (stopped.state, len(stopped.curve)) == ("stopped", 2)
    assert stopped.val_accuracy == max(one.val_accuracy for one in stopped.curve)
    assert not list(tmp_path.glob("*.safetensors"))
    seen: list[int] = []
    whole = train_candidate(stopped, workshop, on_epoch=lambda one: seen.append(one.epoch))
    assert (whole.state, len(whole.curve), seen) == ("complete", EPOCHS, [3])
    assert whole.curve[:2] == stopped.curve
    assert whole.training_s > stopped.training_s
    assert (tmp_path / "trial-7.safetensors").exists()


@pytest.mark.parametrize("end", [2, EPOCHS + 1])
def test_what_a_training_had_come_to_is_in_its_checkpoints(end, data, folder, tmp_path):
    space = build_space("mobile", recipe="self", input_shape=(1, 8, 8), n_classes=10)
    workshop = Workshop(
        space=space, data=data, teachers={"teacher": KnownTeacher(network=Teacher())},
        target=FakeTarget(), plan=PLAN, max_latency_ms=None, weights=tmp_path, checkpoints=folder,
    )  # fmt: skip
    sample = space.complete({**TINY, "generations": 2})
    measured = screen_candidate(sample, workshop, trial=7, known={})
    assert recall_candidate(measured, workshop) is None
    stopped = train_candidate(measured, workshop, on_epoch=lambda one: one.epoch < end)
    assert (stopped.state, len(stopped.curve)) == ("stopped", end)
    recalled = recall_candidate(measured, workshop)
    same = {"answers": "", "overhead_s": 0.0, "training_s": 0.0}
    assert dataclasses.replace(recalled, **same) == dataclasses.replace(stopped, **same)
    assert 0 < recalled.training_s <= stopped.training_s


def test_a_training_is_forgotten_whole(tmp_path):
    folder = CheckpointFolder(tmp_path, limit_bytes=3)
    for place, name in enumerate(["old.start", "new.start", "old.1", "new.1"]):
        path = tmp_path / f"{name}.checkpoint"
        path.write_bytes(b"x")
        os.utime(path, (place, place))
    assert folder.collect(needed=[]) == ["old"]
    assert folder.files("old") == []
    assert len(folder.files("new")) == 2
