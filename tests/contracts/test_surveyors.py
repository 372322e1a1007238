"""Every surveyor keeps the contract."""

import torch

from autokd.candidate import CheckpointFolder, StudentSurveyor, Workshop
from autokd.config import Config
from autokd.data import load_data
from autokd.distillation import Plan
from autokd.spaces import build_space
from autokd.testing import FakeSurveyor, FakeTarget, SurveyorContract


class TestFakeSurveyor(SurveyorContract):
    def build_surveyor(self, folder):  # noqa: ARG002 - needs none
        return FakeSurveyor(("x",)), [{"x": 1}, {"x": 2}, {"x": 3}]


class TestStudentSurveyor(SurveyorContract):
    def build_surveyor(self, folder):
        space = build_space("mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10)
        workshop = Workshop(
            space=space,
            data=load_data(Config(train_limit=100)),
            teachers={},
            target=FakeTarget(),
            plan=Plan(epochs=1, batch_size=32, seed=0, device=torch.device("cpu")),
            max_latency_ms=None,
            weights=folder,
            checkpoints=CheckpointFolder(folder, limit_bytes=0),
        )
        return StudentSurveyor(workshop), [space.random(seed) for seed in (1, 2, 3)]
