"""Sites that may not share their pictures: alone, federated, and with all pictures at one place.

The training pictures of a data set are dealt to sites with the shares of each class drawn from a
Dirichlet distribution; some are set aside without their labels as the public ones. All sites train
the same student with as many steps: alone; federated, by the functions that `autokd federate`
calls; and pooled, which is what cannot be had. Every accuracy is on the data set's own test split,
which is the same for all and chooses nothing; a site's epoch is chosen on its own validation split.

Bytes are those of the files of answers, against the weights that FedAvg would send instead.
"""

import argparse
import dataclasses
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matched import describe_machine
from output import print_figures, reserve_stdout
from rich.console import Console

from autokd.candidate import (
    answer_public,
    build_student,
    describe_views,
    train_round,
    train_student,
)
from autokd.config import Config
from autokd.data import SearchData, load_data, load_public, load_test
from autokd.distillation import Engine, OnEpoch, Plan, evaluate
from autokd.federation import Answers, Charter, build_consensus
from autokd.study.crew import Crew, Job
from autokd.study.crews import build_crew
from autokd.study.finalists import estimate
from autokd.study.joint_space import build_joint_space
from autokd.study.refits import without_teacher
from autokd.study.sites import choose_sample, count_epochs_alone

WAYS = ("alone", "federated", "pooled")
Weights = dict[str, np.ndarray]
Work = Callable[[OnEpoch], Weights]
Place = tuple[SearchData, torch.nn.Module]


def pack(student: torch.nn.Module) -> Weights:
    """The weights as what goes between processes."""
    return {name: value.numpy() for name, value in student.state_dict().items()}


def deal(labels: np.ndarray, *, n_sites: int, concentration: float, seed: int) -> list[np.ndarray]:
    """Which pictures each site gets; drawn again until each has a fifth of its fair share."""
    random = np.random.default_rng(seed)
    while True:
        shares: list[list[np.ndarray]] = [[] for _ in range(n_sites)]
        for label in np.unique(labels):
            members = random.permutation(np.flatnonzero(labels == label))
            cuts = np.cumsum(random.dirichlet([concentration] * n_sites))[:-1] * len(members)
            for share, part in zip(shares, np.split(members, cuts.astype(int)), strict=True):
                share.append(part)
        dealt = [np.sort(np.concatenate(share)) for share in shares]
        if min(map(len, dealt)) >= len(labels) / n_sites / 5:
            return dealt


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One deal of the pictures, and who trains on it."""

    sites: list[SearchData]
    pooled: SearchData
    test: Any
    config: Config
    crew: Crew
    plan: Plan
    first_epochs: int
    rounds: int

    def run(self) -> dict[str, Any]:
        """Test accuracy of every way, of the sites one by one, and the bytes of a site."""
        space = build_joint_space(self.config, self.pooled.card, has_assistant=False)
        sample, recipe = choose_sample(space, self.config, data=self.pooled)
        n_public = len(self.pooled.unlabelled_images)
        policy, n_views = describe_views(recipe, n_pictures=n_public, n_views=self.config.views)
        device = self.plan.device

        def build(data: SearchData) -> torch.nn.Module:
            return build_student(space, sample, data=data.card, seed=self.plan.seed)[0]

        def train_alone(data: SearchData, on_epoch: OnEpoch, *, epochs: int) -> Weights:
            student = build(data)
            plan = dataclasses.replace(self.plan, epochs=epochs)
            plain = without_teacher(recipe)
            train_student(student, plain, data=data, teacher=None, plan=plan, on_epoch=on_epoch)
            return pack(student)

        def train_on(site: Place, number: int, consensus: np.ndarray, on_epoch: OnEpoch) -> Weights:
            data, student = site
            options = {"number": number, "data": data, "consensus": consensus, "plan": self.plan}
            train_round(student, recipe, **options, on_epoch=on_epoch)
            return pack(student)

        def train(data: Sequence[SearchData], works: Sequence[Work]) -> list[torch.nn.Module]:
            students = [build(one) for one in data]
            for student, weights in zip(students, self._carry_out(works), strict=True):
                student.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
            return students

        def judge(students: Sequence[torch.nn.Module]) -> list[float]:
            engine = Engine(device=torch.device("cpu"))
            images, labels = self.test.images, self.test.labels
            return [evaluate(one.cpu(), images, labels, engine=engine)[1] for one in students]

        charter = Charter(
            classes=self.pooled.card.classes,
            public_shape=(n_public, *self.pooled.card.shape),
            public_digest="", policy=policy, views=n_views, rounds=self.rounds,
            vote=self.config.vote, n_sites=len(self.sites),
        )  # fmt: skip
        first = partial(train_alone, epochs=self.first_epochs)
        students = train(self.sites, [partial(first, data) for data in self.sites])
        by_round, sent = [judge(students)], 0
        for number in range(1, self.rounds + 1):
            answers = [
                Answers(
                    site=f"{index:03d}",
                    n_pictures=data.card.n_train,
                    logs=answer_public(
                        student, recipe, data.unlabelled_images, n_views=n_views, device=device
                    ),
                )
                for index, (data, student) in enumerate(zip(self.sites, students, strict=True))
            ]
            sent += len(answers[0].write(charter=charter, number=number - 1))
            consensus = build_consensus(answers, vote=self.config.vote)
            places = zip(self.sites, students, strict=True)
            students = train(
                self.sites, [partial(train_on, place, number, consensus) for place in places]
            )
            by_round.append(judge(students))
        n_private = [len(data.train_images) for data in self.sites]
        # As many steps for each student, whatever it learns from.
        n_epochs = [
            count_epochs_alone(
                n, n_public=n_public, plan=self.plan, first_epochs=self.first_epochs,
                n_rounds=self.rounds,
            )
            for n in n_private
        ]  # fmt: skip
        alone = train(
            self.sites,
            [
                partial(train_alone, data, epochs=n)
                for data, n in zip(self.sites, n_epochs, strict=True)
            ],
        )
        n_seen = [n * epochs for n, epochs in zip(n_private, n_epochs, strict=True)]
        together = math.ceil(sum(n_seen) / len(n_seen) / len(self.pooled.train_images))
        pooled = train([self.pooled], [partial(train_alone, self.pooled, epochs=together)])
        weights = sum(
            value.numel() * value.element_size() for value in alone[0].state_dict().values()
        )
        return {
            "alone": judge(alone),
            "federated": by_round[-1],
            "pooled": judge(pooled),
            "by_round": [sum(row) / len(row) for row in by_round],
            "n_private": n_private,
            "answers_bytes_per_round": sent // self.rounds,
            "fedavg_bytes_per_round": weights,
            "n_params": sum(value.numel() for value in alone[0].parameters()),
        }

    def _carry_out(self, works: Sequence[Work]) -> list[Weights]:
        """What the works give, as many at once as there are cores."""
        waiting = list(enumerate(works))[::-1]
        done: dict[int, Weights] = {}
        while len(done) < len(works):
            while waiting and len(self.crew.running) < self.crew.size:
                index, work = waiting.pop()
                self.crew.start(Job(key=index, title=f"site {index}", epochs=1, work=work))
            one = self.crew.wait(lambda _job, _row: None)
            if one is not None and one.fault:
                sys.exit(f"{one.job.title}: {one.fault}")
            if one is not None:
                done[one.job.key] = one.result
        return [done[index] for index in range(len(works))]


def set_stage(arguments: argparse.Namespace, folder: Path, *, seed: int, crew: Crew) -> Stage:
    """Deals the pictures into files and loads them as a site would."""
    with np.load(arguments.data) as arrays:
        whole = {key: arrays[key] for key in arrays.files}
    random = np.random.default_rng(seed)
    order = random.permutation(len(whole["y_train"]))
    n_private = arguments.train_limit or len(order) - arguments.public
    public, private = order[: arguments.public], np.sort(order[arguments.public :][:n_private])
    np.savez(folder / "public.npz", x=whole["x_train"][np.sort(public)])
    classes = np.array([str(label) for label in range(int(whole["y_train"].max()) + 1)])
    # Drawn, the same for all seeds: a file may be sorted by class.
    tested = np.random.default_rng(0).permutation(len(whole["y_test"]))[: arguments.test_limit]
    x_test, y_test = (whole[key][tested] for key in ("x_test", "y_test"))
    dealt = deal(
        whole["y_train"][private], n_sites=arguments.sites, concentration=arguments.dirichlet,
        seed=seed,
    )  # fmt: skip
    config = Config(
        student=arguments.student, public=f"npz:{folder / 'public.npz'}", site="benchmark",
        views=arguments.views, vote=arguments.vote, seed=seed, device=arguments.device,
    )  # fmt: skip

    def load(name: str, places: np.ndarray) -> tuple[SearchData, Config]:
        np.savez(
            folder / f"{name}.npz", x_train=whole["x_train"][places], classes=classes,
            y_train=whole["y_train"][places], x_test=x_test, y_test=y_test,
        )  # fmt: skip
        own = config.model_copy(update={"data": f"npz:{folder / name}.npz"})
        data = load_data(own)
        images = load_public(own, shape=data.card.shape).images
        return dataclasses.replace(data, unlabelled_images=images), own

    sites = [load(f"site-{index}", private[places])[0] for index, places in enumerate(dealt)]
    pooled, own = load("pooled", private)
    plan = Plan(
        epochs=arguments.epochs, batch_size=arguments.batch_size, seed=seed,
        device=torch.device(arguments.device),
    )  # fmt: skip
    return Stage(
        sites=sites, pooled=pooled, test=load_test(own), config=own, crew=crew, plan=plan,
        first_epochs=arguments.first_epochs, rounds=arguments.rounds,
    )  # fmt: skip


def summarise(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds of means over the sites, and the paired gains."""
    means = {way: [sum(one[way]) / len(one[way]) for one in found] for way in WAYS}
    rows: dict[str, Any] = {}
    for way, values in means.items():
        accuracy = estimate(values)
        gain = estimate([a - b for a, b in zip(values, means["alone"], strict=True)])
        rows[way] = {
            "test_accuracy": accuracy.mean,
            "test_accuracy_ci95": accuracy.ci95,
            "gain": gain.mean,
            "gain_ci95": gain.ci95,
            "worst_site": min(min(one[way]) for one in found),
            "n": accuracy.n,
        }
    by_round = zip(*(one["by_round"] for one in found), strict=True)
    return {"rows": rows, "by_round": [sum(row) / len(row) for row in by_round]}


def main() -> None:
    """Reads the arguments, trains, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="fashion-mnist.npz")
    parser.add_argument(
        "--quick", action="store_true", help="1,600 private pictures, a small student"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--dirichlet", type=float, default=0.5, help="smaller is more skewed")
    parser.add_argument("--student", default="mobile", help="as autokd federate takes it")
    parser.add_argument("--vote", default="mean")
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--public", type=int, default=10_000, help="pictures without labels")
    parser.add_argument("--train-limit", type=int, help="private pictures of all sites together")
    parser.add_argument("--test-limit", type=int, help="fewer test pictures than all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--first-epochs", type=int, default=15, help="before the first exchange")
    parser.add_argument("--epochs", type=int, default=5, help="after each exchange")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    arguments, out = parser.parse_args(), reserve_stdout()
    if not arguments.data.is_file():
        sys.exit(f"`data` must be a file, got {arguments.data}")
    if arguments.quick:
        arguments.train_limit, arguments.public, arguments.test_limit = 1600, 400, 1000
        arguments.first_epochs, arguments.rounds, arguments.epochs = 9, 3, 3
        arguments.batch_size = 32
        arguments.views, arguments.student = 3, "resnet:width=0.5,depth=1"
    console, start = Console(stderr=True, highlight=False), time.monotonic()
    crew = build_crew(None, device=torch.device(arguments.device))
    found: list[dict[str, Any]] = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory(prefix="autokd-") as name:
            stage = set_stage(arguments, Path(name), seed=seed, crew=crew)
            found.append(stage.run())
        means = {way: sum(found[-1][way]) / len(found[-1][way]) for way in WAYS}
        told = ", ".join(f"{way} {mean:.2%}" for way, mean in means.items())
        spent = time.monotonic() - start
        left = spent / len(found) * (arguments.seeds - len(found)) / 60
        console.print(f"seed {seed}: {told}; {left:.0f} min left")
    told = {
        **describe_machine(arguments.device),
        **{key: value for key, value in vars(arguments).items() if key not in ("data", "json")},
        **summarise(found),
        "n_params": found[0]["n_params"],
        "n_private": [one["n_private"] for one in found],
        "answers_bytes_per_round": found[0]["answers_bytes_per_round"],
        "fedavg_bytes_per_round": found[0]["fedavg_bytes_per_round"],
        "seconds": time.monotonic() - start,
    }
    print_figures(told, as_json=arguments.json, out=out)


if __name__ == "__main__":
    main()
