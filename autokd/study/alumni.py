"""Whoever has learnt or taught in a study that is over, as networks again."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import final

import torch
from torch import nn

from autokd.candidate import load_student
from autokd.config import Config, find_cache
from autokd.data import SearchData, load_data
from autokd.distillation import Student
from autokd.errors import StudyError, TeacherError
from autokd.study.folder import StudyFolder
from autokd.study.front import pick_student
from autokd.study.joint_space import build_joint_space
from autokd.study.refits import find_weights, locate_weights
from autokd.study.storages import open_storage
from autokd.study.trials import read_results
from autokd.teachers import (
    AnyTeacher,
    TeacherPlan,
    build_committee,
    build_teacher_requests,
    evaluate_teacher,
    load_teacher,
)
from autokd.types import Sample, TeacherCard

__all__ = ["Graduate", "choose_graduate", "recall_data", "recall_student", "recall_teacher"]


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Graduate:
    """A student that was trained to the end.

    Attributes:
        trial: Its number.
        sample: What it is built of; the architecture half is enough.
        weights: Its best ones.
        is_twin: Whether it is the twin without the teacher, which took the student's place.
    """

    trial: int
    sample: Sample
    weights: Path
    is_twin: bool = False


def choose_graduate(
    folder: StudyFolder, config: Config, *, trial: int | None, pick: str | None, target: str = ""
) -> Graduate:
    """The student that the user means.

    Args:
        folder: Of the study.
        config: Of the study.
        trial: Any that was trained to its end; of a finalist, its refit that did best on
            validation, or the twin that took its place.
        pick: `knee`, `fastest` or `most-accurate` of the front; the knee if neither is given.
        target: Whose front; the first one's if empty.

    Returns:
        The student.

    Raises:
        StudyError: There is no such student.
    """
    students = folder.load_front(target=target).students
    if trial is None or any(student.trial == trial for student in students):
        wanted = (pick or "knee") if trial is None else str(trial)
        chosen = pick_student(students, pick=wanted, max_latency_ms=None)
        return Graduate(
            trial=chosen.trial,
            sample=chosen.architecture,
            weights=locate_weights(folder, chosen),
            is_twin=chosen.is_twin,
        )
    storage = open_storage(config.storage, runs_dir=config.runs_dir)
    results = read_results(config.study_name, storage=storage)
    able = {result.trial: result for result in results if result.state == "complete"}
    if trial not in able:
        known = ", ".join(map(str, sorted({*able, *(student.trial for student in students)})))
        raise StudyError(
            f"`--trial` must be one that was trained to its end ({known}), got {trial}"
        )
    weights = find_weights(folder, trial=trial, same_as=able[trial].same_as)
    return Graduate(trial=trial, sample=able[trial].sample, weights=weights)


def recall_data(config: Config, *, folder: StudyFolder) -> SearchData:
    """The pictures that a study has learnt from.

    Others under the same name would be split anew, so that a student is judged by pictures that it
    knows.

    Args:
        config: Of the study.
        folder: Of the study, which knows their digests.

    Returns:
        The data; a `StudyError` says that they are others.
    """
    data = load_data(config)
    folder.check_digests(data.card.digests)
    return data


def recall_student(graduate: Graduate, *, config: Config, data: SearchData) -> Student:
    """A trained student.

    Args:
        graduate: Who.
        config: Of the study.
        data: Of the study.

    Returns:
        The network in evaluation mode, on the CPU; a `StudyError` says that its weights are gone.
    """
    space = build_joint_space(config, data.card, has_assistant=bool(config.assistant))
    architecture = space.architecture_of(graduate.sample)
    return load_student(space, architecture, data=data.card, weights=graduate.weights)


def recall_teacher(
    card: TeacherCard,
    *,
    config: Config,
    data: SearchData,
    device: torch.device,
    accuracies: Mapping[str, float] = MappingProxyType({}),
) -> AnyTeacher:
    """The teacher of a study; it is not trained again.

    Args:
        card: What is known of it.
        config: Of the study.
        data: Of the study.
        device: Where it will be asked.
        accuracies: `StudyFolder.load_accuracies`. Who is not among them is judged anew, which on
            another device may differ by a picture, and a committee that is weighed by them too.

    Returns:
        The teacher.

    Raises:
        TeacherError: It is not there any more, or is another one now.
    """
    requests = build_teacher_requests(config)
    members = [
        load_teacher(request, config=config, data=data.card, fit=_refuse, cache=find_cache())
        for request in requests
    ]
    teacher: AnyTeacher = members[0]
    if len(members) > 1:
        for member in members:
            member.to(device)
        is_weighed = config.teacher_vote == "accuracy"

        def judge(member: AnyTeacher) -> float:
            if not is_weighed or member.digest in accuracies:
                return accuracies.get(member.digest, 1.0)
            return evaluate_teacher(member, images=data.val_images, labels=data.val_labels)

        teacher = build_committee(
            members,
            vote=config.teacher_vote,
            accuracies=[judge(member) for member in members],
            n_classes=data.card.n_classes,
            n_pictures=len(data.val_labels),
        )
    if teacher.digest != card.digest:
        raise TeacherError(
            f"`--teacher` must be who taught the study, got {card.name} with other weights or "
            "preprocessing; put its file back, or search again with another --study"
        )
    return teacher.to(device)


def _refuse(network: nn.Module, *, plan: TeacherPlan, checkpoint: Path) -> nn.Module:
    del checkpoint
    raise TeacherError(
        f"`--teacher` was trained for the study ({plan.epochs} epochs of "
        f"{type(network).__name__}), and its weights are not in {find_cache() / 'teachers'} any "
        "more; search again on this machine with another --study"
    )
