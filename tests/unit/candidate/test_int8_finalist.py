"""Two ways to the INT8 file of a finalist, and the better one on validation."""

import dataclasses
import shutil

import pytest
import torch

from autokd.candidate import (
    CheckpointFile,
    KnownTeacher,
    QuantizedTraining,
    build_student,
    count_rounding_epochs,
    int8_finalist,
    quantize_finalist,
    score_file,
)
from autokd.config import Config
from autokd.data import load_data
from autokd.distillation import Plan, Training
from autokd.distillation.engine import Engine
from autokd.errors import BuildError, DivergedError
from autokd.spaces import build_space
from autokd.types import EpochLog, Recipe

CPU = torch.device("cpu")
TINY = {"depth_1": 1, "depth_2": 1, "depth_3": 1, "width_1": 8, "width_2": 16, "width_3": 32}
SPACE = build_space("mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10)
TAUGHT = Recipe(alpha=0.9, alpha_end=0.9, precision="int8")
PLAIN = dataclasses.replace(TAUGHT, alpha=0.0, alpha_end=0.0)


def row(epoch):
    return EpochLog(
        epoch=epoch, train_loss=0.0, val_loss=0.0, val_accuracy=0.5, learning_rate=0.1,
        alpha=0.0, temperature=1.0, seconds=0.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return load_data(Config(train_limit=400))


@pytest.fixture(scope="module")
def student(data):
    return build_student(SPACE, TINY, data=data.card, seed=0)[0]


@pytest.fixture
def run(student, data, tmp_path, monkeypatch):
    """Quantizes it, where the training gives the accuracy that it is told, or raises."""

    def run(outcome, *, recipe=TAUGHT, on_epoch=lambda _: None, is_stopped=False):
        seen = {}

        def train(student, recipe, *, model, settings, on_epoch, **_):
            seen.update(settings=settings, recipe=recipe, student=student)
            on_epoch(row(1))
            if isinstance(outcome, Exception):
                raise outcome
            shutil.copy(model.with_name("file.onnx"), model)
            training = Training(
                val_accuracy=outcome, curve=(row(1),), engine=Engine(device=CPU), seconds=0.0,
                answers="", is_stopped=is_stopped,
            )  # fmt: skip
            return QuantizedTraining(
                training=training, model=None if is_stopped else model, val_accuracy=outcome,
                weight_bits=8,
            )  # fmt: skip

        monkeypatch.setattr(int8_finalist, "train_quantized_student", train)
        found = quantize_finalist(
            student,
            recipe,
            path=tmp_path / "file.onnx",
            data=data,
            teacher=KnownTeacher(network=torch.nn.Identity()),
            plan=Plan(epochs=2, batch_size=32, seed=0, device=CPU),
            float_layers=(),
            n_before=6,
            on_epoch=on_epoch,
            keeper=CheckpointFile(tmp_path / "one.checkpoint"),
        )
        return found, seen

    return run


@pytest.mark.parametrize(("accuracy", "is_aware"), [(1.0, True), (0.0, False)])
def test_the_file_that_is_better_on_validation_is_kept(accuracy, is_aware, run, tmp_path, data):
    found, _ = run(accuracy)
    static = score_file(tmp_path / "file.onnx", data.val_images, data.val_labels)
    assert found.is_aware is is_aware
    assert found.val_accuracy == pytest.approx(1.0 if is_aware else static)
    assert [path.name for path in tmp_path.iterdir()] == ["file.onnx"]


def test_its_epochs_are_counted_on(run):
    told = []
    found, _ = run(1.0, on_epoch=lambda one: told.append(one.epoch))
    assert told == [7]
    assert [one.epoch for one in found.curve] == [7]


@pytest.mark.parametrize(("recipe", "weight"), [(TAUGHT, 1.0), (PLAIN, 0.0)])
def test_who_has_no_teacher_does_not_listen_to_its_former_self(recipe, weight, run):
    _, seen = run(1.0, recipe=recipe)
    assert seen["settings"].self_weight == weight


@pytest.mark.parametrize("error", [BuildError("no trace"), DivergedError("not finite")])
def test_a_training_that_fails_leaves_the_first_file_and_its_reason(error, run, tmp_path):
    found, _ = run(error)
    assert (found.is_aware, found.reason) == (False, str(error))
    assert (tmp_path / "file.onnx").exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(), torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)  # fmt: skip
def test_a_training_that_memory_runs_out_of_leaves_the_first_file(error, run, tmp_path):
    found, _ = run(error)
    assert found.reason.startswith("out of memory")
    assert not found.is_aware
    assert (tmp_path / "file.onnx").exists()


def test_any_other_error_is_loud(run):
    with pytest.raises(RuntimeError, match="bug"):
        run(RuntimeError("bug"))


def test_a_training_that_is_ended_settles_nothing(run):
    assert run(1.0, is_stopped=True)[0].is_stopped


@pytest.mark.parametrize(("epochs", "expected"), [(1, 1), (3, 1), (4, 2), (30, 10)])
def test_it_is_trained_on_for_a_third(epochs, expected):
    assert count_rounding_epochs(epochs) == expected
