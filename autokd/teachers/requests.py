"""What `--teacher` and `--assistant` ask for, checked before anything is loaded or trained."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from autokd.config import Config
from autokd.errors import TeacherError

__all__ = ["TeacherRequest", "build_assistant_requests", "build_teacher_requests"]

_Kind = Literal["auto", "timm", "torchvision", "file", "python"]
_FORMS = "auto, timm:NAME, torchvision:NAME, file:PATH or python:module:function"
_KINDS: tuple[_Kind, ...] = get_args(_Kind)


@dataclass(frozen=True, kw_only=True)
class TeacherRequest:
    """One network that the user asked for.

    Attributes:
        spec: As typed.
        kind: Where it comes from.
        name: What comes after the kind; empty for `auto`.
        weights: A file of its own weights, for timm and torchvision.
        is_pretrained: Whether its weights are fetched, for timm and torchvision.
        is_trained: Whether it is trained on the data before it teaches.
    """

    spec: str
    kind: _Kind
    name: str
    weights: Path | None = None
    is_pretrained: bool = False
    is_trained: bool = False

    @property
    def has_knowledge(self) -> bool:
        """Whether it knows something before it is trained on the data."""
        is_filled = self.weights is not None or self.is_pretrained
        return is_filled or self.kind in ("file", "python")


def build_teacher_requests(config: Config) -> tuple[TeacherRequest, ...]:
    """The teachers that the user asked for, each with the options that are about it.

    `--teacher-pretrained` and `--teacher-finetune` go to each teacher that they can be applied
    to, of which there must be one. Files of weights go to the teachers of timm and torchvision in
    their order: one for each, or none at all.

    Args:
        config: Its `teacher` and the options beside it.

    Returns:
        One request per teacher, in the order of the user.

    Raises:
        TeacherError: A teacher cannot be had, or the options do not go together.
    """
    parts = [_split(spec, option="--teacher") for spec in config.teacher]
    files = _deal_weights(config, kinds=[kind for kind, _ in parts])
    is_tuned = config.teacher_finetune
    if is_tuned and all(kind == "file" for kind, _ in parts):
        raise TeacherError(
            "`--teacher-finetune` must have modules to train, got the fixed network of "
            f"{config.teacher[0]}; build it in Python and pass --teacher python:module:function"
        )
    requests = tuple(
        TeacherRequest(
            spec=spec,
            kind=kind,
            name=name,
            weights=weights,
            is_pretrained=config.teacher_pretrained and _is_of_zoo(kind),
            is_trained=kind == "auto" or (is_tuned and kind != "file"),
        )
        for spec, (kind, name), weights in zip(config.teacher, parts, files, strict=True)
    )
    for request in requests:
        if not (request.has_knowledge or request.is_trained):
            raise TeacherError(
                f"`--teacher` must be trained, got {request.spec} without weights: an untrained "
                "teacher teaches nothing; pass --teacher-weights, --teacher-pretrained or "
                "--teacher-finetune"
            )
    _check_distinct(requests)
    return requests


def build_assistant_requests(config: Config) -> tuple[TeacherRequest, ...]:
    """The assistants that the user asked for, the one next to the teacher first.

    All but files are trained by the one before them, from random weights unless
    `--teacher-pretrained` fetches some or the user's Python brings its own.

    Args:
        config: Its `assistant`.

    Returns:
        One request per assistant; nothing where there shall be none.
    """
    parts = [(spec, *_split(spec, option="--assistant")) for spec in config.assistant]
    return tuple(
        TeacherRequest(
            spec=spec,
            kind=kind,
            name=name,
            is_pretrained=config.teacher_pretrained and _is_of_zoo(kind),
            is_trained=kind != "file",
        )
        for spec, kind, name in parts
    )


def _is_of_zoo(kind: _Kind) -> bool:
    """Whether a library has the network, and weights for it."""
    return kind in ("timm", "torchvision")


def _split(spec: str, *, option: str) -> tuple[_Kind, str]:
    """The kind of teacher and its name."""
    kind, _, name = spec.partition(":")
    if kind not in _KINDS or bool(name) == (kind == "auto"):
        near = difflib.get_close_matches(kind, _KINDS, n=1)
        hint = f"; did you mean {near[0]}?" if near and near[0] != kind else ""
        raise TeacherError(f"`{option}` must be {_FORMS}, got {spec!r}{hint}")
    return kind, name


def _deal_weights(config: Config, *, kinds: Sequence[_Kind]) -> tuple[Path | None, ...]:
    """The file of each teacher, in their order."""
    files, n_zoo = list(config.teacher_weights), sum(map(_is_of_zoo, kinds))
    helpers = (spec.partition(":")[0] for spec in config.assistant)
    can_fetch = n_zoo or any(kind in ("timm", "torchvision") for kind in helpers)
    if (files and not n_zoo) or (config.teacher_pretrained and not can_fetch):
        option = "--teacher-weights" if files and not n_zoo else "--teacher-pretrained"
        raise TeacherError(
            f"`{option}` must go with timm:NAME or torchvision:NAME, "
            f"got {' and '.join(config.teacher)}"
        )
    if files and len(files) != n_zoo:
        raise TeacherError(
            "`--teacher-weights` must be given once for each timm: and torchvision: teacher, in "
            f"their order, got {len(files)} for {n_zoo}; build a teacher that has its own weights "
            "with --teacher python:module:function"
        )
    left = iter(files)
    return tuple(next(left, None) if _is_of_zoo(kind) else None for kind in kinds)


def _check_distinct(requests: Sequence[TeacherRequest]) -> None:
    """A teacher that is asked twice is no second opinion."""
    for place, request in enumerate(requests):
        if request in requests[:place]:
            raise TeacherError(
                f"`--teacher` must name each teacher once, got {request.spec} with the same "
                "weights twice; leave one out"
            )
