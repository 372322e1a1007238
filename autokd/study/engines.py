"""A finalist's engine, settled before its trainings begin.

The fastest way to compute a step is found by timing, and two processes may find two: a student in
FP32 beside a twin in bfloat16 would differ in more than the teacher.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial

from autokd.distillation import Engine
from autokd.study.crew import Crew, Job
from autokd.study.folder import StudyFolder
from autokd.study.orders import Bench, Order, Outcome, carry_out
from autokd.types import EpochLog, TrialResult

__all__ = ["settle_engines"]


def settle_engines(
    results: Sequence[TrialResult],
    *,
    bench: Bench,
    crew: Crew,
    folder: StudyFolder,
    is_away: bool,
    is_alone: bool,
) -> dict[int, TrialResult]:
    """Finds out how all trainings of each finalist are computed, its twin's and of all seeds.

    Args:
        results: Of the finalists.
        bench: Where they are trained if the crew does it here.
        crew: Idle; times a student that does not know yet.
        folder: Keeps what was found, so that the next session goes on with it.
        is_away: Whether others train than this machine, on devices of their own.
        is_alone: Whether only one training follows, which may use all cores.

    Returns:
        The results with their engines, by trial. One that cannot be timed is left as it is; its
        trainings say why.
    """
    settled: dict[int, TrialResult] = {}
    for result in results:
        kind = None if is_away else bench.workshop.plan.device.type
        known = [one for one in (result.engine, folder.load_engine(result.trial)) if one]
        usable = [one for one in known if kind in (None, Engine.parse(one).device.type)]
        engine = usable[0] if usable else _time(result, bench=bench, crew=crew, is_wide=is_alone)
        if engine and not usable:
            folder.keep_engine(result.trial, engine)
        settled[result.trial] = dataclasses.replace(result, engine=engine)
    return settled


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
