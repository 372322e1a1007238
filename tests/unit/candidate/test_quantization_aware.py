"""A trained student, its teacher and its INT8 file joined."""

import dataclasses
import pickle

import pytest
import torch

from autokd.candidate import (
    CheckpointFile,
    KnownTeacher,
    QuantizationSettings,
    build_student,
    train_quantized_student,
    train_student,
)
from autokd.config import Config
from autokd.data import load_data
from autokd.distillation import Plan, evaluate
from autokd.distillation.engine import Engine
from autokd.errors import DivergedError
from autokd.exporters import OnnxNetwork
from autokd.spaces import build_space
from autokd.types import Recipe

CPU = torch.device("cpu")
TINY = {
    "depth_1": 1, "depth_2": 1, "depth_3": 1, "width_1": 8, "width_2": 16, "width_3": 32,
    "squeeze_excite": True, "activation": "hardswish",
}  # fmt: skip
PLAIN = Recipe(alpha=0.0, alpha_end=0.0, augmentation="crop", learning_rate=0.01)
SPACE = build_space("mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10)


@pytest.fixture(scope="module")
def data():
    return load_data(Config(train_limit=300))


@pytest.fixture(scope="module")
def trained(data):
    student, _ = build_student(SPACE, TINY, data=data.card, seed=0)
    plan = plan_of(5)
    training = train_student(student, PLAIN, data=data, teacher=None, plan=plan)
    return student, training.val_accuracy


def plan_of(epochs):
    return Plan(epochs=epochs, batch_size=32, seed=0, device=CPU, engine=Engine(device=CPU))


def run(student, data, path, *, recipe=PLAIN, teacher=None, epochs=2, **options):
    return train_quantized_student(
        student, recipe, data=data, teacher=teacher, plan=plan_of(epochs), model=path, **options
    )


def test_the_file_is_as_accurate_as_the_curve_says_and_as_the_float_student(
    trained, data, tmp_path
):
    student, float_accuracy = trained
    before = {name: value.clone() for name, value in student.state_dict().items()}
    result = run(student, data, tmp_path / "int8.onnx")
    assert result.model == tmp_path / "int8.onnx"
    n = len(data.val_labels)
    assert abs(result.val_accuracy - result.training.val_accuracy) <= 2 / n
    assert result.val_accuracy > float_accuracy - 0.05
    assert len(result.training.curve) == 2
    right = OnnxNetwork(result.model, threads=1).predict(data.val_images).argmax(1)
    assert (right == data.val_labels).float().mean().item() == pytest.approx(result.val_accuracy)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    _, accuracy = evaluate(student, data.val_images, data.val_labels, engine=Engine(device=CPU))
    assert accuracy == pytest.approx(float_accuracy)


def test_teacher_and_float_self_are_heard(trained, data, tmp_path):
    student, _ = trained
    asked = []

    class Teacher(torch.nn.Module):
        def forward(self, views):
            asked.append(len(views))
            return views.mean((1, 2, 3), keepdim=False)[:, None].expand(-1, 10)

    recipe = dataclasses.replace(PLAIN, alpha=0.0, alpha_end=0.5, alpha_schedule="linear")
    teacher = KnownTeacher(network=Teacher())
    result = run(
        student,
        data,
        tmp_path / "a.onnx",
        recipe=recipe,
        teacher=teacher,
        epochs=1,
        settings=QuantizationSettings(self_weight=1e4),  # so early both are almost one
    )
    assert sum(asked) == len(data.train_images) // 32 * 32
    assert result.training.curve[0].alpha == 0.5  # as loud as the recipe ever has it
    alone = run(
        student,
        data,
        tmp_path / "b.onnx",
        recipe=recipe,
        teacher=teacher,
        epochs=1,
        settings=QuantizationSettings(self_weight=0.0),
    )
    assert result.training.curve[0].train_loss > alone.training.curve[0].train_loss


def test_a_training_that_was_cut_off_goes_on_and_gives_the_same(trained, data, tmp_path):
    student, _ = trained
    whole = run(student, data, tmp_path / "whole.onnx")
    keeper = CheckpointFile(tmp_path / "one.checkpoint")
    cut = run(
        student, data, tmp_path / "cut.onnx", keeper=keeper, on_epoch=lambda row: row.epoch < 1
    )
    assert cut.training.is_stopped
    assert cut.model is None
    assert not (tmp_path / "cut.onnx").exists()
    resumed = run(student, data, tmp_path / "cut.onnx", keeper=keeper)
    losses = [[row.train_loss for row in one.training.curve] for one in (whole, resumed)]
    assert losses[0] == losses[1]
    assert (tmp_path / "whole.onnx").read_bytes() == (tmp_path / "cut.onnx").read_bytes()


def test_a_training_that_diverges_is_an_error_of_the_run(trained, data, tmp_path):
    student, _ = trained
    recipe = dataclasses.replace(PLAIN, optimiser="sgd", learning_rate=1e30)
    with pytest.raises(DivergedError, match="loss is nan"):
        run(student, data, tmp_path / "int8.onnx", recipe=recipe)
    assert not (tmp_path / "int8.onnx").exists()


def test_what_a_recipe_wants_of_a_training_from_the_beginning_is_left_out(trained, data, tmp_path):
    student, _ = trained
    recipe = dataclasses.replace(
        PLAIN, generations=2, exits=1, resizing="progressive", learning_rate=0.01
    )
    result = run(student, data, tmp_path / "int8.onnx", recipe=recipe)
    rates = [row.learning_rate for row in result.training.curve]
    assert len(rates) == 2
    assert max(rates) <= 0.001


def test_a_result_can_travel(trained, data, tmp_path):
    student, _ = trained
    result = run(student, data, tmp_path / "int8.onnx", epochs=1)
    assert pickle.loads(pickle.dumps(result)) == result
