"""The files of a student that a target times."""

import json
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from autokd.exporters import check_onnx, export_onnx, export_program
from autokd.latency import ARCHITECTURE_SUFFIX
from autokd.types import InputShape, Scalar, Target

__all__ = ["export_for", "export_program_for"]


def export_for(
    target: Target,
    student: nn.Module,
    model: Path,
    *,
    architecture: Mapping[str, Scalar],
    shape: InputShape,
) -> Path:
    """Writes a student as ONNX, and beside it what else a target may look at.

    Args:
        target: Will time it.
        student: As it would be deployed.
        model: The ONNX file to write.
        architecture: Label to value, for a table of latencies.
        shape: Channels, height, width.

    Returns:
        The ONNX file; it was run, and does what the student does.
    """
    export_onnx(student, model, shape=shape)
    check_onnx(student, model, shape=shape)
    labels = json.dumps(dict(architecture))
    model.with_suffix(ARCHITECTURE_SUFFIX).write_text(labels, encoding="utf-8")
    export_program_for(target, student, model, shape=shape)
    return model


def export_program_for(
    target: Target, student: nn.Module, model: Path, *, shape: InputShape
) -> None:
    """Writes a student's program beside its ONNX file, where a target runs that.

    Args:
        target: Will time it.
        student: As it would be deployed; one that torch.export cannot take is an `ExportError`.
        model: The ONNX file.
        shape: Channels, height, width.
    """
    program = model.with_suffix(".pt2")
    if target.needs_program and not program.exists():
        export_program(student, program, shape=shape)
