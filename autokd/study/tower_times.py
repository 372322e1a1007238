"""How long both towers take, beside those of their teacher."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch

from autokd.config import TowerConfig
from autokd.distillation import DualTower
from autokd.errors import ExportError
from autokd.exporters import write_tower_files
from autokd.latency import Form, TargetOptions, open_target
from autokd.study.stillness import still
from autokd.teachers import ClipTeacher
from autokd.types import Target

__all__ = ["TowerTimes", "measure_towers", "open_tower_target"]


@final
@dataclass(frozen=True, kw_only=True)
class TowerTimes:
    """Latencies of a picture and of a text, in ms.

    Attributes:
        image_ms: Of the image tower.
        text_ms: Of the text tower.
        teacher_image_ms: Of the teacher's; none where it cannot be timed.
        teacher_text_ms: Likewise.
        fault: Why it cannot.
    """

    image_ms: float
    text_ms: float
    teacher_image_ms: float | None = None
    teacher_text_ms: float | None = None
    fault: str = ""

    def describe(self) -> list[str]:
        """Lines for whoever waits for the towers to be trained."""
        own = f"image tower {self.image_ms:.4g} ms, text tower {self.text_ms:.4g} ms"
        if self.teacher_image_ms is None or self.teacher_text_ms is None:
            return [own, f"warning: the teacher is not timed: {self.fault}"]
        before, after = self.teacher_image_ms + self.teacher_text_ms, self.image_ms + self.text_ms
        lines = [
            f"{own}, {before / after:.1f} times as fast as the teacher "
            f"({self.teacher_image_ms:.4g} and {self.teacher_text_ms:.4g} ms)"
        ]
        if after >= before:
            lines.append("warning: the towers are no faster than the teacher")
        return lines


def open_tower_target(config: TowerConfig, *, form: Form) -> Target:
    """What towers are timed on, while nobody trains there.

    Args:
        config: Its target.
        form: How long and how surely.

    Returns:
        The target.
    """
    options = TargetOptions(
        threads=config.latency_threads,
        form=form,
        timeout_s=config.latency_timeout_s,
        quiet=still,
        home=config.runs_dir / "latency",
    )
    return open_target(config.target, options)


def measure_towers(
    towers: DualTower,
    teacher: ClipTeacher,
    *,
    side: int,
    context: int,
    target: Target,
    device: torch.device,
) -> TowerTimes:
    """Times both towers and both of the teacher by turns.

    Args:
        towers: On the CPU, in evaluation mode.
        teacher: On its device, where it is afterwards too.
        side: Of the towers' pictures, in pixels.
        context: Tokens of a text.
        target: What they are timed on.
        device: The teacher's.

    Returns:
        One for each; without the teacher's where it cannot go to ONNX.
    """
    with tempfile.TemporaryDirectory(prefix="autokd-") as scratch:
        ours = write_tower_files(
            towers.image, towers.text, Path(scratch, "ours"), side=side, context=context
        )
        theirs: tuple[Path, ...] = ()
        fault = ""
        try:
            theirs = write_tower_files(
                teacher.image,
                teacher.text,
                Path(scratch, "theirs"),
                side=teacher.side,
                context=teacher.tokenise([""]).shape[1],
            )
        except ExportError as error:  # some are larger than a file of ONNX may be
            fault = str(error).replace("student", "teacher", 1)
        finally:
            teacher.to(device)
        times = [one.median_ms for one in target.measure_together([*ours, *theirs])]
    image_ms, text_ms, *of_teacher = times
    return TowerTimes(
        image_ms=image_ms,
        text_ms=text_ms,
        teacher_image_ms=of_teacher[0] if of_teacher else None,
        teacher_text_ms=of_teacher[1] if of_teacher else None,
        fault=fault,
    )
