"""What tests of one student without a search have in common."""

import autokd
from autokd.config import Config
from autokd.study import distilling
from autokd.study.appraisal import Appraisal
from autokd.testing import FakeTarget, MemoryTracker
from autokd.types import EpochEnded

TEACHER = """
import torch
from sklearn.datasets import load_digits
from torch import nn

def nearest():
    '''Says which class's mean is nearest.'''
    pictures, labels = map(torch.from_numpy, load_digits(return_X_y=True))
    means = torch.stack([pictures[labels == c].mean(0) / 16 for c in range(10)]).float()
    layer = nn.Linear(64, 10)
    layer.weight.data, layer.bias.data = means, -(means**2).sum(1) / 2
    return nn.Sequential(nn.Flatten(), layer)

def second():
    network = nearest()
    network[1].weight.data *= 2
    network[1].bias.data *= 2
    return network

def student(shape, n_classes):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, n_classes)
    )

def deeper(shape, n_classes):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 1, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, n_classes),
    )

def large(shape, n_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4096), nn.ReLU(), nn.Linear(4096, n_classes))
"""


def prepare(tmp_path, monkeypatch):
    """A configuration of a student in files of its own, nothing that touches a clock."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("AUTOKD_CACHE", str(tmp_path / "cache"))
    name = f"networks_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(TEACHER)
    monkeypatch.setattr(distilling, "build_target", lambda *_, **__: FakeTarget())
    monkeypatch.setattr("autokd.study.delivery.build_target", lambda *_, **__: FakeTarget())
    # Pictures and OpenVINO's files are made by the tests of the whole command.
    monkeypatch.setattr(distilling._Session, "draw", lambda *_: ())
    monkeypatch.setattr("autokd.exporters.bundle.has_openvino", lambda: False)
    monkeypatch.setattr(
        "autokd.study.appraisal.Appraiser.appraise", lambda *_, **__: Appraisal(facts={}, files=())
    )

    def build(student="student", **options):
        values = {"epochs": 3, "train_limit": 200, "workers": 1, **options}
        return Config(student=f"python:{name}.py:{student}", teacher=f"python:{name}:nearest",
                      runs_dir=tmp_path / "runs", **{"study": "one", **values})  # fmt: skip

    return build


def train(config, tracker=None, **options):
    return autokd.distill(
        config, tracker=tracker or MemoryTracker(), is_registered=False, **options
    )


class Notes:
    """Keeps every event; stops the training where it is told to."""

    def __init__(self, stop_after=None):
        self.events, self.stop_after = [], stop_after

    def log(self, event):
        self.events.append(event)
        if isinstance(event, EpochEnded) and event.epoch.epoch == self.stop_after:
            raise KeyboardInterrupt

    def close(self):
        pass

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]
