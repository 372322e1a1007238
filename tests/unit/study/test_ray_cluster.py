"""Latencies of a cluster's nodes, with a Ray that runs each task here and at once."""

import sys
from types import SimpleNamespace

import pytest

from autokd.config import Config
from autokd.errors import ConfigError, MeasureError
from autokd.latency import StopwatchTarget
from autokd.latency.reference import recall_quiet_ms
from autokd.study import ray_cluster
from autokd.study.ray_cluster import LATENCY_DEVICE, RayCluster, RayTarget, join_cluster
from autokd.types import Latency

KIND = "board x4, Linux [1234]"


class FakeRay:
    """What the module `ray` does here; `nodes` are those with the resource."""

    exceptions = SimpleNamespace(RayTaskError=KeyError, GetTimeoutError=TimeoutError)

    def __init__(self, nodes=()):
        self._nodes = nodes

    def remote(self, **_):
        def wrap(function):
            task = SimpleNamespace(remote=function)
            task.options = lambda *, scheduling_strategy: SimpleNamespace(
                remote=lambda *words: self._nodes[scheduling_strategy](*words)
            )
            return task

        return wrap

    def get(self, value, **_):
        return value

    def is_initialized(self):
        return True

    def nodes(self):
        plain = {"Alive": True, "NodeID": "trains only", "Resources": {"CPU": 4.0}}
        carriers = [
            {"Alive": True, "NodeID": number, "Resources": {LATENCY_DEVICE: 1.0}}
            for number in range(len(self._nodes))
        ]
        return [plain, *carriers]


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "student.onnx"
    path.write_bytes(b"a network")
    return path


@pytest.fixture
def measure(tmp_path, model, monkeypatch):
    """Has a node measure: twice the quiet time of the reference, of which each has its own."""
    cluster = RayCluster(ray=FakeRay(), trial={}, latency_device=KIND)

    def measure(node, *, node_ms, home="runs", device=KIND):
        def measure_together(self, models):
            assert all(model.exists() for model in models)
            ms = 2 * recall_quiet_ms(lambda: node_ms, home=self.home)
            return [
                Latency(
                    median_ms=ms, ci95_low_ms=ms, ci95_high_ms=ms, p10_ms=ms, p90_ms=ms, n_runs=9,
                    batch=1, threads=1, runtime="r", device=device, drift=1.0,
                )
            ]  # fmt: skip

        monkeypatch.setenv("AUTOKD_CACHE", str(tmp_path / node))
        monkeypatch.setattr(StopwatchTarget, "measure_together", measure_together)
        target = StopwatchTarget(home=tmp_path / home)
        return RayTarget(cluster=cluster, target=target).measure(model).median_ms

    return measure


def test_nodes_scale_by_one_quiet_time_though_each_has_its_own(measure, tmp_path):
    assert measure("a", node_ms=1.0) == 2.0
    assert measure("b", node_ms=1.3) == 2.0
    assert measure("b", node_ms=1.3, home="other runs") == 2.0  # kept on the node, too
    assert measure("c", node_ms=1.3, home="third runs") == 2.6
    assert measure("a", node_ms=1.0) == 2.0
    assert len(list((tmp_path / "runs").glob("reference-*.json"))) == 1


def test_a_node_of_another_kind_does_not_measure(measure):
    with pytest.raises(MeasureError, match=r"must be timed on board x4.*, got phone"):
        measure("a", node_ms=1.0, device="phone")


@pytest.fixture
def join(monkeypatch):
    def join(*nodes, **options):
        monkeypatch.setitem(sys.modules, "ray", FakeRay(nodes))
        monkeypatch.setattr(RayCluster, "on_node", lambda _, node: node)
        return join_cluster(Config(ray="auto", **options))

    return join


def answer(device, version):
    """What a node says of itself."""
    return lambda runtimes: (device, ", ".join(f"{one} {version}" for one in runtimes))


def test_nodes_that_are_alike_are_the_latency_device(join):
    assert join(answer(KIND, "1.2"), answer(KIND, "1.2")).latency_device == KIND
    assert join().latency_device == ""


@pytest.mark.parametrize("other", [("phone", "1.2"), (KIND, "1.3")])
def test_nodes_that_are_not_alike_are_refused(other, join):
    shown = r"must be alike, got .* with onnxruntime 1\.[23], torch 1\.[23]; .*; give it to nodes"
    with pytest.raises(ConfigError, match=shown):
        join(answer(KIND, "1.2"), answer(*other), target=("torch", "command:x {model}"))


def test_a_node_says_what_it_is_and_what_it_lacks():
    device, versions = ray_cluster._describe_node(["onnxruntime", "nonsense"])
    assert device == ray_cluster.device_fingerprint()
    assert versions.startswith("onnxruntime 1.")
    assert versions.endswith(", nonsense absent")
