"""A tracker that keeps everything in plain values: for tests, notebooks and other trackers."""

from dataclasses import dataclass, field, replace
from typing import Literal, final

from autokd.types import (
    EpochEnded,
    EpochLog,
    Event,
    Front,
    Sample,
    StudyClosed,
    StudyOpened,
    TrialEnded,
    TrialInterrupted,
    TrialResult,
    TrialResumed,
    TrialStarted,
    TrialState,
)

__all__ = ["MemoryTracker", "TrackedTrial"]


@dataclass(frozen=True, kw_only=True)
class TrackedTrial:
    """What a tracker knows of one trial.

    Attributes:
        state: Of its last event.
        sample: The point of the joint space.
        started_ms: Time of its `TrialStarted`; none where that was never seen.
        curve: Number of the epoch to its row.
        result: None while it runs.
        hypervolume: The study's after it.
    """

    state: TrialState | Literal["running", "interrupted"] = "running"
    sample: Sample = field(default_factory=dict[str, str | int | float | bool])
    started_ms: int | None = None
    curve: dict[int, EpochLog] = field(default_factory=dict[int, EpochLog])
    result: TrialResult | None = None
    hypervolume: float | None = None


@final
class MemoryTracker:
    """Keeps the effect of the events in public attributes.

    Attributes:
        opened: The last `StudyOpened`.
        closed: The last `StudyClosed`; none while a session runs.
        trials: Number of the trial to what is known of it.
        is_closed: Whether `close` was called.
    """

    def __init__(self) -> None:
        self.opened: StudyOpened | None = None
        self.closed: StudyClosed | None = None
        self.trials: dict[int, TrackedTrial] = {}
        self.is_closed = False

    @property
    def front(self) -> Front | None:
        """What the study has found, once a session has ended."""
        return None if self.closed is None else self.closed.front

    def log(self, event: Event) -> None:
        """Take note of one event."""
        match event:
            case StudyOpened():
                self.opened, self.closed = event, None
            case TrialStarted():
                self._start(event)
            case TrialResumed():
                known = self._known(event.trial)
                self.trials[event.trial] = replace(known, state="running")
            case EpochEnded():
                trial = self._known(event.trial)
                curve = {**trial.curve, event.epoch.epoch: event.epoch}
                self.trials[event.trial] = replace(trial, curve=curve)
            case TrialEnded():
                self._end(event)
            case TrialInterrupted():
                known = self._known(event.trial)
                self.trials[event.trial] = replace(known, state=event.state)
            case StudyClosed():
                self.closed = event

    def close(self) -> None:
        """Finish what is under way; no event follows."""
        self.is_closed = True

    def _known(self, trial: int) -> TrackedTrial:
        return self.trials.get(trial, TrackedTrial())

    def _start(self, event: TrialStarted) -> None:
        """A new trial, or a known one from its beginning; told twice, it changes nothing."""
        if self._known(event.trial).started_ms != event.time_ms:
            self.trials[event.trial] = TrackedTrial(sample=event.sample, started_ms=event.time_ms)

    def _end(self, event: TrialEnded) -> None:
        result = event.result
        known = self._known(result.trial)
        self.trials[result.trial] = replace(
            known,
            state=result.state,
            sample=result.sample,
            curve={row.epoch: row for row in result.curve} | known.curve,
            result=result,
            hypervolume=event.hypervolume,
        )
