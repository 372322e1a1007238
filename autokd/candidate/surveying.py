"""A look at many students before one of them is trained."""

import math
import time
from collections.abc import Iterable, Sequence
from typing import final

from autokd.candidate.memory import explain_memory
from autokd.candidate.preparation import (
    NetworkSample,
    Workshop,
    explain_int8,
    prepare_candidate,
)
from autokd.errors import BuildError, ExportError, MeasureError
from autokd.types import Footprint, Latency, Prospect, Sample, TrialResult

__all__ = ["StudentSurveyor", "describe_student"]


_SHARE = 0.1  # of the time since the surveyor was made, for all looks together


@final
class StudentSurveyor:
    """Builds, exports and times students, for a tenth of a search's time.

    The share is of the wall time, not of a training's: the more workers train side by side, the
    sooner the next trial is asked for, and all of them wait while a student is looked at.
    """

    def __init__(self, workshop: Workshop) -> None:
        """Has looked at nothing yet.

        Args:
            workshop: What the study shares; its target should remember what it has timed.
        """
        self._workshop = workshop
        self._known: dict[NetworkSample, Prospect | None] = {}
        self._begun, self._spent_s = time.monotonic(), 0.0

    def remember(self, results: Iterable[TrialResult]) -> None:
        """Takes over what trials have measured, so that their students are not timed again.

        Args:
            results: Of trials that were not told before.
        """
        for one in results:
            prospect = describe_student(one)
            could_not = one.state == "failed" and one.latency is None
            is_told = prospect or could_not or explain_int8(one.latency, one.fp32_latency)
            # With layers left in float it is slower than its network was before it was trained.
            if is_told and not one.float_layers:
                self._known[self._workshop.network_of(one.sample)] = prospect

    def survey(self, samples: Sequence[Sample]) -> list[Prospect | None]:
        """What is known of each student, of one at least and of others as far as the time goes."""
        found: list[Prospect | None] = []
        for sample in samples:
            full = self._workshop.space.complete(sample)
            key = self._workshop.network_of(full)
            if key not in self._known:
                start = time.monotonic()
                if found and self._spent_s >= _SHARE * (start - self._begun):
                    break
                self._known[key] = self._look(full)
                self._spent_s += time.monotonic() - start
            found.append(self._known[key])
        return found

    def _look(self, sample: Sample) -> Prospect | None:
        try:
            candidate = prepare_candidate(sample, self._workshop)
        except (BuildError, ExportError, MeasureError):
            return None
        except (MemoryError, RuntimeError) as error:
            if not explain_memory(error):
                raise
            return None
        return _describe(candidate.latency, candidate.fp32_latency, candidate.footprint)


def describe_student(result: TrialResult) -> Prospect | None:
    """What was known of a trial's student before it was trained.

    Args:
        result: Of any state.

    Returns:
        None where it was not measured, or is no faster in INT8 than in FP32 and not offered.
    """
    if result.latency is None or result.footprint is None or not result.footprint.paths:
        return None
    return _describe(result.latency, result.fp32_latency, result.footprint)


def _describe(
    latency: Latency, fp32_latency: Latency | None, footprint: Footprint
) -> Prospect | None:
    """Traits are those of the FP32 network, which learns; the latency is that of the file."""
    if explain_int8(latency, fp32_latency):
        return None
    logs = [math.log(max(1, n)) for n in (footprint.n_params, footprint.macs)]
    own = fp32_latency or latency
    traits = (math.log(own.median_ms), *logs, *footprint.paths)
    return Prospect(latency_ms=latency.median_ms, traits=traits)
