"""One candidate: sample, student, latency, distillation, result.

A candidate that cannot be built, exported or measured, diverges or runs out of memory becomes a
failed result with its reason. Any other exception is a bug and passes through.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping

from torch import nn

from autokd.candidate.inheritance import Relative
from autokd.candidate.memory import explain_memory
from autokd.candidate.precision import INT8_SUFFIX, quantize_student
from autokd.candidate.preparation import (
    Candidate,
    Workshop,
    explain_int8,
    explain_slowness,
    measure_again,
    prepare_candidate,
)
from autokd.candidate.relatives import choose_start, load_start
from autokd.candidate.students import build_student, save_student, trains_alike
from autokd.candidate.training import train_student
from autokd.distillation import OnEpoch
from autokd.errors import BuildError, DivergedError, ExportError, MeasureError
from autokd.types import EpochLog, Recipe, Sample, TrialResult

__all__ = [
    "Known",
    "evaluate_candidate",
    "explain_failure",
    "inherit_candidate",
    "recall_candidate",
    "screen_candidate",
    "settle_latency",
    "train_candidate",
]

_FAILURES = (BuildError, ExportError, MeasureError, DivergedError)

Known = Mapping[tuple[str, Recipe], TrialResult]
"""Complete results by network, as exported, and recipe, so that nothing is trained twice."""


def evaluate_candidate(
    sample: Sample,
    workshop: Workshop,
    *,
    trial: int,
    known: Known,
    on_epoch: OnEpoch = lambda _: None,
) -> TrialResult:
    """From a sample to its result; never raises for a reason that lies in the candidate.

    Args:
        sample: Label to value.
        workshop: What the study shares.
        trial: Its number.
        known: Earlier results; one of the same network and recipe is shared.
        on_epoch: Called after each epoch; may end the training.

    Returns:
        A complete, stopped, pruned or failed result; the weights of a complete one are on disk.
    """
    result = screen_candidate(sample, workshop, trial=trial, known=known)
    if result.state != "measured":
        return result
    return settle_latency(train_candidate(result, workshop, on_epoch=on_epoch), workshop)


def screen_candidate(
    sample: Sample, workshop: Workshop, *, trial: int, known: Known
) -> TrialResult:
    """All of a candidate's result that can be known before training.

    Args:
        sample: Label to value.
        workshop: What the study shares.
        trial: Its number.
        known: Earlier results; one of the same network and recipe is shared.

    Returns:
        `measured` where it is to be trained; `pruned`, `failed`, or `complete` where another
        trial was the same in everything.
    """
    start = time.perf_counter()

    def screen() -> TrialResult:
        candidate = prepare_candidate(sample, workshop)
        spent = time.perf_counter() - start
        reason = _explain(candidate, max_latency_ms=workshop.max_latency_ms)
        result = TrialResult(
            trial=trial,
            state="pruned" if reason else "measured",
            sample=sample,
            network=candidate.network,
            recipe=candidate.recipe,
            latency=candidate.latency,
            fp32_latency=candidate.fp32_latency,
            latencies=candidate.latencies,
            fp32_latencies=candidate.fp32_latencies,
            footprint=candidate.footprint,
            reason=reason,
            overhead_s=spent,
        )
        twin = known.get((candidate.network, candidate.recipe))
        if reason or twin is None or not _train_alike(sample, twin.sample, workshop):
            return result
        first = twin.trial if twin.same_as is None else twin.same_as
        return dataclasses.replace(
            twin, trial=trial, sample=sample, same_as=first, training_s=0.0, overhead_s=spent
        )

    return _settle(TrialResult(trial=trial, state="failed", sample=sample), screen, start=start)


def _train_alike(first: Sample, second: Sample, workshop: Workshop) -> bool:
    """Whether what two samples freeze to differs in nothing that the exported file leaves out."""
    space, card, seed = workshop.space, workshop.data.card, workshop.plan.seed
    if space.architecture_of(first) == space.architecture_of(second):
        return True
    one, other = (build_student(space, s, data=card, seed=seed)[0] for s in (first, second))
    return trains_alike(one, other)


def inherit_candidate(
    measured: TrialResult, workshop: Workshop, *, results: Iterable[TrialResult]
) -> TrialResult:
    """Decides which trained student of the study a candidate begins with.

    What it begins with is written beside its checkpoints, so that it goes where they go and a
    training that is cut off begins with the same.

    Args:
        measured: As `screen_candidate` gave it.
        workshop: What the study shares.
        results: Of trials that were trained, to their end or to a rung.

    Returns:
        The result, saying from whom and how much; as it was where there is no relative.
    """
    start = time.perf_counter()
    candidates = [
        Relative(
            trial=one.trial,
            architecture=workshop.space.architecture_of(one.sample),
            accuracy=one.val_accuracy,
        )
        for one in results
        if one.state in ("complete", "stopped") and one.same_as is None and one.val_accuracy
    ]
    if not candidates:
        return measured
    student, _ = build_student(
        workshop.space, measured.sample, data=workshop.data.card, seed=workshop.plan.seed
    )
    chosen = choose_start(
        student,
        measured,
        architecture=workshop.space.architecture_of(measured.sample),
        candidates=candidates,
        weights=workshop.weights,
        checkpoints=workshop.checkpoints,
    )
    spent = time.perf_counter() - start
    return dataclasses.replace(chosen, overhead_s=chosen.overhead_s + spent)


def _explain(candidate: Candidate, *, max_latency_ms: float | None) -> str:
    """Why a candidate is not worth a training; empty where it is."""
    slow = explain_slowness(candidate.latency, max_latency_ms=max_latency_ms)
    return slow or explain_int8(candidate.latency, candidate.fp32_latency)


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
        A complete, stopped or failed result; the weights of a complete one are on disk, and beside
        them the file in INT8 if it is deployed so, whose accuracy is then the result's.
    """
    start = time.perf_counter()
    name = f"trial-{measured.trial}"

    def train() -> TrialResult:
        student, recipe = build_student(
            workshop.space, measured.sample, data=workshop.data.card, seed=workshop.plan.seed
        )
        begun = load_start(student, measured, checkpoints=workshop.checkpoints)
        training = train_student(
            student,
            recipe,
            data=workshop.data,
            teacher=workshop.teachers[recipe.taught_by],
            plan=dataclasses.replace(workshop.plan, engine=workshop.engines.get(measured.network)),
            on_epoch=on_epoch,
            keepers=workshop.checkpoints.keepers(name),
        )
        accuracy, float_layers = training.val_accuracy, measured.float_layers
        is_int8 = recipe.precision == "int8"
        if not training.is_stopped:
            save_student(student, workshop.weights / f"{name}.safetensors")
            if is_int8:
                accuracy, float_layers = _quantize(student, name, workshop=workshop)
        spent = time.perf_counter() - start
        return dataclasses.replace(
            begun,
            state="stopped" if training.is_stopped else "complete",
            val_accuracy=accuracy,
            fp32_val_accuracy=training.val_accuracy if is_int8 else None,
            float_layers=float_layers,
            curve=training.curve,
            reason="",
            engine=str(training.engine),
            answers=training.answers,
            training_s=training.seconds,
            overhead_s=measured.overhead_s
            + max(0.0, spent - training.seconds + measured.training_s),
        )

    return _settle(measured, train, start=start)


def recall_candidate(measured: TrialResult, workshop: Workshop) -> TrialResult | None:
    """What a training had come to at its last checkpoint, whoever was told of it.

    Args:
        measured: As `train_candidate` was given it.
        workshop: Where the checkpoints are.

    Returns:
        As of a training that was stopped there; none where there is no checkpoint.
    """
    kept = workshop.checkpoints.generations(f"trial-{measured.trial}")
    if not kept:
        return None
    curve: list[EpochLog] = []
    for one in kept:
        n_before = len(curve)
        curve += [dataclasses.replace(row, epoch=row.epoch + n_before) for row in one.curve]
    accuracy = max(row.val_accuracy for row in kept[-1].curve)
    return dataclasses.replace(
        measured,
        state="stopped",
        val_accuracy=accuracy,
        fp32_val_accuracy=accuracy if measured.precision == "int8" else None,
        curve=tuple(curve),
        reason="",
        engine=kept[-1].engine,
        training_s=sum(one.seconds for one in kept),
    )


def _quantize(
    student: nn.Module, name: str, *, workshop: Workshop
) -> tuple[float, tuple[str, ...]]:
    """The accuracy of a student's INT8 file, and the layers that had to stay in float in it."""
    file = workshop.weights / f"{name}{INT8_SUFFIX}"
    quantized = quantize_student(
        student,
        file,
        data=workshop.data,
        seed=workshop.plan.seed,
        weight_bits=workshop.weight_bits,
    )
    return quantized.val_accuracy, quantized.float_layers


def settle_latency(result: TrialResult, workshop: Workshop) -> TrialResult:
    """The result of a training, with the latency of what came of it.

    Where layers of an INT8 student had to stay in float, it is not as fast as it was before
    training. Called where latencies are measured, which is not always where students train.

    Args:
        result: As `train_candidate` gave it.
        workshop: What the study shares.

    Returns:
        The result; pruned where it is no faster than in FP32, or over the limit.
    """
    if result.state != "complete" or not result.float_layers:
        return result

    def measure() -> TrialResult:
        again = measure_again(result, workshop)
        reason = explain_slowness(again.latency, max_latency_ms=workshop.max_latency_ms)
        if again.state != "complete" or not reason:
            return again
        return dataclasses.replace(again, state="pruned", reason=reason)

    return _settle(result, measure, start=time.perf_counter())


def explain_failure(error: Exception) -> str:
    """Why nothing came of a student, where that lies in the student.

    Args:
        error: What was raised while it was built, measured, trained or exported.

    Returns:
        The reason; empty where the error is another one, which is a bug or the machine's.
    """
    if isinstance(error, _FAILURES):
        return str(error)
    return explain_memory(error)


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
        MemoryError: Never; it becomes a failed result.
    """
    try:
        return work()
    except (*_FAILURES, MemoryError, RuntimeError) as error:
        if not (reason := explain_failure(error)):
            raise
    spent = result.overhead_s + time.perf_counter() - start
    return dataclasses.replace(result, state="failed", reason=reason, overhead_s=spent)
