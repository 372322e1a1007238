"""One candidate: sample, student, latency, distillation, result.

A candidate that cannot be built, exported or measured, diverges or runs out of memory becomes a
failed result with its reason. Any other exception is a bug and passes through.
"""

import dataclasses
import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from autokd.candidate.artefacts import export_for
from autokd.candidate.checkpoints import CheckpointFolder
from autokd.candidate.students import build_student, save_student
from autokd.candidate.training import KnownTeacher, train_student
from autokd.data import SearchData
from autokd.distillation import Engine, OnEpoch, Plan
from autokd.errors import BuildError, DivergedError, ExportError, MeasureError
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
    "Architecture",
    "Candidate",
    "Known",
    "Workshop",
    "evaluate_candidate",
    "prepare_candidate",
    "screen_candidate",
    "train_candidate",
]

_logger = logging.getLogger(__name__)

Architecture = tuple[tuple[str, Scalar], ...]
"""The architecture half of a sample, label beside value."""

Known = Mapping[tuple[str, Recipe], TrialResult]
"""Complete results by network and recipe, so that nothing is trained twice."""


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
        candidates: What has been measured in this session, by architecture.
    """

    space: Space
    data: SearchData
    teachers: Mapping[TaughtBy, KnownTeacher]
    target: Target
    plan: Plan
    max_latency_ms: float | None
    weights: Path
    checkpoints: CheckpointFolder
    others: Mapping[str, Target] = dataclasses.field(default_factory=dict[str, Target])
    engines: dict[str, Engine] = dataclasses.field(default_factory=dict[str, Engine])
    candidates: "dict[Architecture, Candidate]" = dataclasses.field(
        default_factory=dict["Architecture", "Candidate"]
    )

    def architecture_of(self, sample: Sample) -> Architecture:
        """What students are told apart by before they are built."""
        return tuple(self.space.architecture_of(sample).items())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """What is known of a student that was built and measured, but not trained.

    Attributes:
        recipe: How it is to be trained.
        network: Hash of its structure.
        latency: Of its ONNX file.
        footprint: Parameters, MACs, bytes.
        latencies: Of the same file on the other targets, by name.
    """

    recipe: Recipe
    network: str
    latency: Latency
    footprint: Footprint
    latencies: Mapping[str, Latency] = dataclasses.field(default_factory=dict[str, Latency])


def prepare_candidate(sample: Sample, workshop: Workshop) -> Candidate:
    """Builds a student, exports it as it is and measures the file; not twice by another recipe.

    Args:
        sample: Label to value.
        workshop: What the study shares; keeps what is found.

    Returns:
        All that can be known before training.
    """
    card, architecture = workshop.data.card, workshop.architecture_of(sample)
    known = workshop.candidates.get(architecture)
    if known is not None:
        return dataclasses.replace(known, recipe=workshop.space.freeze(sample)[1])
    student, recipe = build_student(workshop.space, sample, data=card, seed=workshop.plan.seed)
    with tempfile.TemporaryDirectory(prefix="autokd-") as folder:
        model = export_for(
            (workshop.target, *workshop.others.values()),
            student,
            Path(folder) / "model.onnx",
            architecture=dict(architecture),
            shape=card.shape,
        )
        candidate = Candidate(
            recipe=recipe,
            network=network_key(model),
            latency=workshop.target.measure(model),
            footprint=measure_footprint(student, shape=card.shape, model=model),
            latencies=_measure_others(model, workshop.others),
        )
    workshop.candidates[architecture] = candidate
    return candidate


def _measure_others(model: Path, targets: Mapping[str, Target]) -> dict[str, Latency]:
    """Latencies on further targets; one that cannot run the file has none of it, and says so."""
    found: dict[str, Latency] = {}
    for name, target in targets.items():
        try:
            found[name] = target.measure(model)
        except MeasureError as error:
            _logger.warning("not on the front of the target %s: %s", name, error)
    return found


def evaluate_candidate(
    sample: Sample,
    workshop: Workshop,
    *,
    trial: int,
    known: Known,
    on_measured: Callable[[Latency], None] = lambda _: None,
    on_epoch: OnEpoch = lambda _: None,
) -> TrialResult:
    """From a sample to its result; never raises for a reason that lies in the candidate.

    Args:
        sample: Label to value.
        workshop: What the study shares.
        trial: Its number.
        known: Earlier results; one of the same network and recipe is shared.
        on_measured: Called with the latency, before training.
        on_epoch: Called after each epoch; may end the training.

    Returns:
        A complete, stopped, pruned or failed result; the weights of a complete one are on disk.
    """
    result = screen_candidate(sample, workshop, trial=trial, known=known, on_measured=on_measured)
    if result.state != "measured":
        return result
    return train_candidate(result, workshop, on_epoch=on_epoch)


def screen_candidate(
    sample: Sample,
    workshop: Workshop,
    *,
    trial: int,
    known: Known,
    on_measured: Callable[[Latency], None] = lambda _: None,
) -> TrialResult:
    """All of a candidate's result that can be known before training.

    Args:
        sample: Label to value.
        workshop: What the study shares.
        trial: Its number.
        known: Earlier results; one of the same network and recipe is shared.
        on_measured: Called with the latency.

    Returns:
        `measured` where it is to be trained; `pruned`, `failed`, or `complete` where another
        trial was the same in everything.
    """
    start = time.perf_counter()

    def screen() -> TrialResult:
        candidate = prepare_candidate(sample, workshop)
        on_measured(candidate.latency)
        spent = time.perf_counter() - start
        limit, latency_ms = workshop.max_latency_ms, candidate.latency.median_ms
        is_slow = limit is not None and latency_ms > limit
        result = TrialResult(
            trial=trial,
            state="pruned" if is_slow else "measured",
            sample=sample,
            network=candidate.network,
            recipe=candidate.recipe,
            latency=candidate.latency,
            latencies=candidate.latencies,
            footprint=candidate.footprint,
            reason=f"latency {latency_ms:.4g} ms is over the limit of {limit:g} ms"
            if limit is not None and is_slow
            else "",
            overhead_s=spent,
        )
        twin = known.get((candidate.network, candidate.recipe))
        if is_slow or twin is None:
            return result
        first = twin.trial if twin.same_as is None else twin.same_as
        return dataclasses.replace(
            twin, trial=trial, sample=sample, same_as=first, training_s=0.0, overhead_s=spent
        )

    return _settle(TrialResult(trial=trial, state="failed", sample=sample), screen, start=start)


def train_candidate(
    measured: TrialResult,
    workshop: Workshop,
    *,
    on_epoch: OnEpoch = lambda _: None,
) -> TrialResult:
    """Distils a candidate that has been screened; may run in another process.

    Args:
        measured: As `screen_candidate` gave it, or as this did before it was stopped.
        workshop: What the study shares; where it has a checkpoint of the trial, that goes on.
        on_epoch: Called after each epoch; may end the training.

    Returns:
        A complete, stopped or failed result; the weights of a complete one are on disk.
    """
    start = time.perf_counter()
    name = f"trial-{measured.trial}"

    def train() -> TrialResult:
        student, recipe = build_student(
            workshop.space, measured.sample, data=workshop.data.card, seed=workshop.plan.seed
        )
        training = train_student(
            student,
            recipe,
            data=workshop.data,
            teacher=workshop.teachers[recipe.taught_by],
            plan=dataclasses.replace(workshop.plan, engine=workshop.engines.get(measured.network)),
            on_epoch=on_epoch,
            keepers=workshop.checkpoints.keepers(name),
        )
        if not training.is_stopped:
            save_student(student, workshop.weights / f"{name}.safetensors")
        spent = time.perf_counter() - start
        return dataclasses.replace(
            measured,
            state="stopped" if training.is_stopped else "complete",
            val_accuracy=training.val_accuracy,
            curve=training.curve,
            reason="",
            engine=str(training.engine),
            answers=training.answers,
            training_s=training.seconds,
            overhead_s=measured.overhead_s
            + max(0.0, spent - training.seconds + measured.training_s),
        )

    return _settle(measured, train, start=start)


def _settle(result: TrialResult, work: Callable[[], TrialResult], *, start: float) -> TrialResult:
    """What the work gives, or the reason why not, where that lies in the candidate.

    Args:
        result: What is known before.
        work: Builds, measures or trains the candidate.
        start: When it began, of `time.perf_counter`.

    Returns:
        What came of it, or the result as a failed one.

    Raises:
        RuntimeError: Torch failed for another reason than memory, which is a bug.
    """
    try:
        return work()
    except (BuildError, ExportError, MeasureError, DivergedError) as error:
        reason = str(error)
    except (MemoryError, torch.OutOfMemoryError) as error:
        reason = f"out of memory: {str(error).splitlines()[0] if str(error) else 'no detail'}"
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        reason = "out of memory: the CPU allocator could not give what was asked for"
    spent = result.overhead_s + time.perf_counter() - start
    return dataclasses.replace(result, state="failed", reason=reason, overhead_s=spent)
