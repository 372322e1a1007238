"""Trainings on their way to workers on other machines and back, in tables of a database.

`JobQueue` holds them; `patiently` has whatever asks a database wait for it while it is away.
"""

from autokd.jobs.patience import patiently
from autokd.jobs.queue import Claim, JobQueue, JobState, LeaseLostError, Posting, Row
from autokd.jobs.tables import check_reachable, open_engine

__all__ = [
    "Claim",
    "JobQueue",
    "JobState",
    "LeaseLostError",
    "Posting",
    "Row",
    "check_reachable",
    "open_engine",
    "patiently",
]
