"""One candidate: sample, student, latency, distillation, result.

A candidate that cannot be built, exported or measured, diverges or runs out of memory becomes a
failed result with its reason. Any other exception is a bug and passes through.
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from autokd.candidate.students import build_student, save_student
from autokd.candidate.training import KnownTeacher, train_student
from autokd.data import SearchData
from autokd.distillation import Engine, Plan, Student
from autokd.errors import BuildError, DivergedError, ExportError, MeasureError
from autokd.exporters import export_onnx
from autokd.latency import measure_footprint, network_key
from autokd.spaces import Space
from autokd.types import EpochLog, Footprint, Latency, Recipe, Sample, Target, TaughtBy, TrialResult

__all__ = [
    "Candidate",
    "Known",
    "Workshop",
    "evaluate_candidate",
    "prepare_candidate",
    "screen_candidate",
    "train_candidate",
]

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
        engines: The fastest way to compute a step, by network, as far as it is known.
    """

    space: Space
    data: SearchData
    teachers: Mapping[TaughtBy, KnownTeacher]
    target: Target
    plan: Plan
    max_latency_ms: float | None
    weights: Path
    engines: dict[str, Engine] = dataclasses.field(default_factory=dict[str, Engine])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A student that has been built and measured, but not trained.

    Attributes:
        student: With fresh weights.
        recipe: How it is to be trained.
        network: Hash of its structure.
        latency: Of its ONNX file.
        footprint: Parameters, MACs, bytes.
    """

    student: Student
    recipe: Recipe
    network: str
    latency: Latency
    footprint: Footprint


def prepare_candidate(sample: Sample, workshop: Workshop) -> Candidate:
    """Builds a student, exports it as it is and measures the file.

    Args:
        sample: Label to value.
        workshop: What the study shares.

    Returns:
        All that can be known before training.
    """
    card = workshop.data.card
    student, recipe = build_student(workshop.space, sample, data=card, seed=workshop.plan.seed)
    with tempfile.TemporaryDirectory(prefix="autokd-") as folder:
        model = export_onnx(student, Path(folder) / "model.onnx", shape=card.shape)
        return Candidate(
            student=student,
            recipe=recipe,
            network=network_key(model),
            latency=workshop.target.measure(model),
            footprint=measure_footprint(student, shape=card.shape, model=model),
        )


def evaluate_candidate(
    sample: Sample,
    workshop: Workshop,
    *,
    trial: int,
    known: Known,
    on_measured: Callable[[Latency], None] = lambda _: None,
    on_epoch: Callable[[EpochLog], None] = lambda _: None,
) -> TrialResult:
    """From a sample to its result; never raises for a reason that lies in the candidate.

    Args:
        sample: Label to value.
        workshop: What the study shares.
        trial: Its number.
        known: Earlier results; one of the same network and recipe is shared.
        on_measured: Called with the latency, before training.
        on_epoch: Called after each epoch.

    Returns:
        A complete, pruned or failed result; the weights of a complete one are on disk.
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
    on_epoch: Callable[[EpochLog], None] = lambda _: None,
) -> TrialResult:
    """Distils a candidate that has been screened; may run in another process.

    Args:
        measured: As `screen_candidate` gave it.
        workshop: What the study shares.
        on_epoch: Called after each epoch.

    Returns:
        A complete or failed result; the weights of a complete one are on disk.
    """
    start = time.perf_counter()

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
        )
        save_student(student, workshop.weights / f"trial-{measured.trial}.safetensors")
        spent = time.perf_counter() - start
        return dataclasses.replace(
            measured,
            state="complete",
            val_accuracy=training.val_accuracy,
            curve=training.curve,
            engine=str(training.engine),
            answers=training.answers,
            training_s=training.seconds,
            overhead_s=measured.overhead_s + spent - training.seconds,
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
