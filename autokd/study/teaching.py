"""The teacher of a study: loaded or trained, checked and measured like a student."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autokd.candidate import KnownTeacher, train_student
from autokd.config import Config, find_cache
from autokd.data import SearchData
from autokd.distillation import Plan
from autokd.errors import ExportError, TeacherError, WorkerError
from autokd.exporters import export_onnx
from autokd.study.crew import Crew, Job
from autokd.study.progress import SearchProgress
from autokd.teachers import (
    KnowledgeBank,
    Teacher,
    TeacherPlan,
    check_teacher,
    evaluate_teacher,
    load_teacher,
)
from autokd.types import EpochLog, Recipe, Target, TeacherCard

__all__ = ["build_teacher"]


def build_teacher(
    config: Config,
    data: SearchData,
    *,
    target: Target,
    device: torch.device,
    crew: Crew,
    progress: SearchProgress,
) -> tuple[KnownTeacher, TeacherCard, float]:
    """The teacher behind `--teacher`, with its validation accuracy and latency.

    Args:
        config: What the user wants.
        data: Pictures to fit it to and to check it on.
        target: What its latency is measured on.
        device: Where it will be asked.
        crew: Who trains it.
        progress: Shows its training.

    Returns:
        The teacher on the device, what is known of it, and the seconds spent training it.
    """
    spent: list[float] = []

    def fit(network: nn.Module, *, plan: TeacherPlan) -> nn.Module:
        progress.begin("epochs of the teacher", total=plan.epochs)

        def train(on_epoch: Callable[[EpochLog], None]) -> tuple[dict[str, Any], float]:
            training = train_student(
                network,
                _build_recipe(plan),
                data=data,
                teacher=None,
                plan=Plan(
                    epochs=plan.epochs, batch_size=plan.batch_size, seed=plan.seed, device=device
                ),
                on_epoch=on_epoch,
            )
            state = network.state_dict()
            return {name: value.numpy() for name, value in state.items()}, training.seconds

        def show(_: Job, row: EpochLog) -> None:
            progress.step(done=row.epoch)
            progress.epoch("teacher", row, epochs=plan.epochs)

        crew.start(Job(key=None, title="teacher", epochs=plan.epochs, work=train, is_wide=True))
        done = crew.wait(show)
        progress.end()
        if done.fault:
            raise WorkerError(f"the teacher could not be trained: {done.fault}")
        weights, seconds = done.result
        network.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
        spent.append(seconds)
        return network

    teacher = load_teacher(config, data=data.card, fit=fit, cache=find_cache())
    teacher.to(device)
    accuracy = evaluate_teacher(teacher, images=data.val_images, labels=data.val_labels)
    check_teacher(accuracy, labels=data.val_labels, classes=data.card.classes)
    card = TeacherCard(
        name=config.teacher,
        digest=teacher.digest,
        n_params=teacher.n_params,
        val_accuracy=accuracy,
        latency_ms=_measure(teacher, data=data, target=target),
    )
    teacher.to(device)
    return _remember(teacher, config=config, data=data), card, sum(spent)


def _remember(teacher: Teacher, *, config: Config, data: SearchData) -> KnownTeacher:
    """The teacher, with a bank of its answers unless the user wants none."""
    bank = KnowledgeBank(
        teacher,
        cache=find_cache(),
        teacher_digest=teacher.digest,
        data_digest=data.card.digest + data.card.unlabelled_digest,
    )
    return KnownTeacher(
        network=teacher,
        bank=bank if config.bank else None,
        n_views=config.views,
        student_taps=config.student_tap,
        teacher_taps=config.teacher_tap,
    )


def _build_recipe(plan: TeacherPlan) -> Recipe:
    return Recipe(
        alpha=0.0,
        alpha_end=0.0,
        augmentation=plan.augmentation,
        label_smoothing=plan.label_smoothing,
        optimiser=plan.optimiser,
        learning_rate=plan.learning_rate,
        weight_decay=plan.weight_decay,
    )


def _measure(teacher: Teacher, *, data: SearchData, target: Target) -> float:
    """Median latency of the teacher's own ONNX file, or of the one that it is exported to."""
    if teacher.onnx_file is not None:
        return target.measure(teacher.onnx_file).median_ms
    with tempfile.TemporaryDirectory(prefix="autokd-") as folder:
        try:
            model = export_onnx(
                teacher.build_exportable() if teacher.is_exportable else teacher,
                Path(folder) / "teacher.onnx",
                shape=data.card.shape,
                is_traced=teacher.is_exportable,
            )
        except ExportError as error:
            raise TeacherError(
                f"`--teacher` must be exportable to ONNX, so that its latency can be compared; "
                f"{error}"
            ) from error
        return target.measure(model).median_ms
