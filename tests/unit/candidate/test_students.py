"""A student of the user's own Python on its way to its files and back."""

import pytest
import torch

from autokd.candidate import (
    CheckpointFile,
    build_student,
    load_student,
    save_student,
    train_quantized_student,
    train_student,
)
from autokd.config import Config
from autokd.data import load_data
from autokd.distillation import Engine, Plan
from autokd.spaces import build_space
from autokd.types import Recipe

CODE = """
from torch import nn


def build(input_shape, n_classes):
    block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), block, block, nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, n_classes),
    )
"""
LABELS = Recipe(alpha=0.0, alpha_end=0.0, augmentation="crop", learning_rate=0.01)


@pytest.fixture
def recurrent(tmp_path):
    """A space of one student that goes through the same block twice."""
    (tmp_path / "net.py").write_text(CODE)
    name = f"python:{tmp_path / 'net.py'}:build"
    return build_space(name, recipe="default", input_shape=(1, 8, 8), n_classes=10)


def test_a_student_that_uses_a_block_twice_is_trained_kept_and_read_back(recurrent, tmp_path):
    data = load_data(Config(train_limit=200))
    cpu = torch.device("cpu")
    plan = Plan(epochs=2, batch_size=32, seed=0, device=cpu, engine=Engine(device=cpu))
    keeper = CheckpointFile(tmp_path / "one.checkpoint")

    def train(seed, **options):
        student, _ = build_student(recurrent, {}, data=data.card, seed=seed)
        training = train_student(student, LABELS, data=data, teacher=None, plan=plan, **options)
        return student.eval(), [row.train_loss for row in training.curve]

    student, losses = train(0)
    train(0, keepers=lambda _: keeper, on_epoch=lambda row: row.epoch < 1)
    assert train(1, keepers=lambda _: keeper)[1] == losses

    save_student(student, tmp_path / "student.safetensors")
    read = load_student(recurrent, {}, data=data.card, weights=tmp_path / "student.safetensors")
    pictures = data.val_images[:9].float() / 255
    assert torch.equal(read(pictures), student(pictures))

    rounded = train_quantized_student(
        student, LABELS, data=data, teacher=None, plan=plan, model=tmp_path / "int8.onnx"
    )
    assert rounded.model is not None
