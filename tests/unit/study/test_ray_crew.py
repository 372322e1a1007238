"""What lies beside the coordinator of a Ray cluster, without one."""

import builtins
import sys
from types import SimpleNamespace

import pytest
import torch

from autokd.candidate import CheckpointFolder, Workshop
from autokd.config import Config
from autokd.data import load_data
from autokd.distillation import Plan
from autokd.errors import ConfigError
from autokd.spaces import build_space
from autokd.study import ray_cluster, ray_crew
from autokd.study.crew import Job
from autokd.study.orders import Bench, Order, Outcome
from autokd.study.ray_cluster import RayCluster, join_cluster
from autokd.study.ray_crew import Desk, RayCrew, train_on_node
from autokd.testing import FakeTarget
from autokd.types import TrialResult, dump_json


def test_a_desk_keeps_checkpoints_where_the_coordinator_looks(tmp_path):
    desk = Desk(tmp_path / "checkpoints")
    assert desk.files("trial-1") == {}
    assert desk.tell("trial-1", 1, "one", {"trial-1.0.checkpoint": b"one"})
    assert desk.tell("trial-1", 2, "two", {"trial-1.0.checkpoint": b"two"})
    assert desk.tell("trial-11", 1, "other", {"trial-11.0.checkpoint": b"other"})
    assert desk.files("trial-1") == {"trial-1.0.checkpoint": b"two"}
    assert (tmp_path / "checkpoints/trial-11.0.checkpoint").read_bytes() == b"other"
    assert desk.take_rows() == [
        ("trial-1", 1, "one"),
        ("trial-1", 2, "two"),
        ("trial-11", 1, "other"),
    ]
    assert desk.take_rows() == []


def test_what_a_student_begins_with_goes_to_its_node(tmp_path):
    checkpoints = CheckpointFolder(tmp_path, limit_bytes=2**30)
    checkpoints.start("trial-1").write_bytes(b"inherited")
    assert Desk(tmp_path).files("trial-1") == {"trial-1.start.checkpoint": b"inherited"}


def test_a_desk_answers_when_it_is_decided(tmp_path):
    desk = Desk(tmp_path)
    assert desk.answer("trial-1", 1) is None
    desk.grant("trial-1", 1, True)
    desk.grant("trial-1", 4, False)
    assert desk.answer("trial-1", 1) is True
    assert desk.answer("trial-1", 4) is False
    desk.halt()
    assert not desk.tell("trial-2", 1, "one", {})
    assert desk.answer("trial-2", 1) is False


def test_what_a_node_sends_stays_in_the_folder(tmp_path):
    desk = Desk(tmp_path / "checkpoints")
    desk.tell("trial-1", 1, "one", {"../../evil": b""})
    assert [path.name for path in tmp_path.rglob("evil*")] == ["evil"]
    assert (tmp_path / "checkpoints/evil").exists()


def test_without_ray_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def refuse(name, *words, **options):
        if name == "ray":
            raise ImportError(name)
        return real(name, *words, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(
        ConfigError, match=r"^`--ray` must find the package ray; install autokd\[ray\]"
    ):
        join_cluster(Config(ray="auto"))


class FakeRay:
    """Takes note of what is ended."""

    def __init__(self):
        self.ended = []

    def remote(self, **_):
        def wrap(made):
            return SimpleNamespace(
                options=lambda **_: SimpleNamespace(remote=lambda *_: made.__name__)
            )

        return wrap

    def put(self, value):
        return value

    def cancel(self, task, *, force):
        assert force
        self.ended.append(task)

    def kill(self, actor):
        self.ended.append(actor)

    def shutdown(self):
        self.ended.append("connection")


@pytest.mark.parametrize("has_joined", [True, False])
def test_a_crew_that_is_closed_leaves_the_cluster_once(has_joined, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_cluster, "_OWN", ray_cluster._Own(has_joined=has_joined))
    monkeypatch.setattr(RayCluster, "on_node", lambda _, node: node)
    monkeypatch.setattr(RayCluster, "own_node", "here")
    checkpoints = CheckpointFolder(tmp_path, limit_bytes=2**30)
    bench = object.__new__(Bench)  # a workshop without data or space
    object.__setattr__(bench, "workshop", SimpleNamespace(checkpoints=checkpoints))
    ray = FakeRay()
    crew = RayCrew(RayCluster(ray=ray, trial={}), bench=bench, call="", weights={})
    order = Order(result=TrialResult(trial=3, state="measured", sample={}))
    crew.start(Job(key=3, title="it", epochs=1, work=lambda _: None, order=order))
    crew.dismiss()
    assert ray.ended == []
    crew.close()
    crew.close()
    left = ["connection"] if has_joined else []
    assert ray.ended == ["train_on_node", "Desk", *left]
    assert not crew.running


def test_a_task_trains_on_as_many_cores_as_it_was_given(tmp_path, monkeypatch):
    plan = Plan(epochs=1, batch_size=8, seed=0, device=torch.device("cpu"))
    workshop = Workshop(
        space=build_space("mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10),
        data=load_data(Config(train_limit=100)), teachers={}, target=FakeTarget(), plan=plan,
        max_latency_ms=None, weights=tmp_path,
        checkpoints=CheckpointFolder(tmp_path, limit_bytes=2**30),
    )  # fmt: skip
    bench = Bench(workshop=workshop, refits=tmp_path, test=lambda: None)
    context = SimpleNamespace(get_assigned_resources=lambda: {"CPU": 2.5})
    ray = SimpleNamespace(get_runtime_context=lambda: context, get=lambda value: value)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(ray_crew, "_open_bench", lambda _call, _weights: bench)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    cores = []

    def carry_out(_order, bench, _tell):
        cores.append(bench.workshop.plan.cores)
        return Outcome(fault="enough")

    monkeypatch.setattr(ray_crew, "carry_out", carry_out)
    desk = SimpleNamespace(files=SimpleNamespace(remote=lambda _: {}))
    order = Order(result=TrialResult(trial=3, state="measured", sample={}))
    train_on_node(desk, "", {}, dump_json(order), [])
    assert cores == [2]
