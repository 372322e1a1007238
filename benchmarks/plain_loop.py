"""The loop that a user writes who has Optuna, torch and onnxruntime, and no autokd.

Optuna's default sampler, a plain distillation of each candidate to its end with the teacher asked
about every batch, then the latency of its ONNX file. Only what is to be the same as in autokd comes
from there: the candidates (one joint space of architecture and recipe), the pictures and their
split, the teacher. Prints a line of JSON on stdout for each trial, until it is stopped.
"""

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

import numpy as np
import onnxruntime
import optuna
import torch
from matched import Bench, open_bench
from output import reserve_stdout
from torch import Tensor, nn
from torch.nn import functional as F

from autokd.candidate import build_student
from autokd.study.distributions import build_distribution
from autokd.types import Recipe

__all__ = ["RECIPE", "open_plain_bench"]

RECIPE = Path(__file__).with_name("plain_recipe.yaml")


def open_plain_bench(arguments: argparse.Namespace, *, seed: int) -> Bench:
    """Pictures, teacher and space as `autokd search` has them with the same options."""
    return open_bench(
        "mobile",
        device="cpu",
        batch_size=arguments.batch_size,
        recipe=str(RECIPE),
        data=f"npz:{arguments.data}",
        train_limit=arguments.train_limit,
        seed=seed,
        workers=1,
    )


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, r: Recipe) -> Tensor:
    """Hinton's loss by hand."""
    soft = F.kl_div(
        F.log_softmax(student_logits / r.temperature, dim=1),
        F.softmax(teacher_logits / r.temperature, dim=1),
        reduction="batchmean",
    )
    hard = F.cross_entropy(student_logits, labels, label_smoothing=r.label_smoothing)
    return r.alpha * r.temperature**2 * soft + (1 - r.alpha) * hard


def random_crop(pictures: Tensor) -> Tensor:
    """Each picture shifted by up to an eighth of its side, zeros where it was not."""
    n, _, height, width = pictures.shape
    pad = height // 8
    padded = F.pad(pictures, (pad, pad, pad, pad))
    down, right = torch.randint(0, 2 * pad + 1, (2, n, 1))
    rows = (down + torch.arange(height))[:, :, None]
    columns = (right + torch.arange(width))[:, None, :]
    return padded.transpose(0, 1)[:, torch.arange(n)[:, None, None], rows, columns].transpose(0, 1)


def build_optimiser(student: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The one that is searched."""
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(
            student.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
    return torch.optim.SGD(
        student.parameters(),
        lr=recipe.learning_rate,
        momentum=0.9,
        nesterov=True,
        weight_decay=recipe.weight_decay,
    )


def train(student: nn.Module, recipe: Recipe, *, bench: Bench, epochs: int) -> float:
    """Distils a student; gives the validation accuracy of its best epoch."""
    data, teacher = bench.data, bench.faculty.teachers["teacher"].network
    images, labels = data.train_images.float() / 255, data.train_labels
    n_steps = len(images) // bench.batch_size
    optimiser = build_optimiser(student, recipe)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=recipe.learning_rate,
        total_steps=epochs * n_steps + 1,
        pct_start=0.1,
        cycle_momentum=False,
    )
    best = 0.0
    for _ in range(epochs):
        student.train()
        for indices in torch.randperm(len(images))[: n_steps * bench.batch_size].split(
            bench.batch_size
        ):
            pictures = images[indices]
            if recipe.augmentation == "crop":
                pictures = random_crop(pictures)
            with torch.no_grad():
                teacher_logits = teacher(pictures)
            loss = kd_loss(student(pictures), teacher_logits, labels[indices], recipe)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(student.parameters(), 5.0)
            optimiser.step()
            schedule.step()
        best = max(best, evaluate(student, data.val_images.float() / 255, data.val_labels))
    return best


@torch.no_grad()
def evaluate(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of the pictures that it gets right."""
    student.eval()
    right = [
        (student(some).argmax(1) == true).sum()
        for some, true in zip(images.split(256), labels.split(256), strict=True)
    ]
    return float(sum(right)) / len(labels)


def measure_latency_ms(student: nn.Module, shape: tuple[int, int, int]) -> float:
    """Median of 100 runs of its ONNX file, batch 1, one thread."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/student.onnx"
        torch.onnx.export(
            copy.deepcopy(student).eval(),
            (torch.zeros(1, *shape),),
            path,
            input_names=["image"],
            dynamo=False,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {"image": np.zeros((1, *shape), dtype=np.float32)}
    times = []
    for _ in range(110):
        start = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[10:])


def search(bench: Bench, *, epochs: int, seed: int, out: TextIO) -> None:
    """Trials for ever."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.manual_seed(seed)
    directions = ["maximize", "minimize"]
    default = type(optuna.create_study(directions=directions).sampler)
    study = optuna.create_study(directions=directions, sampler=default(seed=seed))
    space = {one.label: build_distribution(one) for one in bench.space.dimensions}
    start = time.monotonic()
    while True:
        trial = study.ask(space)
        sample = bench.space.complete(trial.params)
        student, recipe = build_student(bench.space, sample, data=bench.data.card, seed=seed)
        accuracy = train(student, recipe, bench=bench, epochs=epochs)
        latency_ms = measure_latency_ms(student, bench.data.card.shape)
        study.tell(trial, [accuracy, latency_ms])
        values = {"val_accuracy": accuracy, "latency_ms": latency_ms, "sample": sample}
        now_ms = time.time_ns() // 1_000_000
        print(json.dumps({"time_ms": now_ms, **values}), file=out, flush=True)
        print(
            f"plain trial {trial.number}: {accuracy:.1%}, {latency_ms:.4f} ms, "
            f"{time.monotonic() - start:.0f} s",
            file=sys.stderr,
            flush=True,
        )


def main() -> None:
    """Reads the arguments, searches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="an .npz file such as fashion-mnist.npz")
    parser.add_argument("--train-limit", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    arguments, out = parser.parse_args(), reserve_stdout()
    if not arguments.data.is_file():
        sys.exit(f"`data` must be a file, got {arguments.data}")
    search(
        open_plain_bench(arguments, seed=arguments.seed),
        epochs=arguments.epochs,
        seed=arguments.seed,
        out=out,
    )


if __name__ == "__main__":
    main()
