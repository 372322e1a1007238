import dataclasses
import time
from types import SimpleNamespace

import pytest
import torch

from autokd.distillation import (
    Engine,
    Plan,
    Student,
    Teaching,
    clamp_threads,
    count_cores,
    distill,
    measure_engine,
)
from autokd.distillation import engine as engine_module
from tests.unit.distillation.trainings import (
    CPU,
    PLAIN,
    AnySize,
    augment,
    make_data,
    make_student,
    run,
)


def test_measuring_the_engine_does_not_change_the_student():
    student = make_student()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    engine = measure_engine(student, torch.rand(16, 1, 4, 4), n_classes=2, device=CPU)
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    assert engine.threads == 1
    assert "cpu" in str(engine)


class Recorder:
    """Stands for CUDA graphs: the network as it is, run thrice first, and counted."""

    def __init__(self, monkeypatch, *, seconds=0.0):
        self.n_steps, self.n_recordings, self.seconds = 0, 0, seconds
        monkeypatch.setattr(torch.cuda, "make_graphed_callables", self.record)
        monkeypatch.setattr(engine_module, "_can_record", lambda _: True)

    def record(self, network, sample):
        self.n_recordings += 1
        assert network.training
        for _ in range(3):
            network(*sample)

        def step(views):
            self.n_steps += 1
            time.sleep(self.seconds)
            return network(views)

        return step


def measured(*, n_steps):
    views = torch.rand(16, 1, 4, 4)
    return measure_engine(make_student(), views, n_classes=2, device=CPU, n_steps=n_steps)


def test_steps_are_recorded_where_that_pays_back(monkeypatch):
    Recorder(monkeypatch)
    times = iter([5.0, 4.0, 1.0])  # the last one is the recorded one's
    monkeypatch.setattr(engine_module, "_has_bf16", lambda _: False)
    monkeypatch.setattr(engine_module, "_time_steps", lambda *_, **__: next(times))
    engine = measured(n_steps=100)
    assert engine.is_graphed
    assert engine.is_channels_last


def test_steps_are_not_recorded_where_that_does_not_pay_back(monkeypatch):
    recorder = Recorder(monkeypatch, seconds=0.02)
    assert not measured(n_steps=100).is_graphed
    assert recorder.n_steps == 3
    assert not measured(n_steps=0).is_graphed
    assert recorder.n_steps == 3


def test_a_student_that_cannot_be_recorded_is_trained_as_it_is(monkeypatch):
    Recorder(monkeypatch)

    def refuse(*_, **__):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", refuse)
    assert not measured(n_steps=100).is_graphed


def test_recorded_steps_are_those_of_training_and_not_of_validation(monkeypatch):
    recorder = Recorder(monkeypatch)
    engine = Engine(device=CPU, is_graphed=True)
    training = run(make_student(), epochs=3, engine=engine)
    n_steps = len(make_data().train_images) // 16
    assert recorder.n_steps == 3 * n_steps
    assert recorder.n_recordings == 1
    assert training.engine == engine


def test_recording_changes_nothing_of_the_student(monkeypatch):
    Recorder(monkeypatch)
    plain, recorded = make_student(), make_student()
    for student, is_graphed in ((plain, False), (recorded, True)):
        run(student, epochs=2, engine=Engine(device=CPU, is_graphed=is_graphed))
    for name, value in plain.state_dict().items():
        assert torch.equal(value, recorded.state_dict()[name]), name


def test_a_student_that_sees_pictures_of_many_sizes_is_not_recorded(monkeypatch):
    recorder = Recorder(monkeypatch)
    recipe = dataclasses.replace(PLAIN, resizing="progressive")
    student = Student(AnySize(), mean=[0.5], std=[0.25])
    training = run(student, recipe, epochs=1, engine=Engine(device=CPU, is_graphed=True))
    assert not training.engine.is_graphed
    assert recorder.n_recordings == 0


class Watched(torch.nn.Conv2d):
    """A convolution that tells in which precision it was computed."""

    def forward(self, maps):
        out = super().forward(maps)
        self.dtypes = (*getattr(self, "dtypes", ()), out.dtype)
        return out


def make_depthwise(*, kernel=3, **options):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, padding=1),
        Watched(8, 8, kernel, padding=1, groups=8, **options),
        torch.nn.Flatten(),
        torch.nn.LazyLinear(2),
    )


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({}, torch.bfloat16),
        ({"stride": 2}, torch.float32),
        ({"kernel": 5}, torch.float32),
        ({"dilation": (1, 2)}, torch.float32),
    ],
)
def test_only_plain_depthwise_convolutions_are_in_half_precision(options, dtype):
    network, views = make_depthwise(**options), torch.rand(4, 1, 8, 8)
    engine = Engine(device=CPU, is_bf16=True)
    step = engine.build_step(network, views)
    with engine.precision():
        logits = step(views)
        network(views)  # as validation does
    assert network[1].dtypes == (dtype, torch.bfloat16)
    assert logits.dtype == torch.bfloat16
    logits.float().sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_a_student_that_fails_in_a_step_is_left_as_it_was():
    network = make_depthwise(stride=2)
    engine = Engine(device=CPU, is_bf16=True)
    step = engine.build_step(network, torch.rand(4, 1, 8, 8))
    with engine.precision():
        step(torch.rand(4, 1, 8, 8))
        with pytest.raises(RuntimeError):
            step(torch.rand(4, 2, 8, 8))
    assert not any("forward" in vars(module) for module in network.modules())


@pytest.mark.parametrize("is_graphed", [False, True])
def test_an_engine_is_read_as_it_was_written(is_graphed):
    for engine in (
        Engine(device=CPU, threads=2, is_channels_last=True, is_graphed=is_graphed),
        Engine(device=torch.device("cuda"), is_bf16=True, is_graphed=is_graphed),
    ):
        assert Engine.parse(str(engine)) == engine


@pytest.fixture
def pinned(monkeypatch):
    """This process may use three cores."""
    monkeypatch.setattr(engine_module.os, "sched_getaffinity", lambda _: {1, 4, 5}, raising=False)


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize(
    ("threads", "cores", "expected"),
    [(1, None, 1), (3, None, 3), (16, None, 3), (16, 2, 2), (16, 64, 3), (2, 0, 1)],
)
def test_an_engine_has_no_more_threads_than_there_are_cores(threads, cores, expected):
    engine = Engine(device=CPU, threads=threads, is_bf16=True, is_channels_last=True)
    clamped = clamp_threads(engine, cores=cores)
    assert clamped == dataclasses.replace(engine, threads=expected)
    assert clamp_threads(clamped, cores=cores) == clamped
    assert expected <= count_cores(cores) <= 3


@pytest.mark.usefixtures("pinned")
def test_an_engine_of_more_cores_is_trained_on_those_of_this_process():
    engine = Engine(device=CPU, threads=16, is_channels_last=True)
    kept = []
    keeper = SimpleNamespace(load=lambda: kept[-1] if kept else None, save=kept.append)
    first = run(make_student(), epochs=2, engine=engine, keeper=keeper, on_epoch=lambda _: False)
    assert str(first.engine) == "fp32 channels_last cpu x3"
    kept.append(dataclasses.replace(kept.pop(), engine=str(engine)))
    again = run(make_student(), epochs=2, keeper=keeper)
    assert str(again.engine) == "fp32 channels_last cpu x3"
    assert len(again.curve) == 2


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize(("cores", "threads"), [(None, 3), (2, 2), (1, 1)])
def test_a_training_keeps_to_the_cores_of_its_plan(cores, threads, monkeypatch):
    def time_steps(*_, engine, **__):
        return 8.0 / engine.threads  # the more threads the better

    monkeypatch.setattr(engine_module, "_time_steps", time_steps)
    assert run(make_student(), epochs=1, cores=cores).engine.threads == threads
    known = Engine(device=CPU, threads=16)
    assert run(make_student(), epochs=1, engine=known, cores=cores).engine.threads == threads


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_recorded_steps_on_cuda_are_the_steps_as_they_are():
    losses = []
    for is_graphed in (False, True):
        device = torch.device("cuda")
        engine = Engine(device=device, is_graphed=is_graphed)
        data = make_data()
        training = distill(
            make_student(),
            data,
            recipe=PLAIN,
            plan=Plan(epochs=2, batch_size=16, seed=0, device=device, engine=engine),
            augment=augment(PLAIN, data),
            teaching=Teaching(),
        )
        losses.append([row.train_loss for row in training.curve])
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
