"""A training as a value, and what it takes to carry it out, on this machine or another."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from autokd.candidate import (
    Workshop,
    explain_failure,
    find_engine,
    recall_candidate,
    train_candidate,
)
from autokd.data import TestData
from autokd.distillation import OnEpoch
from autokd.study.refits import Entry, Refit, find_int8, train_refit
from autokd.types import TrialResult

__all__ = ["INT8", "WEIGHTS", "Bench", "Order", "Outcome", "carry_out"]

WEIGHTS, INT8 = "weights", "int8"
"""What the files of a trained student are called on their way between machines."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """A training that is wanted: of a trial, or of the finals; or only how it is computed.

    Attributes:
        result: Of its trial, as far as it is known.
        refit: Which training of the finals; none where the trial itself is to be trained.
        is_probe: Whether nothing is trained, but the fastest engine of the student is found.
    """

    result: TrialResult
    refit: Entry | None = None
    is_probe: bool = False

    @property
    def name(self) -> str:
        """Of its checkpoints, as `candidate.CheckpointFolder` has them."""
        if self.is_probe:
            return f"engine-{self.result.trial}"
        return f"trial-{self.result.trial}" if self.refit is None else self.refit.training


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of an order.

    Attributes:
        result: Of the trial; none of a training of the finals.
        refit: What came of a training of the finals, none where it was ended before or failed.
        fault: Why a training of the finals failed, where that lies in the student.
        engine: What a probe has found.
        seconds: Of this training.
    """

    result: TrialResult | None = None
    refit: Refit | None = None
    fault: str = ""
    engine: str = ""
    seconds: float = 0.0

    @property
    def is_final(self) -> bool:
        """Whether there is nothing left to train."""
        is_over = self.result is not None and self.result.state != "stopped"
        return is_over or self.refit is not None or bool(self.fault or self.engine)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """Where orders of a study are carried out.

    Attributes:
        workshop: What all candidates share; trials' weights go into its folder.
        refits: Folder of the weights of the finals.
        test: Gives the test split, which only trainings of the finals ask for.
    """

    workshop: Workshop
    refits: Path
    test: Callable[[], TestData]

    def weights_of(self, order: Order) -> Path:
        """The file that the trained student of an order is written to."""
        if order.refit is not None:
            return self.refits / f"{order.refit.name}.safetensors"
        return self.workshop.weights / f"trial-{order.result.trial}.safetensors"

    def files_of(self, order: Order) -> dict[str, Path]:
        """Where the trained student of an order lies: its weights, and its file in INT8 if any.

        Args:
            order: Carried out or not.

        Returns:
            Paths by `WEIGHTS` and `INT8`; none where nothing is trained.
        """
        if order.is_probe:
            return {}
        weights = self.weights_of(order)
        return {WEIGHTS: weights, INT8: find_int8(weights)}


def carry_out(order: Order, bench: Bench, on_epoch: OnEpoch) -> Outcome:
    """Trains; where the bench has a checkpoint of the training, that goes on.

    Of a trial whose process died, the last epoch may not have been told of, or its answer not
    have been heard: it is told again before anything is trained.

    Args:
        order: What.
        bench: Where.
        on_epoch: Called after each epoch; may end the training.

    Returns:
        What came of it; the weights of what is final and went well are on disk.
    """
    if order.refit is None and not order.is_probe:
        result = _ask_again(order.result, bench.workshop, on_epoch)
        if result is None:
            result = train_candidate(order.result, bench.workshop, on_epoch=on_epoch)
        seconds = max(0.0, result.training_s - order.result.training_s)
        return Outcome(result=result, seconds=seconds)
    start = time.perf_counter()
    try:
        if order.refit is None:
            engine = str(find_engine(order.result, bench.workshop))
            return Outcome(engine=engine, seconds=time.perf_counter() - start)
        refit, seconds = train_refit(
            order.refit,
            order.result,
            workshop=bench.workshop,
            test=bench.test(),
            weights=bench.weights_of(order),
            on_epoch=on_epoch,
        )
    except Exception as error:
        if not (fault := explain_failure(error)):
            raise
        return Outcome(fault=fault, seconds=time.perf_counter() - start)
    return Outcome(refit=refit, seconds=seconds)


def _ask_again(before: TrialResult, workshop: Workshop, on_epoch: OnEpoch) -> TrialResult | None:
    """The result of a trial that should not go on from its checkpoint; none where it should."""
    kept = recall_candidate(before, workshop)
    if kept is None or len(kept.curve) <= max((row.epoch for row in before.curve), default=0):
        return None  # whoever has sent the order knows of all epochs
    generations = 1 if before.recipe is None else before.recipe.generations
    is_over = on_epoch(kept.curve[-1]) is False
    return kept if is_over and len(kept.curve) < workshop.plan.epochs * generations else None
