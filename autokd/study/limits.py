"""How slow and how inaccurate a student may be."""

from dataclasses import dataclass
from typing import final

from autokd.config import Config
from autokd.types import Surveyor, TeacherCard, TrialResult

__all__ = ["Limits", "choose_limit"]


@final
@dataclass(frozen=True, kw_only=True)
class Limits:
    """What students are held to in one session; the next may have other limits.

    Attributes:
        max_latency_ms: A slower one is not trained.
        min_accuracy: A worse one is not on the front.
    """

    max_latency_ms: float | None = None
    min_accuracy: float | None = None

    def judge(self, result: TrialResult) -> dict[str, float]:
        """How far a result is beyond each limit, above 0 where it misses it.

        Args:
            result: Of any state; only a complete one has an accuracy to be held to.

        Returns:
            By what is limited, in its unit; only limits that there are.
        """
        beyond: dict[str, float] = {}
        if self.max_latency_ms is not None and result.latency is not None:
            beyond["latency_ms"] = result.latency.median_ms - self.max_latency_ms
        if self.min_accuracy is not None and result.state == "complete":
            beyond["accuracy"] = self.min_accuracy - (result.val_accuracy or 0.0)
        return beyond


def choose_limit(config: Config, *, surveyor: Surveyor, teacher: TeacherCard) -> float | None:
    """What the user says, else the teacher's latency: nobody needs a student that is slower.

    Args:
        config: Its limit and its targets.
        surveyor: Tells the latency of the space's default student.
        teacher: On the same target.

    Returns:
        Milliseconds; none where the space is of slow students, the default one among them, or where
        there are several targets, since who is slow on one may be fast on another.
    """
    if config.max_latency_ms is not None or len(config.target) > 1:
        return config.max_latency_ms
    (default,) = surveyor.survey([{}])
    if default is None or default.latency_ms >= teacher.latency_ms:
        return None
    return teacher.latency_ms
