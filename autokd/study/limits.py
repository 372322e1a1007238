"""How slow a student may be that is trained."""

from autokd.config import Config
from autokd.types import Surveyor, TeacherCard

__all__ = ["choose_limit"]


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
