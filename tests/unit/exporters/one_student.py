"""A student that tests of exports have in common."""

from types import SimpleNamespace

import torch
from torch import nn

from autokd.types import DataCard

CARD = DataCard(
    name="made", digest="d", shape=(1, 8, 8), classes=("a", "b", "c"), mean=(0.5,), std=(0.2,),
    n_train=9, n_val=9, n_test=64,
)  # fmt: skip


def make_student() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
                         nn.Linear(144, 3))  # fmt: skip


def make_test(n: int = 64) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (n, 1, 8, 8), generator=generator).to(torch.uint8)
    return SimpleNamespace(images=images, labels=torch.arange(n) % 3)
