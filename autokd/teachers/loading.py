"""From what was asked for to a teacher or an assistant."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from autokd.config import Config
from autokd.errors import TeacherError
from autokd.teachers.auto_teacher import build_auto
from autokd.teachers.committee import AnyTeacher
from autokd.teachers.file_teacher import load_file_teacher
from autokd.teachers.fitting import fit_once
from autokd.teachers.heads import replace_head
from autokd.teachers.plans import (
    FitNetwork,
    TeacherPlan,
    TeachNetwork,
    Workload,
    count_macs,
    plan_finetuning,
    plan_training,
)
from autokd.teachers.preprocessing import override_preprocessing, plain_preprocessing
from autokd.teachers.probing import count_logits, gives_probabilities
from autokd.teachers.python_teacher import load_python
from autokd.teachers.requests import TeacherRequest
from autokd.teachers.teacher import Source, Teacher, digest_network
from autokd.teachers.timm_teacher import load_timm
from autokd.teachers.torchvision_teacher import load_torchvision
from autokd.types import RECIPE_PRIORS, DataCard

__all__ = ["load_alone", "load_assistant", "load_teacher"]


def load_teacher(
    request: TeacherRequest, *, config: Config, data: DataCard, fit: FitNetwork, cache: Path
) -> Teacher:
    """A teacher that the user asked for, ready to be asked.

    Args:
        request: Which.
        config: How its pictures are prepared, where it is trained and with what seed.
        data: What it shall classify.
        fit: Trains a network; called for `auto` and `--teacher-finetune` only, and once only
            for the same data, network and plan.
        cache: Trained weights lie in its folder `teachers`.

    Returns:
        A frozen network that predicts the data's classes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # of new weights; the caller's generator stays as it was
        source, origin = _load(request, data=data, config=config)
        source = _prepare(source, config=config)
        source = _finish(
            source, request, origin=origin, data=data, config=config, fit=fit, cache=cache
        )
    return Teacher(source, name=request.spec, view_shape=data.shape)


def load_assistant(
    request: TeacherRequest,
    *,
    teacher: AnyTeacher,
    n_params: int | None,
    config: Config,
    data: DataCard,
    teach: TeachNetwork,
    cache: Path,
) -> Teacher:
    """A network between a teacher and a student, taught by that teacher.

    The options that say how a teacher's pictures are prepared hold for a named assistant too; an
    `auto` one goes by the data.

    Args:
        request: Which. A file is taken as it is.
        teacher: Who teaches it: the teacher of the study, or the assistant before. On the device
            where it is asked.
        n_params: How many parameters an `auto` one should have.
        config: How its pictures are prepared, where it is trained and with what seed.
        data: What it shall classify.
        teach: Trains it; called once only for the same teacher, data, network and plan.
        cache: Trained weights lie in its folder `teachers`.

    Returns:
        A frozen network that predicts the data's classes.

    References:
        Mirzadeh, Farajtabar, Li, Levine, Matsukawa & Ghasemzadeh, "Improved Knowledge
        Distillation via Teacher Assistant", AAAI 2020. https://arxiv.org/abs/1902.03393
    """
    lesson = json.dumps(dict(RECIPE_PRIORS["textbook"]), sort_keys=True)
    fit = partial(teach, teacher=teacher)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        source, origin = _load(request, data=data, config=config, n_params=n_params)
        if request.kind != "auto":
            source = _prepare(source, config=config)
        origin = f"{origin} taught by {teacher.digest} {lesson}"
        if data.n_unlabelled:
            origin += f" on {data.unlabelled_digest} too"
        source = _finish(
            source, request, origin=origin, data=data, config=config, fit=fit, cache=cache
        )
    return Teacher(source, name=request.spec, view_shape=data.shape)


def load_alone(
    student: nn.Module, *, plan: TeacherPlan, data: DataCard, fit: FitNetwork, cache: Path
) -> Teacher:
    """A student that labels alone have taught, to be judged like a teacher.

    Args:
        student: With fresh weights; takes views in [0, 1] at the data's size.
        plan: How to train it.
        data: What it shall classify.
        fit: Trains it; called once only for the same student, data and plan.
        cache: Trained weights lie in its folder `teachers`.

    Returns:
        The student, frozen.
    """
    source = Source(network=student, preprocessing=plain_preprocessing(data.shape))
    origin = f"student {digest_network(student)}"
    fit_once(source, origin=origin, plan=plan, data=data, fit=fit, cache=cache)
    return Teacher(source, name="the student alone", view_shape=data.shape)


def _load(
    request: TeacherRequest, *, data: DataCard, config: Config, n_params: int | None = None
) -> tuple[Source, str]:
    """The source, and a line that says what it is and what its weights are."""
    kind, name = request.kind, request.name
    if kind == "auto":
        return build_auto(data, has_cuda=_has_cuda(config), n_params=n_params)
    if kind == "timm":
        source = load_timm(name, path=request.weights, is_pretrained=request.is_pretrained)
    elif kind == "torchvision":
        source = load_torchvision(name, path=request.weights, is_pretrained=request.is_pretrained)
    elif kind == "file":
        source = load_file_teacher(name, data=data, config=config)
    else:
        source = load_python(name, data=data, config=config)
    return source, f"{request.spec} {digest_network(source.network)}"


def _prepare(source: Source, *, config: Config) -> Source:
    """The source with the preprocessing that the user says."""
    own = override_preprocessing(source.preprocessing, config=config)
    return replace(source, preprocessing=own)


def _finish(
    source: Source,
    request: TeacherRequest,
    *,
    origin: str,
    data: DataCard,
    config: Config,
    fit: FitNetwork,
    cache: Path,
) -> Source:
    """Sees to it that the network predicts the data's classes, and trains it where it is asked to.

    Args:
        source: Its network is changed in place.
        request: What the user asked for.
        origin: What the network is and what its weights were.
        data: What it shall classify.
        config: Where it is trained and with what seed.
        fit: Trains.
        cache: Trained weights lie in its folder `teachers`.

    Returns:
        The source; one that was trained with the file of its weights.

    Raises:
        TeacherError: It predicts other classes and is not trained, or it ends in a softmax and is.
    """
    shape = source.preprocessing.shape
    n_logits = count_logits(source.network, shape=shape)
    has_softmax = gives_probabilities(source.network, shape=shape)
    if request.is_trained:
        if has_softmax:
            raise TeacherError(
                "`--teacher` must give logits to be trained, got probabilities from "
                f"{request.spec}; take the softmax at its end away"
            )
        if n_logits != data.n_classes:
            replace_head(source.network, n_logits=n_logits, n_classes=data.n_classes)
        plan = _plan(source, request, data=data, config=config)
        weights = fit_once(source, origin=origin, plan=plan, data=data, fit=fit, cache=cache)
        return replace(source, trained=weights)
    if n_logits != data.n_classes:
        raise TeacherError(
            f"`--teacher` predicts {n_logits} classes, the data has {data.n_classes}; "
            f"{_head_remedy(source)}"
        )
    return replace(source, gives_probabilities=has_softmax)


def _plan(
    source: Source, request: TeacherRequest, *, data: DataCard, config: Config
) -> TeacherPlan:
    """How the network is trained on the data, carefully where it has been trained before."""
    work = Workload(
        macs=count_macs(source.network, shape=source.preprocessing.shape),
        n_train=data.n_train,
        is_colour=data.shape[0] > 1,
        has_cuda=_has_cuda(config),
        seed=config.seed,
    )
    source.network.requires_grad_(requires_grad=True)  # all of it, whatever was frozen before
    return plan_finetuning(work) if request.has_knowledge else plan_training(work)


def _has_cuda(config: Config) -> bool:
    """Whether a GPU trains."""
    return config.device != "cpu" and torch.cuda.is_available()


def _head_remedy(source: Source) -> str:
    """What to do about a head that does not fit."""
    if source.form == "module":
        return "pass --teacher-finetune to fit a new head"
    return "give it a head for these classes before it is exported"
