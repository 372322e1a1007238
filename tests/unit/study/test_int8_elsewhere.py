"""INT8 students that are trained elsewhere: by a worker behind a database, and by a Ray task."""

import contextlib
import dataclasses
import sys
import threading
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import nn

from autokd.candidate import (
    CheckpointFolder,
    KnownTeacher,
    Workshop,
    quantization_aware,
    score_file,
)
from autokd.config import Config
from autokd.data import load_data, load_test
from autokd.distillation import Plan
from autokd.exporters import quantizing
from autokd.jobs import JobQueue, open_engine
from autokd.spaces import build_space
from autokd.study import calls, ray_crew
from autokd.study.calls import read_call, write_call
from autokd.study.crew import InlineCrew, Job
from autokd.study.orders import INT8, Bench, Order, carry_out
from autokd.study.ray_cluster import RayCluster
from autokd.study.ray_crew import RayCrew
from autokd.study.refits import Entry
from autokd.study.remote_crew import RemoteCrew
from autokd.study.teaching import Faculty
from autokd.study.worker import _Worker
from autokd.testing import FakeTarget
from autokd.types import TeacherCard, TrialResult

SAMPLE = {"depth_1": 1, "depth_2": 1, "depth_3": 1, "width_1": 8, "width_2": 16, "width_3": 32,
          "alpha": 0.0, "precision": "int8"}  # fmt: skip
CONFIG = Config(train_limit=400)


@pytest.fixture(scope="module")
def data():
    return load_data(CONFIG)


@pytest.fixture
def open_bench(data, tmp_path):
    """A bench with folders of its own, as each machine has one."""

    def open_bench(machine):
        home = tmp_path / machine
        workshop = Workshop(
            space=build_space(
                "mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10, precision="both"
            ),
            data=data,
            teachers={"teacher": KnownTeacher(network=nn.Identity())},
            target=FakeTarget(),
            plan=Plan(epochs=1, batch_size=32, seed=0, device=torch.device("cpu")),
            max_latency_ms=None,
            weights=home / "weights",
            checkpoints=CheckpointFolder(home / "checkpoints", limit_bytes=2**30),
        )
        return Bench(workshop=workshop, refits=home / "refits", test=lambda: load_test(CONFIG))

    return open_bench


@contextlib.contextmanager
def working(bench, folder, *, elsewhere):
    """A crew whose worker is another thread, and claims from a database."""
    engine = open_engine(f"sqlite:///{folder}/jobs.db")
    queue = JobQueue(engine)
    queue.open_study("s", "{}", files={})
    queue.greet("s", "w", slots=1)
    worker = _Worker(
        "w", "s", storage="sqlite://", queue=queue, bench=elsewhere, crew=InlineCrew(),
        say=lambda _: None,
    )  # fmt: skip
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    crew = RemoteCrew(queue, "s", bench=bench, lease_s=600.0)
    yield crew
    crew.dismiss()
    thread.join(60)
    engine.dispose()


class FakeRay:
    """What `RayCrew` and its tasks ask of Ray; a task is done as soon as it is sent."""

    exceptions = SimpleNamespace(
        RayTaskError=KeyError, WorkerCrashedError=KeyError, NodeDiedError=KeyError,
        OutOfMemoryError=KeyError,
    )  # fmt: skip

    def remote(self, **_):
        def wrap(made):
            call = _Actor if isinstance(made, type) else _Task
            return SimpleNamespace(
                options=lambda **_: SimpleNamespace(remote=lambda *words: call(made(*words)))
            )

        return wrap

    def put(self, value):
        return value

    def get(self, value, **_):
        return value.value if isinstance(value, _Task) else value

    def wait(self, tasks, **_):
        return tasks[:1], tasks[1:]

    def cluster_resources(self):
        return {"CPU": 1.0}

    def get_runtime_context(self):
        return SimpleNamespace(
            get_node_id=lambda: "here",
            get_assigned_resources=lambda: {"CPU": torch.get_num_threads()},
        )

    def kill(self, _):
        pass

    shutdown = dict


class _Task:
    def __init__(self, value):
        self.value = value


class _Actor:
    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return SimpleNamespace(remote=getattr(self._inner, name))


@contextlib.contextmanager
def tasking(bench, monkeypatch, *, elsewhere):
    """A crew of Ray tasks on a node that is this process, with folders of its own."""
    monkeypatch.setitem(sys.modules, "ray", FakeRay())
    monkeypatch.setattr(RayCluster, "on_node", lambda _, node: node)
    monkeypatch.setattr(ray_crew, "_open_bench", lambda _call, _weights: elsewhere)
    trial = {"num_cpus": 1.0, "num_gpus": 0.0}
    cluster = RayCluster(ray=FakeRay(), trial=trial)
    crew = RayCrew(cluster, bench=bench, call="{}", weights={})
    yield crew
    crew.dismiss()


@pytest.mark.parametrize("kind", ["remote", "ray"])
def test_what_is_scored_elsewhere_is_the_file_that_comes_here(
    kind, open_bench, tmp_path, monkeypatch
):
    here, there = open_bench("here"), open_bench("there")
    recipe = here.workshop.space.freeze(SAMPLE)[1]
    measured = TrialResult(trial=3, state="measured", sample=SAMPLE, network="n", recipe=recipe)
    opened = (
        working(here, tmp_path, elsewhere=there)
        if kind == "remote"
        else tasking(here, monkeypatch, elsewhere=there)
    )

    def train(crew, order):
        rows, done = [], None
        crew.start(Job(key=3, title=order.name, epochs=1, work=lambda _: None, order=order))
        while done is None:
            done = crew.wait(lambda _, row: rows.append(row.epoch))
        assert not done.fault
        return done.result, rows, here.files_of(order)[INT8]

    data = here.workshop.data
    with opened as crew:
        outcome, _, file = train(crew, Order(result=measured))
        result = outcome.result
        assert (result.state, result.precision) == ("complete", "int8")
        assert score_file(file, data.val_images, data.val_labels) == result.val_accuracy
        entry = Entry(trial=3, seed=1, is_twin=True, epochs=1)
        outcome, rows, file = train(crew, Order(result=result, refit=entry))
    refit, test = outcome.refit, here.test()
    assert rows == [row.epoch for row in refit.curve] == [1, 2], "one of them rounds"
    assert score_file(file, data.val_images, data.val_labels) == refit.val_accuracy
    assert score_file(file, test.images, test.labels) == refit.test_accuracy
    assert refit.engine == result.engine
    assert onnxruntime.InferenceSession(file).get_inputs()[0].name == "image"
    left = [path for path in (tmp_path / "there").rglob("*") if path.is_file()]
    assert left == [], "neither a worker nor a node keeps anything"


@pytest.mark.parametrize("bits", [7, 8])
def test_the_bits_are_those_of_where_it_is_deployed_not_of_who_trains(
    bits, open_bench, monkeypatch
):
    monkeypatch.setattr(quantizing, "safe_weight_bits", lambda: 15 - bits)
    monkeypatch.setattr(quantization_aware, "safe_weight_bits", lambda: 15 - bits)
    bench = open_bench("there")
    workshop = dataclasses.replace(bench.workshop, weight_bits=bits)
    bench = dataclasses.replace(bench, workshop=workshop)
    recipe = workshop.space.freeze(SAMPLE)[1]
    measured = TrialResult(trial=3, state="measured", sample=SAMPLE, network="n", recipe=recipe)
    result = carry_out(Order(result=measured), bench, lambda _: None).result
    entry = Entry(trial=3, seed=1, is_twin=True, epochs=1)
    made = Order(result=result, refit=entry)
    refit = carry_out(made, bench, lambda _: None).refit
    assert refit is not None
    for order in (Order(result=result), made):
        network = onnx.load(bench.files_of(order)[INT8])
        weights = [one for one in network.graph.initializer if one.data_type == TensorProto.INT8]
        largest = max(np.abs(numpy_helper.to_array(one).astype(int)).max() for one in weights)
        assert (largest <= 64) == (bits == 7)


def test_workers_are_told_the_bits_of_where_latencies_are_measured(data, monkeypatch):
    monkeypatch.setattr(calls, "safe_weight_bits", lambda: 7)
    space = build_space("mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10)
    card = TeacherCard(name="t", digest="d", n_params=1, val_accuracy=0.9, latency_ms=1.0)
    faculty = Faculty(
        teachers={}, card=card, models=(), training_s=0.0, accuracies={}, trained=(),
        latency_device="",
    )  # fmt: skip
    known = {"data": data.card, "space": space, "faculty": faculty}
    own = read_call(write_call(CONFIG, **known))
    of_node = read_call(write_call(CONFIG, **known, weight_bits=8))
    assert (own.weight_bits, of_node.weight_bits) == (7, 8)
