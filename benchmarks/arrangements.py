"""Who teaches in `losses.py` besides the teacher: a committee with another one, an assistant, both.

Whoever is missing is made by autokd's own school of teachers, kept in the same cache.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from matched import Bench
from rich.console import Console
from torch import nn

from autokd.candidate import KnownTeacher, build_student, train_student
from autokd.config import find_cache
from autokd.distillation import OnEpoch, Plan
from autokd.study.crew import Job
from autokd.study.schooling import School
from autokd.teachers import (
    AnyTeacher,
    KnowledgeBank,
    TeacherPlan,
    TeacherRequest,
    build_committee,
    evaluate_teacher,
)
from autokd.types import Recipe

__all__ = ["ARRANGEMENTS", "arrange"]

VOTES = ("mean", "accuracy", "confidence")
COMMITTEES = {vote: f"by two teachers, {vote}" for vote in VOTES}
ASSISTED = ("by an assistant", "by teacher and assistant")
ARRANGEMENTS = (*COMMITTEES.values(), *ASSISTED)
AUTO = TeacherRequest(spec="auto", kind="auto", name="", is_trained=True)


def arrange(
    bench: Bench, *, has_assistant: bool
) -> tuple[dict[str, KnownTeacher], dict[str, float]]:
    """Every teacher arrangement but the teacher alone.

    Args:
        bench: With the teacher, and with an assistant where the gap is large.
        has_assistant: Whether one is made where the gap is small.

    Returns:
        Who teaches, and how accurate that is on validation, by row of the table.
    """
    staff = _Staff(bench=bench)
    networks = staff.join_committees()
    if has_assistant:
        networks |= staff.find_assistant()
    images, labels = bench.data.val_images, bench.data.val_labels
    return (
        {name: staff.remember(network) for name, network in networks.items()},
        {
            name: evaluate_teacher(network, images=images, labels=labels)
            for name, network in networks.items()
        },
    )


@dataclass(frozen=True, kw_only=True)
class _Staff:
    """The teachers of a bench."""

    bench: Bench

    @cached_property
    def teacher(self) -> AnyTeacher:
        """The one that the other rows have."""
        return cast("AnyTeacher", self.bench.faculty.teachers["teacher"].network)

    def join_committees(self) -> dict[str, AnyTeacher]:
        """The teacher with one of the next seed, by each vote."""
        second = self._open_school(seed=self.bench.config.seed + 1).load(AUTO, is_alone=False)
        return {name: self._join(second, vote=vote) for vote, name in COMMITTEES.items()}

    def find_assistant(self) -> dict[str, AnyTeacher]:
        """The assistant of the bench or, where it has none, one of the geometric mean."""
        teachers = self.bench.faculty.teachers
        if "assistant" in teachers:
            assistant = cast("AnyTeacher", teachers["assistant"].network)
        else:
            assistant = self._open_school(seed=self.bench.config.seed).load_assistant(
                AUTO, teacher=self.teacher, n_params=self._find_middle()
            )
        both = self._join(assistant, vote="mean")
        return dict(zip(ASSISTED, (assistant, both), strict=True))

    def remember(self, network: AnyTeacher) -> KnownTeacher:
        """A teacher with a bank of its answers, as that of the bench has one."""
        bench, card = self.bench, self.bench.data.card
        bank = KnowledgeBank(
            network,
            cache=find_cache(),
            teacher_digest=network.digest,
            data_digest=card.digest + card.unlabelled_digest,
            device_type=bench.device.type,
        )
        known = bench.faculty.teachers["teacher"]
        return replace(
            known, network=network, name=network.name, has_features=network.has_features, bank=bank
        )

    def _join(self, other: AnyTeacher, *, vote: Any) -> AnyTeacher:  # noqa: ANN401 - a literal
        data, members = self.bench.data, [self.teacher, other]
        accuracies = [
            evaluate_teacher(one, images=data.val_images, labels=data.val_labels) for one in members
        ]
        return build_committee(
            members,
            vote=vote,
            accuracies=accuracies,
            n_classes=data.card.n_classes,
            n_pictures=len(data.val_labels),
        )

    def _find_middle(self) -> int:
        """Parameters of whoever stands halfway between teacher and student."""
        bench = self.bench
        student, _ = build_student(bench.space, {}, data=bench.data.card, seed=0)
        n_student = sum(value.numel() for value in student.parameters())
        return round(math.sqrt(n_student * sum(p.numel() for p in self.teacher.parameters())))

    def _open_school(self, *, seed: int) -> School:
        """Trains with a seed, on the pictures and the split of the bench all the same."""
        bench = self.bench
        return School(
            bench.config.model_copy(update={"seed": seed}),
            bench.data,
            device=bench.device,
            say=Console(stderr=True, highlight=False).print,
            train=self._train,
        )

    def _train(
        self,
        network: nn.Module,
        recipe: Recipe,
        *,
        title: str,
        plan: TeacherPlan,
        checkpoint: Path,
        teacher: nn.Module | None,
    ) -> nn.Module:
        """In a process of the crew: this one must be able to fork afterwards."""
        del checkpoint  # not cut off
        bench = self.bench

        def work(on_epoch: OnEpoch) -> Mapping[str, Any]:
            train_student(
                network,
                recipe,
                data=bench.data,
                teacher=None if teacher is None else KnownTeacher(network=teacher),
                plan=Plan(
                    epochs=plan.epochs,
                    batch_size=plan.batch_size,
                    seed=plan.seed,
                    device=bench.device,
                ),
                on_epoch=on_epoch,
            )
            return {name: value.cpu().numpy() for name, value in network.state_dict().items()}

        Console(stderr=True, highlight=False).print(f"another {title}: {plan.epochs} epochs")
        crew = bench.crew
        crew.start(Job(key=None, title=title, epochs=plan.epochs, work=work, is_wide=True))
        done = None
        while done is None:
            done = crew.wait(lambda _job, _row: None)
        if done.fault:
            raise SystemExit(f"the {title} could not be trained: {done.fault}")
        network.load_state_dict({key: torch.from_numpy(w) for key, w in done.result.items()})
        return network
