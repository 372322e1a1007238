"""The files of a student that a target times."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from autokd.exporters import export_onnx, export_program
from autokd.latency import ARCHITECTURE_SUFFIX
from autokd.types import InputShape, Scalar, Target

__all__ = ["export_for"]


def export_for(
    targets: Sequence[Target],
    student: nn.Module,
    model: Path,
    *,
    architecture: Mapping[str, Scalar],
    shape: InputShape,
) -> Path:
    """Writes a student as ONNX, and beside it what else a target may look at.

    Args:
        targets: Will time it.
        student: As it would be deployed.
        model: The ONNX file to write.
        architecture: Label to value, for a table of latencies.
        shape: Channels, height, width.

    Returns:
        The ONNX file.
    """
    export_onnx(student, model, shape=shape)
    labels = json.dumps(dict(architecture))
    model.with_suffix(ARCHITECTURE_SUFFIX).write_text(labels, encoding="utf-8")
    if any(target.needs_program for target in targets):
        export_program(student, model.with_suffix(".pt2"), shape=shape)
    return model
