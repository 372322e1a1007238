"""The loop of a study whose trainings are made up."""

import math
import zlib
from dataclasses import replace

import optuna
import torch

from autokd.candidate import CheckpointFolder, KnownTeacher, StudentSurveyor, Workshop
from autokd.config import Config
from autokd.distillation import Checkpoint, Plan
from autokd.spaces import build_space
from autokd.study import loop as loop_module
from autokd.study import orders as orders_module
from autokd.study import stillness
from autokd.study.auto_sampler import AutoSampler
from autokd.study.crew import InlineCrew
from autokd.study.journal import open_journal
from autokd.study.loop import TrialLoop
from autokd.study.orders import Bench
from autokd.study.progress import SearchProgress
from autokd.study.rungs import Rungs
from autokd.study.sampling import build_sampler
from autokd.study.trials import Trials
from autokd.surrogate import Advice
from autokd.testing import FakeTarget
from autokd.trackers import MemoryTracker
from autokd.types import EpochLog, Footprint, Latency, Recipe, TrialResult

EPOCHS, BUDGET, RUNG = 4, 12, 1


def row(epoch, accuracy):
    return EpochLog(
        epoch=epoch, train_loss=1.0, val_loss=1.0, val_accuracy=accuracy, learning_rate=0.1,
        alpha=0.5, temperature=4.0, seconds=1.0,
    )  # fmt: skip


def measured(sample, *, trial):
    """The wider, the slower and the better."""
    size = float(sample["width_1"] * sample["width_2"])
    latency = Latency(
        median_ms=size / 100, ci95_low_ms=size / 100, ci95_high_ms=size / 100, p10_ms=size / 100,
        p90_ms=size / 100, n_runs=100, batch=1, threads=1, runtime="r", device="d", drift=1.0,
    )  # fmt: skip
    footprint = Footprint(
        n_params=int(size), macs=int(size), size_bytes=1,
        paths=(math.log(size), 0.0, 0.0),
    )  # fmt: skip
    return TrialResult(
        trial=trial, state="measured", sample=sample, network=str(size), recipe=Recipe(),
        latency=latency, footprint=footprint,
    )  # fmt: skip


def accuracy_of(result, epoch):
    noise = zlib.crc32(str(sorted(result.sample.items())).encode()) % 97 / 970
    return min(1.0, 0.3 + 0.05 * math.log(result.footprint.n_params) + noise + 0.05 * epoch)


class World:
    """What was trained, and what should be interrupted."""

    def __init__(self):
        self.trained: list[tuple[int, int]] = []
        self.after = {}
        self.accuracies: dict[int, float] = {}  # of all epochs of a trial

    def train(self, before, workshop, *, on_epoch):
        keeper = workshop.checkpoints.keepers(f"trial-{before.trial}")(0)
        kept = keeper.load()
        curve = list(kept.curve) if kept is not None else []
        is_stopped = False
        while len(curve) < EPOCHS:
            epoch = len(curve) + 1
            accuracy = self.accuracies.get(before.trial, accuracy_of(before, epoch))
            curve.append(row(epoch, accuracy))
            self.trained.append((before.trial, epoch))
            keeper.save(
                Checkpoint(
                    curve=tuple(curve), weights={}, best_weights={}, beside=[], optimiser={},
                    schedule={}, engine="", seconds=float(epoch),
                )
            )  # fmt: skip
            self.after.get((before.trial, epoch), lambda: None)()
            if on_epoch(curve[-1]) is False:
                is_stopped = len(curve) < EPOCHS
                break
        return replace(
            before, state="stopped" if is_stopped else "complete", curve=tuple(curve), reason="",
            val_accuracy=max(one.val_accuracy for one in curve), training_s=float(len(curve)),
        )  # fmt: skip


class Study:
    """One session of a study in a folder."""

    def __init__(
        self, folder, data, *, rungs=(RUNG,), sampler="random", budget=BUDGET, limit_bytes=2**30,
        limit_ms=None, crew=None, **config,
    ):  # fmt: skip
        space = build_space("mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10)
        self.checkpoints = CheckpointFolder(folder / "checkpoints", limit_bytes=limit_bytes)
        workshop = Workshop(
            space=space, data=data, teachers={"teacher": KnownTeacher(network=torch.nn.Identity())},
            target=FakeTarget(), max_latency_ms=limit_ms, weights=folder,
            checkpoints=self.checkpoints,
            plan=Plan(epochs=EPOCHS, batch_size=32, seed=0, device=torch.device("cpu")),
        )  # fmt: skip
        bench = Bench(workshop=workshop, refits=folder, test=lambda: None)
        surveyor = StudentSurveyor(workshop)
        auto = AutoSampler(
            surveyor, dimensions=space.dimensions, rungs=rungs,
            advice=Advice(n_initial=4, n_surveyed=2),
        )  # fmt: skip
        self.storage = open_journal(folder / "optuna.journal")
        trials = Trials(
            "s", storage=self.storage, space=space, referee=auto,
            sampler=build_sampler(sampler, auto=auto, seed=len(list(folder.iterdir()))),
        )  # fmt: skip
        self.crew, self.tracker = crew or InlineCrew(), MemoryTracker()
        self.results = trials.results()
        surveyor.remember(self.results)
        self.loop = TrialLoop(
            Config(budget=budget, **config), bench=bench, trials=trials, surveyor=surveyor,
            rungs=Rungs(rungs, standings=trials.standings), crew=self.crew, tracker=self.tracker,
            progress=SearchProgress(is_silent=True),
        )  # fmt: skip
        self.spent: list[float] = []

    def run(self, *, is_late=lambda: False):
        self.loop.run(
            self.results, take=self.results.append, spend=self.spent.append, is_late=is_late
        )
        return self.results

    @property
    def trials(self):
        return optuna.load_study(study_name="s", storage=self.storage).trials


def play(monkeypatch, folder) -> World:
    """A world in which nothing is really measured or trained.

    Args:
        monkeypatch: Of pytest.
        folder: Where nobody measures.

    Returns:
        The world.
    """
    world = World()
    monkeypatch.setattr(stillness, "_folder", lambda: folder)
    monkeypatch.setattr(orders_module, "train_candidate", world.train)
    monkeypatch.setattr(
        loop_module,
        "screen_candidate",
        lambda sample, _, *, trial, known: measured(sample, trial=trial),  # noqa: ARG005
    )
    return world
