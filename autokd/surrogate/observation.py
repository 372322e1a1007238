"""What a study tells of a candidate that was begun."""

from dataclasses import dataclass
from typing import Literal

from autokd.types import Sample

__all__ = ["Observation"]


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One candidate that was begun.

    Attributes:
        key: Number of its trial.
        sample: The point of the joint space.
        state: `complete` has reached the last rung, `stopped` waits at a lower one and can go
            on, `running` is being trained, `lost` was stopped for good.
        curve: Accuracies at the rungs that it has reached, the lowest first, in [0, 1].
        is_able: Whether it meets the constraints of the study.
        latency_ms: Of what came of a complete one, which may be slower than its network was before
            it was trained; none where that is not known.
        epoch_s: Seconds that an epoch of it takes in the mean; none where that is not known.
    """

    key: int
    sample: Sample
    state: Literal["complete", "stopped", "running", "lost"]
    curve: tuple[float, ...] = ()
    is_able: bool = True
    latency_ms: float | None = None
    epoch_s: float | None = None
