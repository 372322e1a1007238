"""Every target keeps the contract."""

import pytest

from autokd.latency import CachedTarget, Form, StopwatchTarget
from autokd.testing import FakeTarget, TargetContract

SHORT = Form(least_s=0.05, most_s=0.5, precision=0.1)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache of the session's own, so that the reference is timed once."""
    monkeypatch.setenv("AUTOKD_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


class TestFakeTarget(TargetContract):
    def build_target(self, folder):  # noqa: ARG002 - needs none
        return FakeTarget()


class TestStopwatchTarget(TargetContract):
    def build_target(self, folder):  # noqa: ARG002 - needs none
        return StopwatchTarget(form=SHORT)


class TestCachedTarget(TargetContract):
    def build_target(self, folder):
        return CachedTarget(FakeTarget(), folder=folder / "cache")
