"""A weight-sharing supernet trained first, against students that are all trained afresh.

For as many seconds of the processor altogether (each process computes on one thread, so that
what else runs on the machine does not count). The supernet is the largest student of the space;
half of the seconds go into it: in each step the largest, the smallest and two random students are
taught by the teacher, each cut out of the same weights (first channels, centres of kernels, first
blocks). Then each student begins with what is cut out for it and is trained for half of the
epochs. Students afresh are trained for all of them.

NNI's own one-shot models refuse spaces whose blocks are modules of the user's, as those of the
bundled spaces are ("dangling mutables"); so the cutting is that of `--warm-start relatives`.

References:
    Yu, Huang, "Universally Slimmable Networks", 2019, section 3.3 (the sandwich rule).
    https://arxiv.org/abs/1903.05134
"""

import argparse
import dataclasses
import random
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import fmean
from typing import Any

import torch
from inheritance import RECIPE, Course, Run
from matched import describe_machine, open_bench
from output import print_figures, reserve_stdout
from rich.console import Console
from torch import Tensor, nn
from torch.func import functional_call

from autokd.candidate import KnownTeacher, build_student, inherit_weights
from autokd.candidate.inheritance import Common, find_common
from autokd.data import Augment, build_augmentation
from autokd.distillation import Student, distillation_loss
from autokd.study.crew import Job
from autokd.study.finalists import estimate
from autokd.types import EpochLog, Sample

_POOL = 8  # random students that the supernet is trained as, besides both extremes
_RANDOM_A_STEP = 2


class Cutting:
    """One student whose weights are views of the supernet's."""

    def __init__(self, student: Student, supernet: nn.Module) -> None:
        """Finds out what is cut where; every parameter must come from the supernet."""
        self._student = student.train()
        self._commons: dict[str, list[Common]] = {}
        for common in find_common(student, supernet.state_dict()):
            self._commons.setdefault(common.path, []).append(common)
        self._names = [name for name, _ in student.named_parameters() if name in self._commons]
        missing = [name for name, _ in student.named_parameters() if name not in self._commons]
        self.n_missing = len(missing)

    def __call__(self, views: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Logits; gradients flow into the supernet's weights."""
        cut: dict[str, Tensor] = {}
        for name in self._names:
            parts = [weights[one.path_of_relative][one.part_of_relative]
                     for one in self._commons[name]]  # fmt: skip
            cut[name] = torch.cat(parts) if len(parts) > 1 else parts[0]
        return functional_call(self._student, cut, views)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Supernet:
    """What a supernet needs to be trained."""

    course: Course
    seed: int

    def _build(self, sample: Sample) -> Student:
        bench = self.course.bench
        return build_student(bench.space, sample, data=bench.data.card, seed=self.seed)[0]

    def train(self, seconds: float) -> Student:
        """The largest student, trained for all that are cut out of it.

        Args:
            seconds: Of the processor, with the building of the students.

        Returns:
            Its weights are shared by all.
        """
        start, bench = time.process_time(), self.course.bench
        torch.manual_seed(self.seed)
        small, large = bench.space.extremes(count_parameters, timeout_s=60.0)
        net = self._build({**bench.space.complete({}), **large})
        pool = [bench.space.random(10_000 + index) for index in range(_POOL)]
        smallest, *others = (
            Cutting(self._build({**bench.space.complete({}), **sample}), net)
            for sample in (small, *pool)
        )
        others = [one for one in others if not one.n_missing]
        images, labels = bench.data.train_images, bench.data.train_labels
        teacher = bench.faculty.teachers["teacher"]
        augment = build_augmentation(
            RECIPE,
            n_classes=bench.data.card.n_classes,
            n_pictures=len(images),
            seed=self.seed,
            n_views=teacher.n_views,
        )
        optimiser = torch.optim.AdamW(net.parameters(), lr=RECIPE.learning_rate)
        draw, epoch = random.Random(self.seed), 0
        weights = dict(net.named_parameters())
        net.train()
        while (progress := (time.process_time() - start) / seconds) < 1:
            for indices in torch.randperm(len(images)).split(bench.batch_size)[:-1]:
                progress = (time.process_time() - start) / seconds
                rate = RECIPE.learning_rate * min(
                    10 * progress, 1.0, max(0.0, 1.1 * (1 - progress))
                )
                for group in optimiser.param_groups:
                    group["lr"] = max(1e-6, rate)
                views = augment(images[indices], labels[indices], indices=indices, epoch=epoch)
                answers = self._recall(teacher, augment, view=views.view)[indices].float()
                optimiser.zero_grad()
                chosen = draw.sample(others, k=min(_RANDOM_A_STEP, len(others)))
                logits = [net(views.pictures)]
                logits += [one(views.pictures, weights) for one in (smallest, *chosen)]
                for one in logits:
                    distillation_loss(
                        one, views.targets, teacher_logits=answers, recipe=RECIPE,
                        alpha=RECIPE.alpha, temperature=RECIPE.temperature,
                    ).backward()  # fmt: skip
                nn.utils.clip_grad_norm_(net.parameters(), 5.0)
                optimiser.step()
            epoch += 1
        return net.eval()

    def _recall(self, teacher: KnownTeacher, augment: Augment, *, view: int) -> Tensor:
        """What the teacher says of a view of all pictures; of the bank, as for students afresh."""
        images = self.course.bench.data.train_images

        def render(indices: Tensor) -> Tensor:
            return augment.viewer(images[indices], indices, view=view)

        if teacher.bank is None:
            sys.exit("the teacher must have a bank")
        return teacher.bank.recall(
            str(augment.viewer), view=view, n_pictures=len(images), render=render
        )

    def compare(self, on_epoch: Callable[[EpochLog], object]) -> tuple[list[tuple[Run, Run]], Any]:
        """Each student afresh, and cut out of the supernet and trained half as long."""
        course, half = self.course, dataclasses.replace(self.course, epochs=self.course.epochs // 2)
        indices = range(len(course.samples))
        start = time.process_time()
        afresh = [
            course.train(course.build(index, self.seed), index, seed=self.seed, on_epoch=on_epoch)
            for index in indices
        ]
        seconds, heirs = time.process_time() - start, []
        start = time.process_time()
        state = self.train(seconds / 2).state_dict()
        for index in indices:
            heir = course.build(index, self.seed)
            share = inherit_weights(heir, state)
            run = half.train(heir, index, seed=self.seed, on_epoch=on_epoch)
            heirs.append(dataclasses.replace(run, share=share))
        total = time.process_time() - start
        return list(zip(afresh, heirs, strict=True)), (total, seconds)


def count_parameters(network: nn.Module) -> float:
    """Of a student."""
    return float(sum(value.numel() for value in network.parameters()))


def main() -> None:
    """Reads the arguments, trains, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5 students, 4 epochs, 2 seeds")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--data", default="digits", help="as of autokd search")
    parser.add_argument("--train-limit", type=int, help="pictures for training and validation")
    parser.add_argument("--space", default="mobile")
    parser.add_argument("--students", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    arguments, out = parser.parse_args(), reserve_stdout()
    if arguments.quick:
        arguments.students, arguments.epochs, arguments.seeds = 5, 4, 2
        arguments.train_limit = 600
    console = Console(stderr=True, highlight=False)
    bench = open_bench(
        arguments.space,
        device="cpu",
        batch_size=arguments.batch_size,
        data=arguments.data,
        train_limit=arguments.train_limit,
        assistant="none",
    )
    samples = [bench.space.random(seed) for seed in range(arguments.students)]
    course = Course(bench=bench, samples=samples, epochs=arguments.epochs)
    pairs, times = run_all(course, arguments.seeds, say=console.print)
    gain = estimate([heir.test_accuracy - fresh.test_accuracy for fresh, heir in pairs])
    figures = {
        "gain": gain.mean,
        "gain_ci95": gain.ci95,
        "n_pairs": len(pairs),
        "n_seeds": arguments.seeds,
        "test_accuracy_fresh": fmean(fresh.test_accuracy for fresh, _ in pairs),
        "seconds_ratio": sum(ours for ours, _ in times) / sum(theirs for _, theirs in times),
        "share": fmean(heir.share for _, heir in pairs),
    }
    print_figures(
        {
            **describe_machine(),
            "space": arguments.space,
            "data": arguments.data,
            "n_train": len(bench.data.train_images),
            "students": arguments.students,
            "epochs": arguments.epochs,
            **figures,
        },
        as_json=arguments.json,
        out=out,
    )


def run_all(course: Course, n_seeds: int, *, say: Callable[[str], object]) -> tuple[Any, Any]:
    """Each seed as a job, as many at once as there are cores; pairs of trainings, and seconds."""
    crew, waiting, pairs, times = course.bench.crew, list(range(n_seeds)), [], []
    n_trained, n_total = 0, 2 * n_seeds * len(course.samples)

    def hear(job: Job, row: EpochLog) -> None:
        nonlocal n_trained
        if row.epoch == course.epochs // 2:  # of a short one its last
            n_trained += 1
            say(f"{job.title}: {row.val_accuracy:.1%}   {n_trained}/{n_total}")

    while waiting or crew.running:
        while waiting and len(crew.running) < crew.size:
            seed = waiting.pop(0)
            work = partial(Supernet(course=course, seed=seed).compare)
            crew.start(Job(key=seed, title=f"seed {seed}", epochs=n_total, work=work))
        done = crew.wait(hear)
        if done is not None and done.fault:
            sys.exit(f"{done.job.title}: {done.fault}")
        if done is not None:
            pairs += done.result[0]
            times.append(done.result[1])
    return pairs, times


if __name__ == "__main__":
    main()
