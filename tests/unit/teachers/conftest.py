"""Small data and small networks that the tests of teachers share."""

from contextlib import suppress
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from autokd.config import Config
from autokd.teachers import TeacherPlan, build_teacher_requests, load_teacher
from autokd.types import DataCard


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@dataclass
class Fit:
    """Counts its calls; makes the network another one without training it."""

    plans: list[TeacherPlan] = field(default_factory=list)

    def __call__(self, network, *, plan, checkpoint):
        assert not checkpoint.exists()
        with suppress(OSError):
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            checkpoint.write_text("what a training keeps")
        self.plans.append(plan)
        network.train()
        with torch.no_grad():
            for value in network.parameters():
                assert value.requires_grad
                value.add_(0.01)
        return network


@pytest.fixture
def fit():
    return Fit()


def make_card(shape=(3, 12, 12), *, n_classes=4, n_train=200, digest="d"):
    return DataCard(
        name="made-up",
        digest=digest,
        shape=shape,
        classes=tuple("abcdefghij"[:n_classes]),
        mean=(0.4,) * shape[0],
        std=(0.2,) * shape[0],
        n_train=n_train,
        n_val=20,
        n_test=20,
    )


@pytest.fixture
def card():
    return make_card


class Net(nn.Module):
    """A classifier of any picture size, with everything that train mode changes."""

    def __init__(self, channels=3, n_classes=4):
        super().__init__()
        self.conv = nn.Conv2d(channels, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.drop = nn.Dropout()
        self.fc = nn.Linear(5, n_classes)

    def forward(self, x):
        return self.fc(self.drop(self.norm(self.conv(x)).relu().mean((2, 3))))


@pytest.fixture
def net():
    return lambda **options: Net(**options).eval()


@pytest.fixture
def load(tmp_path, fit):
    """`load_teacher` with this test's cache and its `fit`."""

    def _load(teacher, data=None, **options):
        config = Config(teacher=teacher, device="cpu", **options)
        (request,) = build_teacher_requests(config)
        return load_teacher(
            request, config=config, data=data or make_card(), fit=fit, cache=tmp_path / "cache"
        )

    return _load
