"""Every target keeps the contract."""

from autokd.latency import CachedTarget, OnnxRuntimeTarget
from autokd.testing import FakeTarget, TargetContract


class TestFakeTarget(TargetContract):
    def build_target(self, folder):  # noqa: ARG002 - needs none
        return FakeTarget()


class TestOnnxRuntimeTarget(TargetContract):
    def build_target(self, folder):  # noqa: ARG002 - needs none
        return OnnxRuntimeTarget(seconds=0.05)


class TestCachedTarget(TargetContract):
    def build_target(self, folder):
        return CachedTarget(FakeTarget(), folder=folder / "cache")
