"""A finalist's engine, settled before its trainings begin.

The fastest way to compute a step is found by timing, and two processes may find two: a student in
FP32 beside a twin in bfloat16 would differ in more than the teacher.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial

from autokd.distillation import Engine
from autokd.study.crew import Crew, Job
from autokd.study.folder import StudyFolder
from autokd.study.orders import Bench, Order, Outcome, carry_out
from autokd.study.refits import Refit
from autokd.types import EpochLog, TrialResult

__all__ = ["explain_mixture", "settle_engines"]


def settle_engines(
    results: Sequence[TrialResult],
    *,
    bench: Bench,
    crew: Crew,
    folder: StudyFolder,
    trained: Mapping[int, str],
    is_alone: bool,
) -> dict[int, TrialResult]:
    """Finds out how all trainings of each finalist are computed, its twin's and of all seeds.

    What is known holds on a device of another kind too, where it may be slow: number type and
    layout are those of the trainings that it is compared with.

    Args:
        results: Of the finalists.
        bench: Where they are trained if the crew does it here.
        crew: Idle; times a student that does not know yet.
        folder: Keeps what was found, so that the next session goes on with it.
        trained: Engines of trainings in the finals that are over, by trial.
        is_alone: Whether only one training follows, which may use all cores.

    Returns:
        The results with their engines, by trial. One that cannot be timed is left as it is; its
        trainings say why.
    """
    settled: dict[int, TrialResult] = {}
    for result in results:
        known = trained.get(result.trial) or folder.load_engine(result.trial) or result.engine
        engine = known or _time(result, bench=bench, crew=crew, is_wide=is_alone)
        if engine and not known:
            folder.keep_engine(result.trial, engine)
        settled[result.trial] = dataclasses.replace(result, engine=engine)
    return settled


def explain_mixture(refits: Sequence[Refit], *, folder: StudyFolder) -> str:
    """What to say where trainings that are compared were computed with several types of numbers.

    Args:
        refits: Of one finalist and its twin.
        folder: Of the study.

    Returns:
        A warning; empty where there is nothing to say. Studies of before `settle_engines` held to
        what was known may need it.
    """
    engines = sorted({refit.engine for refit in refits if refit.engine})
    if len({Engine.parse(engine).is_bf16 for engine in engines}) < 2:
        return ""
    trial = refits[0].trial
    return (
        f"warning: trainings of trial {trial} were computed in several ways ({', '.join(engines)}),"
        f" which its gain contains; delete {folder.refits}/{trial}-* to train them again, all alike"
    )


def _ignore(_job: Job, _row: EpochLog) -> None:
    """A probe has no epochs."""


def _time(result: TrialResult, *, bench: Bench, crew: Crew, is_wide: bool) -> str:
    """What the crew finds; empty where it cannot."""
    order = Order(result=result, is_probe=True)
    work = partial(carry_out, order, bench)
    crew.start(Job(key=None, title=order.name, epochs=0, is_wide=is_wide, work=work, order=order))
    done = None
    while done is None:
        done = crew.wait(_ignore)
    outcome: Outcome = Outcome(fault=done.fault) if done.fault else done.result
    return outcome.engine
