"""What can be known of a candidate before it is trained: built, exported, quantized, timed."""

import dataclasses
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from autokd.candidate.artefacts import export_for, export_program_for
from autokd.candidate.checkpoints import CheckpointFolder
from autokd.candidate.objectives import KnownTeacher
from autokd.candidate.precision import choose_calibration
from autokd.candidate.students import build_student
from autokd.data import SearchData
from autokd.distillation import Engine, Plan
from autokd.errors import ExportError, MeasureError, TargetError
from autokd.exporters import export_onnx, quantize_onnx
from autokd.latency import measure_footprint, network_key
from autokd.spaces import Space
from autokd.types import (
    Footprint,
    Latency,
    Recipe,
    Sample,
    Scalar,
    Target,
    TaughtBy,
    TrialResult,
)

__all__ = [
    "Candidate",
    "NetworkSample",
    "Workshop",
    "explain_int8",
    "explain_slowness",
    "measure_again",
    "prepare_candidate",
]

NetworkSample = tuple[tuple[str, Scalar], ...]
"""Architecture and precision of a sample, label beside value."""

_logger = logging.getLogger(__name__)

_FEW = 32  # pictures to calibrate with where only the time matters


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workshop:
    """What all candidates of a study share.

    Attributes:
        space: Where samples come from.
        data: Training and validation pictures; no test split.
        teachers: Who can teach, on the device of the plan, by `Recipe.taught_by`.
        target: What the latency is measured on.
        plan: Epochs, batch, seed and device of a trial.
        max_latency_ms: A slower candidate is not trained.
        weights: Folder that the students' weights are kept in.
        checkpoints: Where trainings are kept, so that they go on if they are cut off.
        others: What it is measured on besides, by name.
        engines: The fastest way to compute a step, by network, as far as it is known.
        candidates: What has been measured in this session, by architecture and precision.
        weight_bits: Of INT8 files, as the processor wants it that they are deployed to; this one
            if none.
    """

    space: Space
    data: SearchData
    teachers: Mapping[TaughtBy, KnownTeacher]
    target: Target
    plan: Plan
    max_latency_ms: float | None
    weights: Path
    checkpoints: CheckpointFolder
    others: dict[str, Target] = dataclasses.field(default_factory=dict[str, Target])
    engines: dict[str, Engine] = dataclasses.field(default_factory=dict[str, Engine])
    candidates: "dict[NetworkSample, Candidate]" = dataclasses.field(
        default_factory=dict["NetworkSample", "Candidate"]
    )
    weight_bits: int | None = None

    def network_of(self, sample: Sample) -> NetworkSample:
        """What students are told apart by before they are built."""
        return tuple(self.space.network_of(sample).items())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """What is known of a student that was built and measured, but not trained.

    Attributes:
        recipe: How it is to be trained and deployed.
        network: Hash of its structure, whatever its precision.
        latency: Of its ONNX file, in its precision.
        fp32_latency: Of its FP32 self, timed by turns with it; none of an FP32 candidate.
        footprint: Parameters, MACs, bytes.
        latencies: Of the same file on the other targets, by name.
        fp32_latencies: Of its FP32 self there, timed by turns with it; none of an FP32 candidate.
    """

    recipe: Recipe
    network: str
    latency: Latency
    fp32_latency: Latency | None = None
    footprint: Footprint
    latencies: Mapping[str, Latency] = dataclasses.field(default_factory=dict[str, Latency])
    fp32_latencies: Mapping[str, Latency] = dataclasses.field(default_factory=dict[str, Latency])


def prepare_candidate(sample: Sample, workshop: Workshop) -> Candidate:
    """Builds a student, exports it as it is and measures the file; not twice by another recipe.

    One in INT8 is quantized with the weights that it has, which do not matter for its time, and
    timed by turns with its FP32 self.

    Args:
        sample: Label to value.
        workshop: What the study shares; keeps what is found.

    Returns:
        All that can be known before training.
    """
    card, key = workshop.data.card, workshop.network_of(sample)
    known = workshop.candidates.get(key)
    if known is not None:
        return dataclasses.replace(known, recipe=workshop.space.freeze(sample)[1])
    student, recipe = build_student(workshop.space, sample, data=card, seed=workshop.plan.seed)
    with tempfile.TemporaryDirectory(prefix="autokd-") as folder:
        model = export_for(
            workshop.target,
            student,
            Path(folder) / "model.onnx",
            architecture=workshop.space.architecture_of(sample),
            shape=card.shape,
        )
        footprint = measure_footprint(student, shape=card.shape, model=model)
        if recipe.precision == "int8":
            candidate = _prepare_int8(recipe, model, footprint=footprint, workshop=workshop)
        else:
            candidate = Candidate(
                recipe=recipe,
                network=network_key(model),
                latency=workshop.target.measure(model),
                footprint=footprint,
                latencies=_measure_others([model], workshop, student=student)[0],
            )
    workshop.candidates[key] = candidate
    return candidate


def _prepare_int8(
    recipe: Recipe, model: Path, *, footprint: Footprint, workshop: Workshop
) -> Candidate:
    """A candidate in INT8 out of the file of its FP32 self."""
    file = _quantize(model, workshop=workshop)
    fp32_latency, latency = workshop.target.measure_together([model, file])
    latencies, fp32_latencies = _measure_others([file, model], workshop)
    return Candidate(
        recipe=recipe,
        network=network_key(model),
        latency=latency,
        fp32_latency=fp32_latency,
        footprint=dataclasses.replace(footprint, size_bytes=file.stat().st_size),
        latencies=latencies,
        fp32_latencies=fp32_latencies,
    )


def _measure_others(
    models: Sequence[Path], workshop: Workshop, *, student: nn.Module | None = None
) -> tuple[dict[str, Latency], dict[str, Latency]]:
    """Latencies on further targets; one that cannot run a student has none of it, and says so.

    One that has failed again and again is not asked any more: each time would cost its whole
    patience, and the trainings stand still meanwhile.

    Args:
        models: What would be deployed; of an INT8 student its FP32 self after it.
        workshop: Knows the targets by name.
        student: In FP32, for targets that run its program.

    Returns:
        Those of what would be deployed, and those of the FP32 self of an INT8 student.
    """
    found: dict[str, Latency] = {}
    own: dict[str, Latency] = {}
    for name, target in list(workshop.others.items()):
        if target.needs_program and student is None:
            _logger.warning("not on the front of the target %s: it runs no INT8 file", name)
            continue
        try:
            if student is not None:
                shape = workshop.data.card.shape
                export_program_for(target, student, models[0], shape=shape)
            latencies = target.measure_together(models)
        except (ExportError, MeasureError) as error:
            _logger.warning("not on the front of the target %s: %s", name, error)
            continue
        except TargetError as error:
            _logger.warning("no more for the front of the target %s: %s", name, error)
            del workshop.others[name]
            continue
        found[name] = latencies[0]
        if len(latencies) > 1:
            own[name] = latencies[1]
    return found, own


def _quantize(model: Path, *, workshop: Workshop, float_layers: tuple[str, ...] = ()) -> Path:
    """The same network in INT8, beside the file; good for its time alone."""
    pictures = choose_calibration(workshop.data, n=_FEW, seed=workshop.plan.seed)
    file = model.with_suffix(".int8.onnx")
    return quantize_onnx(
        model,
        file,
        pictures=pictures,
        float_layers=float_layers,
        weight_bits=workshop.weight_bits,
    )


def measure_again(result: TrialResult, workshop: Workshop) -> TrialResult:
    """An INT8 result with the time of its file, if layers had to be left in FP32 in it.

    Args:
        result: A complete one.
        workshop: What the study shares.

    Returns:
        The result; `pruned`, with the reason, where it is no faster than its FP32 self any more.
    """
    if result.state != "complete" or not result.float_layers:
        return result
    card = workshop.data.card
    student, _ = build_student(workshop.space, result.sample, data=card, seed=workshop.plan.seed)
    with tempfile.TemporaryDirectory(prefix="autokd-") as folder:
        model = export_onnx(student, Path(folder) / "model.onnx", shape=card.shape)
        file = _quantize(model, workshop=workshop, float_layers=result.float_layers)
        fp32_latency, latency = workshop.target.measure_together([model, file])
        latencies, fp32_latencies = _measure_others([file, model], workshop)
        size_bytes = file.stat().st_size
    footprint = result.footprint
    if footprint is not None:
        footprint = dataclasses.replace(footprint, size_bytes=size_bytes)
    reason = explain_int8(latency, fp32_latency)
    return dataclasses.replace(
        result,
        state="pruned" if reason else "complete",
        latency=latency,
        fp32_latency=fp32_latency,
        latencies=latencies,
        fp32_latencies=fp32_latencies,
        footprint=footprint,
        reason=f"{reason}, with {len(result.float_layers)} layers left in float" if reason else "",
    )


def explain_int8(latency: Latency | None, fp32_latency: Latency | None) -> str:
    """Why a student is not offered in INT8.

    Args:
        latency: Of its file.
        fp32_latency: Of its FP32 self; none where it is FP32.

    Returns:
        The reason with both times; empty where it is offered.
    """
    if latency is None or fp32_latency is None or latency.median_ms < fp32_latency.median_ms:
        return ""
    return (
        f"INT8 takes {latency.median_ms:.4g} ms, no less than FP32 with "
        f"{fp32_latency.median_ms:.4g} ms"
    )


def explain_slowness(latency: Latency | None, *, max_latency_ms: float | None) -> str:
    """Why a student is not trained, or not trained on.

    Args:
        latency: Of its file; none where it is not known.
        max_latency_ms: Of this session; none if none.

    Returns:
        The reason with both times; empty where it is fast enough.
    """
    if latency is None or max_latency_ms is None or latency.median_ms <= max_latency_ms:
        return ""
    return f"latency {latency.median_ms:.4g} ms is over the limit of {max_latency_ms:g} ms"
