"""Tiny students and pictures for the tests of trainings."""

from types import SimpleNamespace

import torch
from torch import nn

from autokd.data import build_augmentation
from autokd.distillation import LiveTeacher, Plan, Student, Teaching, distill
from autokd.types import Recipe

CPU = torch.device("cpu")
PLAIN = Recipe(alpha=0.0, alpha_end=0.0, augmentation="none", learning_rate=0.01)


def make_data(n: int = 96) -> SimpleNamespace:
    """Two classes that differ in brightness."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    noise = torch.randint(0, 100, (n, 1, 4, 4), generator=generator)
    images = (noise + labels.view(-1, 1, 1, 1) * 120).to(torch.uint8)
    cut = n * 3 // 4
    return SimpleNamespace(
        train_images=images[:cut], train_labels=labels[:cut],
        val_images=images[cut:], val_labels=labels[cut:],
    )  # fmt: skip


def make_student(seed: int = 0) -> Student:
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)
    )
    return Student(network, mean=[0.4], std=[0.3])


def run(
    student, recipe=PLAIN, *, teacher=None, epochs=4, data=None, engine=None, cores=None, **options
):
    data = data or make_data()
    return distill(
        student,
        data,
        recipe=recipe,
        plan=Plan(epochs=epochs, batch_size=16, seed=0, device=CPU, engine=engine, cores=cores),
        augment=augment(recipe, data),
        teaching=Teaching(logits=None if teacher is None else LiveTeacher(teacher)),
        **options,
    )


def augment(recipe, data):
    n_pictures = len(data.train_images)
    return build_augmentation(recipe, n_classes=2, n_pictures=n_pictures, seed=0)


class AnySize(nn.Module):
    """Takes pictures of any size, and remembers the sizes that it was trained on."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)
        self.sizes = []

    def forward(self, views):
        if self.training:
            self.sizes.append(tuple(views.shape[2:]))
        return self.head(self.conv(views).relu().mean((2, 3)))
