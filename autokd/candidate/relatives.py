"""The weights that a student begins with: chosen among trained ones, kept until it is trained."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from autokd.candidate.checkpoints import CheckpointFolder
from autokd.candidate.inheritance import Relative, find_relative, inherit_weights
from autokd.candidate.students import save_student
from autokd.types import Scalar, TrialResult

__all__ = ["choose_start", "load_start"]

_logger = logging.getLogger(__name__)


def choose_start(
    student: nn.Module,
    measured: TrialResult,
    *,
    architecture: Mapping[str, Scalar],
    candidates: Sequence[Relative],
    weights: Path,
    checkpoints: CheckpointFolder,
) -> TrialResult:
    """Finds the nearest relative whose weights are there, and writes what is inherited of it.

    Args:
        student: With fresh weights; it gets what it inherits.
        measured: Its trial.
        architecture: Of the student.
        candidates: Trained ones.
        weights: Folder of students that were trained to their end.
        checkpoints: Of those that were stopped; the start of this training is put there.

    Returns:
        The result with what was found; as it was where nobody has anything to give.
    """
    left = list(candidates)
    while (relative := find_relative(architecture, left)) is not None:
        state = _load_trained(relative.trial, weights=weights, checkpoints=checkpoints)
        share = 0.0 if state is None else inherit_weights(student, state)
        if share:
            save_student(student, checkpoints.start(f"trial-{measured.trial}"))
            return dataclasses.replace(
                measured, inherited_from=relative.trial, inherited_share=share
            )
        left.remove(relative)
    return measured


def load_start(
    student: nn.Module, measured: TrialResult, *, checkpoints: CheckpointFolder
) -> TrialResult:
    """Gives a student what it is to begin with.

    Args:
        student: With fresh weights; changed in place.
        measured: Its trial, as `choose_start` gave it.
        checkpoints: Where the start was written, or what was copied of that.

    Returns:
        The result; its share is 0 where the file is gone and the training begins afresh.
    """
    if measured.inherited_from is None:
        return measured
    name = f"trial-{measured.trial}"
    state = _read(checkpoints.start(name))
    if state is not None:
        student.load_state_dict(state)
        return measured
    if checkpoints.last(name) is not None:  # it is past its start
        return measured
    _logger.warning(
        "%s begins afresh: what it had of trial %d is gone", name, measured.inherited_from
    )
    return dataclasses.replace(measured, inherited_share=0.0)


def _load_trained(
    trial: int, *, weights: Path, checkpoints: CheckpointFolder
) -> dict[str, Tensor] | None:
    """The weights of a trial, of its best epoch; none where they are not there any more."""
    state = _read(weights / f"trial-{trial}.safetensors")
    if state is not None:
        return state
    kept = checkpoints.last(f"trial-{trial}")
    return None if kept is None else kept.best_weights or kept.weights


def _read(path: Path) -> dict[str, Tensor] | None:
    try:
        return load_file(path)
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError) as error:  # of a power cut
        line = " ".join(str(error).split())
        _logger.warning("%s cannot be used: %s", path.name, line)
        return None
