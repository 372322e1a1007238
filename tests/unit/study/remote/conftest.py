"""A queue, and a coordinator's side of it."""

import dataclasses

import pytest

from autokd.candidate import CheckpointFolder
from autokd.jobs import JobQueue, open_engine
from autokd.study.orders import Bench
from autokd.study.remote_crew import RemoteCrew


@pytest.fixture
def queue(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path}/jobs.db")
    queue = JobQueue(engine)
    queue.open_study("s", "{}", files={})
    yield queue
    engine.dispose()


@dataclasses.dataclass
class _Workshop:
    weights: object
    checkpoints: CheckpointFolder


@pytest.fixture
def bench(tmp_path):
    workshop = _Workshop(
        weights=tmp_path / "weights",
        checkpoints=CheckpointFolder(tmp_path / "checkpoints", limit_bytes=2**30),
    )
    bench = object.__new__(Bench)  # a workshop without data or space
    for name, value in {"workshop": workshop, "refits": tmp_path / "refits", "test": None}.items():
        object.__setattr__(bench, name, value)
    return bench


@pytest.fixture
def said():
    return []


@pytest.fixture
def build(queue, bench, said):
    def build(**options):
        return RemoteCrew(queue, "s", bench=bench, say=said.append, **options)

    return build
