"""From `--teacher` to a teacher."""

import difflib
from dataclasses import replace
from pathlib import Path

import torch

from autokd.config import Config
from autokd.errors import TeacherError
from autokd.teachers.auto_teacher import build_auto
from autokd.teachers.file_teacher import load_file_teacher
from autokd.teachers.fitting import fit_once
from autokd.teachers.heads import replace_head
from autokd.teachers.plans import (
    FitNetwork,
    Workload,
    count_macs,
    plan_finetuning,
    plan_training,
)
from autokd.teachers.preprocessing import override_preprocessing
from autokd.teachers.probing import count_logits
from autokd.teachers.python_teacher import load_python
from autokd.teachers.teacher import Source, Teacher, digest_weights
from autokd.teachers.timm_teacher import load_timm
from autokd.teachers.torchvision_teacher import load_torchvision
from autokd.types import DataCard

__all__ = ["load_teacher"]

_FORMS = "auto, timm:NAME, torchvision:NAME, file:PATH or python:module:function"
_KINDS = ("auto", "timm", "torchvision", "file", "python")
_ZOOS = ("timm", "torchvision")


def load_teacher(config: Config, *, data: DataCard, fit: FitNetwork, cache: Path) -> Teacher:
    """The teacher that the user asked for, ready to be asked.

    Args:
        config: Its `teacher` says which, its other `teacher_` options how.
        data: What it shall classify.
        fit: Trains a network; called for `auto` and `--teacher-finetune` only, and once only
            for the same data, network and plan.
        cache: Trained weights lie in its folder `teachers`.

    Returns:
        A frozen network that predicts the data's classes.

    Raises:
        TeacherError: There is no such teacher, it cannot be read, or it does not fit the data.
    """
    kind, name = _split(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # of new weights; the caller's generator stays as it was
        source, origin = _load(kind, name=name, data=data, config=config)
        own = override_preprocessing(source.preprocessing, config=config)
        source = replace(source, preprocessing=own)
        n_logits = count_logits(source.network, shape=own.shape)
        if kind == "auto" or config.teacher_finetune:
            if n_logits != data.n_classes:
                replace_head(source.network, n_logits=n_logits, n_classes=data.n_classes)
            _fit(source, origin=origin, data=data, config=config, fit=fit, cache=cache)
        elif n_logits != data.n_classes:
            raise TeacherError(
                f"`--teacher` predicts {n_logits} classes, the data has {data.n_classes}; "
                f"{_head_remedy(source)}"
            )
    return Teacher(source, name=config.teacher, view_shape=data.shape)


def _split(config: Config) -> tuple[str, str]:
    """The kind of teacher and its name, once the options go together."""
    kind, _, name = config.teacher.partition(":")
    if kind not in _KINDS or bool(name) == (kind == "auto"):
        near = difflib.get_close_matches(kind, _KINDS, n=1)
        hint = f"; did you mean {near[0]}?" if near and near[0] != kind else ""
        raise TeacherError(f"`--teacher` must be {_FORMS}, got {config.teacher!r}{hint}")
    has_weights = config.teacher_weights is not None or config.teacher_pretrained
    if kind in _ZOOS and not (has_weights or config.teacher_finetune):
        raise TeacherError(
            f"`--teacher` must be trained, got {config.teacher} without weights: an untrained "
            "teacher teaches nothing; pass --teacher-weights, --teacher-pretrained or "
            "--teacher-finetune"
        )
    if kind not in _ZOOS and has_weights:
        option = "--teacher-pretrained" if config.teacher_pretrained else "--teacher-weights"
        raise TeacherError(
            f"`{option}` must go with timm:NAME or torchvision:NAME, got {config.teacher}"
        )
    if kind == "file" and config.teacher_finetune:
        raise TeacherError(
            "`--teacher-finetune` must have modules to train, got the fixed network of "
            f"{config.teacher}; build it in Python and pass --teacher python:module:function"
        )
    return kind, name


def _load(kind: str, *, name: str, data: DataCard, config: Config) -> tuple[Source, str]:
    """The source, and a line that says what it is and what its weights are."""
    if kind == "auto":
        return build_auto(data, has_cuda=_has_cuda(config))
    if kind == "timm":
        source = load_timm(name, config=config)
    elif kind == "torchvision":
        source = load_torchvision(name, config=config)
    elif kind == "file":
        source = load_file_teacher(name, data=data, config=config)
    else:
        source = load_python(name, data=data, config=config)
    return source, f"{config.teacher} {digest_weights(source.network)}"


def _fit(
    source: Source, *, origin: str, data: DataCard, config: Config, fit: FitNetwork, cache: Path
) -> None:
    """Trains the network on the data, carefully where it has been trained before."""
    work = Workload(
        macs=count_macs(source.network, shape=source.preprocessing.shape),
        n_train=data.n_train,
        is_colour=data.shape[0] > 1,
        has_cuda=_has_cuda(config),
        seed=config.seed,
    )
    has_weights = config.teacher_weights is not None or config.teacher_pretrained
    source.network.requires_grad_(requires_grad=True)  # all of it, whatever was frozen before
    is_trained = has_weights or config.teacher.startswith("python:")
    plan = plan_finetuning(work) if is_trained else plan_training(work)
    fit_once(source, origin=origin, plan=plan, data=data, fit=fit, cache=cache)


def _has_cuda(config: Config) -> bool:
    """Whether a GPU trains."""
    return config.device != "cpu" and torch.cuda.is_available()


def _head_remedy(source: Source) -> str:
    """What to do about a head that does not fit."""
    if source.form == "module":
        return "pass --teacher-finetune to fit a new head"
    return "give it a head for these classes before it is exported"
