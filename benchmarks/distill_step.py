"""Seconds of one distillation step: autokd with its bank, plain training, and torchdistill.

Same teacher, student, pictures, batch and number of threads; the three loops take turns. autokd's
two are in one process and torchdistill's in another, so that each has its memory as where it is
used; a turn of autokd is its second epoch. torchdistill (`pip install torchdistill`) gets the
easiest data set there is: finished float tensors, no augmentation, no worker processes. autokd
crops and flips its uint8 pictures.
Networks have random weights: a step takes as long as a trained one's.
"""

import argparse
import dataclasses
import importlib.util
import logging
import multiprocessing
import statistics
import sys
import tempfile
import time
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from matched import describe_machine
from output import Steps, print_figures, reserve_stdout
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torchvision.models import mobilenet_v2

from autokd.candidate import KnownTeacher, train_student
from autokd.data import build_augmentation
from autokd.distillation import Plan, Student, keep_freed_memory, measure_engine
from autokd.teachers import KnowledgeBank
from autokd.types import Recipe

N_CLASSES, SIDE = 10, 32
STEPS_OF_A_TRIAL = 2000  # what the engine may take its time for
DISTILLED = Recipe(augmentation="flip_crop", learning_rate=1e-3)
PLAIN = Recipe(alpha=0.0, alpha_end=0.0, augmentation="flip_crop", learning_rate=1e-3)
RECIPES = {"autokd": DISTILLED, "plain": PLAIN}
LOOPS = (*RECIPES, "torchdistill")
PAIRS = ("resnet56_to_resnet20", "resnet56_to_mobilenetv2_x0.5")
MOBILE = [
    [1, 16, 1, 1],
    [6, 24, 2, 1],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
]  # expansion, width, depth, stride: MobileNetV2 as it is used at 32 pixels


def build_mobile() -> nn.Module:
    """MobileNetV2 x0.5 for 32 pixels: 28 million multiply-accumulates."""
    network = mobilenet_v2(
        num_classes=N_CLASSES, width_mult=0.5, inverted_residual_setting=MOBILE, weights=None
    )
    network.features[0][0].stride = (1, 1)
    return network


def make_data(n: int) -> SimpleNamespace:
    """Noise with labels, as many pictures as the steps of one epoch need."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, N_CLASSES, (n,), generator=generator)
    return SimpleNamespace(
        card=SimpleNamespace(n_classes=N_CLASSES, digest=f"noise {n}"),
        train_images=images,
        train_labels=labels,
        unlabelled_images=images[:0],
        val_images=images[:8],
        val_labels=labels[:8],
    )


class Ours:
    """autokd's loop, with its bank and without a teacher."""

    def __init__(
        self, teacher: nn.Module, student: nn.Module, *, arguments: argparse.Namespace
    ) -> None:
        """Builds everything that is not a step: the bank and the engine."""
        keep_freed_memory()  # as every training does, before it times its engine
        self.n_steps = arguments.steps
        self.device = device = torch.device(arguments.device)
        self.teacher = teacher.eval().to(device)
        self.data = make_data(arguments.batch * arguments.steps)
        self.student = Student(student, mean=[0.5] * 3, std=[0.25] * 3)
        views = torch.rand(arguments.batch, 3, SIDE, SIDE)
        engine = measure_engine(
            self.student, views, n_classes=N_CLASSES, device=device, n_steps=STEPS_OF_A_TRIAL
        )
        engine = dataclasses.replace(engine, threads=arguments.threads)
        self.engine = str(engine)
        self.plan = Plan(epochs=2, batch_size=arguments.batch, seed=0, device=device, engine=engine)
        self.bank = KnowledgeBank(
            self.teacher,
            cache=Path(arguments.cache),
            teacher_digest=f"{type(student).__name__}",
            data_digest=self.data.card.digest,
            device_type=device.type,
        )
        self._fill_bank()

    def _fill_bank(self) -> None:
        n = len(self.data.train_images)
        augment = build_augmentation(DISTILLED, n_classes=N_CLASSES, n_pictures=n, seed=0)

        def render(view: int, indices: Tensor) -> Tensor:
            images = self.data.train_images[indices].to(self.device)
            return augment.viewer(images, indices, view=view)

        for view in range(self.plan.epochs):
            self.bank.recall(
                str(augment.viewer), view=view, n_pictures=n, render=partial(render, view)
            )

    def step(self, name: str) -> float:
        """Seconds a step of its second epoch (the first has a check)."""
        teacher = KnownTeacher(network=self.teacher, bank=self.bank)
        training = train_student(
            self.student, RECIPES[name], data=self.data, teacher=teacher, plan=self.plan
        )
        return training.curve[-1].seconds / self.n_steps


class Theirs:
    """torchdistill's loop."""

    engine = "as its example scripts have it"

    def __init__(
        self, teacher: nn.Module, student: nn.Module, *, arguments: argparse.Namespace
    ) -> None:
        """Builds everything that is not a step: the data set and the box."""
        self.batch, self.n_steps = arguments.batch, arguments.steps
        self.device = torch.device(arguments.device)
        self.student = student.to(self.device).train()
        self.box = self._build_box(teacher.eval().to(self.device))

    def _build_box(self, teacher: nn.Module) -> Any:  # noqa: ANN401 - untyped
        from torchdistill.core.distillation import get_distillation_box
        from torchdistill.core.interfaces import forward_proc  # noqa: F401 - fills its registry
        from torchdistill.losses import high_level, mid_level  # noqa: F401

        data = make_data(self.batch * self.n_steps)
        pictures = TensorDataset(data.train_images.float() / 255, data.train_labels)
        loss = {
            "key": "KDLoss",
            "kwargs": {
                "student_module_path": ".",
                "student_module_io": "output",
                "teacher_module_path": ".",
                "teacher_module_io": "output",
                "temperature": 4.0,
                "alpha": 0.1,  # of the labels' loss
                "reduction": "batchmean",
            },
        }
        config = {
            "num_epochs": 1,
            "train_data_loader": {
                "dataset_id": "train",
                "sampler": {
                    "class_or_func": torch.utils.data.RandomSampler,
                    "kwargs": {},
                },
                "kwargs": {"batch_size": self.batch, "num_workers": 0, "drop_last": True},
            },
            "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
            "student": {"forward_proc": "forward_batch_only"},
            "optimizer": {"key": "AdamW", "kwargs": {"lr": 1e-3}},
            "criterion": {
                "key": "WeightedSumLoss",
                "kwargs": {"sub_terms": {"kd": {"criterion": loss, "weight": 1.0}}},
            },
        }
        return get_distillation_box(
            teacher,
            self.student,
            {"train": pictures},
            config,
            device=self.device,
            device_ids=None,
            distributed=False,
            lr_factor=1,
        )

    def step(self, _name: str) -> float:
        """Seconds a step of torchdistill's loop, as its example scripts write it."""
        box = self.box
        self._wait()
        start = time.perf_counter()
        box.pre_epoch_process(epoch=0)
        for batch, targets, extra in box.train_data_loader:
            loss = box.forward_process(batch, targets, extra)
            box.post_forward_process(loss)
        box.post_epoch_process()
        self._wait()
        return (time.perf_counter() - start) / self.n_steps

    def _wait(self) -> None:
        """For what was asked of a GPU."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def serve(pipe: Connection, arguments: argparse.Namespace, pair: str, *, is_ours: bool) -> None:
    """Tells its engine, then seconds a step of each turn that it is asked for."""
    torch.set_num_threads(arguments.threads)
    logging.disable(logging.WARNING)
    from torchdistill.models.classification.resnet import resnet20, resnet56

    torch.manual_seed(0)
    teacher = resnet56(num_classes=N_CLASSES)
    student = resnet20(num_classes=N_CLASSES) if pair == PAIRS[0] else build_mobile()
    loop = (Ours if is_ours else Theirs)(teacher, student, arguments=arguments)
    pipe.send(loop.engine)
    while name := pipe.recv():
        pipe.send(loop.step(name))


def measure_pair(arguments: argparse.Namespace, *, pair: str) -> dict[str, object]:
    """Medians and ratios of the three loops, one after another, several times."""
    times: dict[str, list[float]] = {name: [] for name in LOOPS}
    fresh = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    engines: list[str] = []
    for is_ours in (True, False):
        here, there = fresh.Pipe()
        fresh.Process(
            target=serve, args=(there, arguments, pair), kwargs={"is_ours": is_ours}, daemon=True
        ).start()
        there.close()
        pipes.append(here)
        engines.append(here.recv())
    ours, theirs = pipes
    with Steps(pair, total=arguments.repeats + 1) as rounds:
        for number in range(arguments.repeats + 1):
            for name in LOOPS:
                pipe = theirs if name == LOOPS[-1] else ours
                pipe.send(name)
                seconds = pipe.recv()
                if number:  # the first round warms up
                    times[name].append(seconds)
            rounds.tick()
    for pipe in pipes:
        pipe.send("")
    median = {name: statistics.median(values) for name, values in times.items()}

    def ratios(above: str, below: str) -> list[float]:
        return sorted(a / b for a, b in zip(times[above], times[below], strict=True))

    with_bank, against = ratios("autokd", "plain"), ratios("torchdistill", "autokd")
    return {
        "autokd_vs_plain": statistics.median(with_bank),
        "autokd_vs_plain_range": [with_bank[0], with_bank[-1]],
        "torchdistill_vs_autokd": statistics.median(against),
        "torchdistill_vs_autokd_range": [against[0], against[-1]],
        "seconds": median,
        "engine": engines[0],
        "n": arguments.repeats,
    }


def main() -> None:
    """Reads the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 rounds of 6 steps")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20, help="of a round")
    parser.add_argument("--repeats", type=int, default=7, help="rounds")
    parser.add_argument("--threads", type=int, default=1)
    arguments, out = parser.parse_args(), reserve_stdout()
    if arguments.quick:
        arguments.steps, arguments.repeats = 6, 3
    if importlib.util.find_spec("torchdistill") is None:
        sys.exit("torchdistill must be installed to be compared with: pip install torchdistill")
    figures: dict[str, object] = dict(describe_machine(arguments.device))
    with tempfile.TemporaryDirectory() as arguments.cache:
        for pair in PAIRS:
            figures[pair] = measure_pair(arguments, pair=pair)
    print_figures(figures, as_json=arguments.json, out=out)


if __name__ == "__main__":
    main()
