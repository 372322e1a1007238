"""Latencies of a cluster's nodes, with a Ray that runs each task here and at once."""

import socket
import sys
from types import SimpleNamespace

import pytest

from autokd.config import Config
from autokd.errors import ConfigError, MeasureError, TargetError
from autokd.latency import StopwatchTarget
from autokd.latency.reference import recall_quiet_ms
from autokd.study import ray_cluster
from autokd.study.ray_cluster import (
    LATENCY_DEVICE,
    LatencyNode,
    RayCluster,
    RayTarget,
    join_cluster,
)
from autokd.types import Latency

KIND = "board x4, Linux [1234]"
GPU = f"card, {KIND}"


def node(device=KIND, version="1.2", *, bits=8, gpu=GPU):
    runtimes = (("onnxruntime", version, device), ("onnxruntime:cuda", version, gpu))
    return LatencyNode(device=device, runtimes=runtimes, weight_bits=bits)


class FakeRay:
    """What the module `ray` does here; `nodes` are those with the resource."""

    exceptions = SimpleNamespace(
        RayTaskError=KeyError, GetTimeoutError=TimeoutError, RayError=OSError
    )

    def __init__(self, nodes=(), *, fault=None, joined="10.0.0.1:6379"):
        self._nodes, self._fault, self._joined = nodes, fault, joined
        self.cancelled = []

    def remote(self, **_):
        def wrap(function):
            task = SimpleNamespace(remote=function)
            task.options = lambda *, scheduling_strategy: SimpleNamespace(
                remote=lambda *words: self._nodes[int(scheduling_strategy)](*words)
            )
            return task

        return wrap

    def get(self, value, **_):
        if self._fault is not None:
            raise self._fault
        return value

    def cancel(self, task):
        self.cancelled.append(task)

    def is_initialized(self):
        return bool(self._joined)

    def init(self, *, address, **_):
        assert not self._joined, "joined twice"
        if address == "nowhere":
            raise ConnectionError(address)
        self._joined = address

    def shutdown(self):
        self._joined = ""

    def get_runtime_context(self):
        return SimpleNamespace(gcs_address=self._joined)

    def nodes(self):
        plain = {"Alive": True, "NodeID": "trains only", "Resources": {"CPU": 4.0}}
        carriers = [
            {"Alive": True, "NodeID": str(number), "Resources": {LATENCY_DEVICE: 1.0}}
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
    cluster = RayCluster(ray=FakeRay(), trial={}, node=node())

    def measure(name, *, node_ms, home="runs", device=KIND, runtime="onnxruntime"):
        def measure_together(self, models):
            assert all(model.exists() for model in models)
            ms = 2 * recall_quiet_ms(lambda: node_ms, home=self.home)
            return [
                Latency(
                    median_ms=ms, ci95_low_ms=ms, ci95_high_ms=ms, p10_ms=ms, p90_ms=ms, n_runs=9,
                    batch=1, threads=1, runtime="r", device=device, drift=1.0,
                )
            ]  # fmt: skip

        monkeypatch.setenv("AUTOKD_CACHE", str(tmp_path / name))
        monkeypatch.setattr(StopwatchTarget, "measure_together", measure_together)
        target = StopwatchTarget(runtime=runtime, home=tmp_path / home)
        return RayTarget(cluster=cluster, node=node(), target=target).measure(model).median_ms

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


def test_the_device_of_a_network_on_a_gpu_is_that_of_the_node(measure):
    assert measure("a", node_ms=1.0, device=GPU, runtime="onnxruntime:cuda") == 2.0
    with pytest.raises(MeasureError, match=r"must be timed on card, board x4.*, got other card"):
        measure("a", node_ms=1.0, device=f"other {GPU}", runtime="onnxruntime:cuda")


def test_what_is_remembered_is_of_the_nodes_device_and_version():
    cluster = RayCluster(ray=FakeRay(), trial={}, node=node())
    for runtime, device in (("onnxruntime", KIND), ("onnxruntime:cuda", GPU)):
        target = RayTarget(cluster=cluster, node=node(), target=StopwatchTarget(runtime=runtime))
        assert str(target).startswith(f"{runtime} 1.2, ")
        assert str(target).endswith(f", {device}")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (TimeoutError("Get timed out"), r"got none in 660 s; start one, the same command goes on"),
        (OSError("the worker died"), r"got the worker died"),
    ],
)
def test_a_device_that_is_gone_is_no_fault_of_the_network(fault, said, model):
    ray = FakeRay(fault=fault)
    target = RayTarget(
        cluster=RayCluster(ray=ray, trial={}, node=node()), node=node(), target=StopwatchTarget()
    )
    task = object()
    ray.remote = lambda **_: lambda _: SimpleNamespace(remote=lambda *_: task)
    with pytest.raises(TargetError, match=f"student.onnx must be timed on a node with .*{said}"):
        target.measure(model)
    assert ray.cancelled == ([task] if isinstance(fault, TimeoutError) else [])


@pytest.fixture
def join(monkeypatch):
    monkeypatch.setattr(ray_cluster, "_OWN", ray_cluster._Own())
    monkeypatch.setattr(RayCluster, "on_node", lambda _, node: node)
    monkeypatch.setattr(ray_cluster, "_knock", lambda _: None)

    def join(*nodes, address="auto", ray=None, **options):
        monkeypatch.setitem(sys.modules, "ray", ray or FakeRay(nodes))
        return join_cluster(Config(ray=address, **options))

    return join


def answer(*words, **options):
    """What a node says of itself."""
    return lambda _: node(*words, **options)


@pytest.mark.parametrize(
    ("n_cpus", "n_gpus", "n_slots"), [(0.1, 0.0, 10), (1.0, 0.2, 1), (0.01, 0.2, 5), (2.0, 0.0, 0)]
)
def test_a_share_of_a_device_fits_as_often_as_it_should(n_cpus, n_gpus, n_slots):
    ray = SimpleNamespace(cluster_resources=lambda: {"CPU": 1.0, "GPU": 1.0})
    cluster = RayCluster(ray=ray, trial={"num_cpus": n_cpus, "num_gpus": n_gpus})
    assert cluster.n_slots == n_slots


def test_nodes_that_are_alike_are_the_latency_device(join):
    assert join(answer(), answer()).node == node()
    assert join().node is None


@pytest.mark.parametrize("other", [{"device": "phone"}, {"version": "1.3"}, {"bits": 7},
                                   {"gpu": "another"}])  # fmt: skip
def test_nodes_that_are_not_alike_are_refused(other, join):
    shown = r"must be alike, got .* with onnxruntime 1\.[23], .* [78] bits; .*; give it to nodes"
    with pytest.raises(ConfigError, match=shown):
        join(answer(), answer(**other), target=("onnxruntime:cuda", "command:x {model}"))


def test_a_node_says_what_it_is_and_what_it_lacks():
    found = ray_cluster._describe_node(["nonsense", "onnxruntime"])
    assert found.device == ray_cluster.device_fingerprint()
    assert found.find("nonsense") == ("", found.device)
    assert found.find("onnxruntime")[0].startswith("1.")
    assert "nonsense absent, onnxruntime 1." in str(found)
    assert found.weight_bits in (7, 8)


def test_a_second_search_joins_the_cluster_that_it_names(join):
    ray = FakeRay(joined="")
    join(address="one:1", ray=ray)  # and fails before it has a crew that would leave
    cluster = join(address="two:2", ray=ray)
    assert ray.get_runtime_context().gcs_address == "two:2"
    cluster.leave()
    cluster.leave()
    assert not ray.is_initialized()


def test_what_the_user_has_joined_is_used_and_not_left(join):
    ray = FakeRay(joined="10.0.0.1:6379")
    for address in ("auto", "10.0.0.1:6379"):
        join(address=address, ray=ray).leave()
        assert ray.is_initialized()
    with pytest.raises(ConfigError, match=r"has joined, 10\.0\.0\.1:6379, got two:2; pass auto"):
        join(address="two:2", ray=ray)


def test_an_address_where_nothing_answers_is_refused(join):
    with pytest.raises(ConfigError, match="must be the address of a running cluster, got nowhere"):
        join(address="nowhere", ray=FakeRay(joined=""))


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "127.0.0.1:9{}"])
def test_a_closed_port_is_refused_before_ray_tries_for_minutes(address, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = address.format(server.getsockname()[1])
    ray = FakeRay(joined="")
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was asked"))
    with pytest.raises(ConfigError, match=f"of a running cluster, got {address}: .*; start one"):
        ray_cluster._join(ray, address)


def test_ray_is_asked_where_something_listens(monkeypatch):
    monkeypatch.setattr(ray_cluster, "_OWN", ray_cluster._Own())
    ray = FakeRay(joined="")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        ray_cluster._join(ray, address)
    assert ray.is_initialized()
