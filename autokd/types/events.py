"""What a tracker is told, in the order in which it happens."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autokd.types.points import Sample
from autokd.types.results import DataCard, EpochLog, Front, TeacherCard, TrialResult

__all__ = [
    "EpochEnded",
    "Event",
    "StudyClosed",
    "StudyOpened",
    "TrialEnded",
    "TrialInterrupted",
    "TrialResumed",
    "TrialStarted",
]


@dataclass(frozen=True, kw_only=True)
class StudyOpened:
    """A search begins or goes on.

    Attributes:
        study: Its name.
        settings: The configuration, flat.
        data: The data set.
        teacher: The teacher.
        environment: Versions and hardware.
        time_ms: Milliseconds since the epoch.
    """

    study: str
    settings: dict[str, str]
    data: DataCard
    teacher: TeacherCard
    environment: dict[str, str]
    time_ms: int
    kind: Literal["study_opened"] = "study_opened"


@dataclass(frozen=True, kw_only=True)
class TrialStarted:
    """A trial begins, for the first time or again from its beginning."""

    trial: int
    sample: Sample
    time_ms: int
    kind: Literal["trial_started"] = "trial_started"


@dataclass(frozen=True, kw_only=True)
class TrialResumed:
    """A trial that was not trained on for a while goes on from its last checkpoint."""

    trial: int
    time_ms: int
    kind: Literal["trial_resumed"] = "trial_resumed"


@dataclass(frozen=True, kw_only=True)
class EpochEnded:
    """A row was added to a trial's learning curve."""

    trial: int
    epoch: EpochLog
    time_ms: int
    kind: Literal["epoch_ended"] = "epoch_ended"


@dataclass(frozen=True, kw_only=True)
class TrialEnded:
    """A trial is over; `hypervolume` is the study's after it."""

    result: TrialResult
    hypervolume: float
    time_ms: int
    kind: Literal["trial_ended"] = "trial_ended"


@dataclass(frozen=True, kw_only=True)
class TrialInterrupted:
    """A trial is not trained on for now.

    Attributes:
        trial: Its number.
        time_ms: Milliseconds since the epoch.
        state: `interrupted` by the user, or `stopped` since others are more likely to enter the
            front; either may go on later.
    """

    trial: int
    time_ms: int
    state: Literal["interrupted", "stopped"] = "interrupted"
    kind: Literal["trial_interrupted"] = "trial_interrupted"


@dataclass(frozen=True, kw_only=True)
class StudyClosed:
    """A session of the study ends.

    Attributes:
        is_finished: Whether the budget is used up, rather than the session interrupted.
        front: What was found, or none if nothing was.
        files: Pictures and tables to keep beside the study.
        time_ms: Milliseconds since the epoch.
    """

    is_finished: bool
    front: Front | None
    files: tuple[Path, ...]
    time_ms: int
    kind: Literal["study_closed"] = "study_closed"


Event = (
    StudyOpened
    | TrialStarted
    | TrialResumed
    | EpochEnded
    | TrialEnded
    | TrialInterrupted
    | StudyClosed
)
"""Whatever a tracker is told."""
