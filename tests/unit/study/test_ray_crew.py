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
from autokd.study.remote_crew import dump_result
from autokd.testing import FakeTarget
from autokd.types import TrialResult, dump_json
from tests.unit.study.remote.hands import row


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


def test_a_checkpoint_that_cannot_be_kept_costs_a_warning(tmp_path, caplog):
    (tmp_path / "file").touch()
    desk = Desk(tmp_path / "file")
    assert desk.tell("trial-1", 1, "one", {"trial-1.0.checkpoint": b"one"})
    assert "a checkpoint cannot be kept" in caplog.text
    assert desk.take_rows() == [("trial-1", 1, "one")]


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


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(RayCluster, "on_node", lambda _, node: node)
    monkeypatch.setattr(RayCluster, "own_node", "here")
    checkpoints = CheckpointFolder(tmp_path, limit_bytes=2**30)
    bench = object.__new__(Bench)  # a workshop without data or space
    object.__setattr__(
        bench, "workshop", SimpleNamespace(checkpoints=checkpoints, weights=tmp_path)
    )
    return bench


@pytest.mark.parametrize("has_joined", [True, False])
def test_a_crew_that_is_closed_leaves_the_cluster_once(has_joined, bench, monkeypatch):
    monkeypatch.setattr(ray_cluster, "_OWN", ray_cluster._Own(has_joined=has_joined))
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


NAMES = ["WorkerCrashedError", "NodeDiedError", "OutOfMemoryError", "ObjectLostError"]
ERRORS = {name: type(name, (Exception,), {}) for name in [*NAMES, "RayTaskError"]}


class MortalRay(FakeRay):
    """Its tasks die after the epochs that are listed for each; the one after them ends."""

    exceptions = SimpleNamespace(**ERRORS)

    def __init__(self, *lives, death):
        super().__init__()
        self.lives, self.death, self.desk, self.sent = list(lives), death, None, []

    def remote(self, *, max_retries=None, **_):
        assert max_retries in (None, 0)  # else Ray would begin what is sent again, too

        def wrap(made):
            if made is Desk:
                return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._build_desk))
            return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._send))

        return wrap

    def cluster_resources(self):
        return {"CPU": 1.0}

    def _build_desk(self, folder):
        desk = Desk(folder)
        names = ("tell", "answer", "grant", "take_rows", "halt")
        calls = {name: SimpleNamespace(remote=getattr(desk, name)) for name in names}
        self.desk = SimpleNamespace(**calls)
        return self.desk

    def _send(self, *_):
        self.sent.append(f"task {len(self.sent)}")
        return self.sent[-1]

    def wait(self, tasks, **_):
        """The task has told of its epochs and is dead, or has ended."""
        for epoch in self.lives[0] if self.lives else ():
            self.desk.tell.remote("trial-3", epoch, dump_json(row(epoch)), {})
        return tasks, []

    def get(self, value):
        if value not in self.sent:
            return value
        if self.lives:
            self.lives.pop(0)
            raise ERRORS[self.death]
        result = TrialResult(trial=3, state="stopped", sample={})
        return dump_result(Outcome(result=result)), {}


def wait_for(ray, bench, on_epoch=lambda _job, _row: True):
    """The end of a job that asks after its first epoch."""
    cluster = RayCluster(ray=ray, trial={"num_cpus": 1.0, "num_gpus": 0.0})
    crew = RayCrew(cluster, bench=bench, call="", weights={})
    order = Order(result=TrialResult(trial=3, state="measured", sample={}))
    crew.start(Job(key=3, title="it", epochs=9, work=lambda _: None, stops=(1,), order=order))
    return crew.wait(on_epoch)


@pytest.mark.parametrize("death", NAMES)
def test_what_dies_again_and_again_goes_on_as_long_as_epochs_end(death, bench):
    ray = MortalRay((1,), (2,), (), (3,), (4,), (), death=death)
    done = wait_for(ray, bench)
    assert (done.fault, done.result.result.state) == ("", "stopped")
    assert len(ray.sent) == 7


def test_what_dies_three_times_without_an_epoch_between_is_given_up(bench):
    ray = MortalRay((1,), (1,), (1,), death="NodeDiedError")  # it asks again each time
    asked = []
    done = wait_for(ray, bench, lambda _, one: asked.append(one.epoch))
    assert done.fault.startswith("it died 3 times without an epoch between: ")
    assert asked == [1, 1, 1]
    assert ray.desk.answer.remote("trial-3", 1) is True


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
