import dataclasses
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from autokd.data import build_augmentation
from autokd.distillation import (
    Engine,
    LiveTeacher,
    Plan,
    Student,
    Teaching,
    clamp_threads,
    count_cores,
    distill,
    evaluate,
    measure_engine,
)
from autokd.distillation import engine as engine_module
from autokd.errors import BuildError, DivergedError
from autokd.types import Recipe

CPU = torch.device("cpu")
PLAIN = Recipe(alpha=0.0, alpha_end=0.0, augmentation="none", learning_rate=0.01)


def make_data(n: int = 96) -> SimpleNamespace:
    """Two classes that differ in brightness."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    noise = torch.randint(0, 100, (n, 1, 4, 4), generator=generator)
    images = (noise + labels.view(-1, 1, 1, 1) * 120).to(torch.uint8)
    cut = n * 3 // 4
    return SimpleNamespace(
        train_images=images[:cut], train_labels=labels[:cut],
        val_images=images[cut:], val_labels=labels[cut:],
    )  # fmt: skip


def make_student(seed: int = 0) -> Student:
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)
    )
    return Student(network, mean=[0.4], std=[0.3])


def run(
    student, recipe=PLAIN, *, teacher=None, epochs=4, data=None, engine=None, cores=None, **options
):
    data = data or make_data()
    return distill(
        student,
        data,
        recipe=recipe,
        plan=Plan(epochs=epochs, batch_size=16, seed=0, device=CPU, engine=engine, cores=cores),
        augment=augment(recipe, data),
        teaching=Teaching(logits=None if teacher is None else LiveTeacher(teacher)),
        **options,
    )


def augment(recipe, data):
    n_pictures = len(data.train_images)
    return build_augmentation(recipe, n_classes=2, n_pictures=n_pictures, seed=0)


class SayZero(nn.Module):
    """A teacher that is always sure of class 0, and counts how often it is asked."""

    def __init__(self):
        super().__init__()
        self.views = []

    def forward(self, views):
        self.views.append(views.clone())
        return torch.tensor([[8.0, 0.0]]).expand(len(views), 2)


def test_a_student_learns_from_labels():
    training = run(make_student(), epochs=6)
    assert training.val_accuracy >= 0.95
    assert len(training.curve) == 6
    assert training.curve[-1].train_loss < training.curve[0].train_loss


def test_a_student_learns_what_the_teacher_says_even_against_the_labels():
    student, recipe = make_student(), Recipe(alpha=1.0, alpha_end=1.0, augmentation="none")
    run(student, recipe, teacher=SayZero(), epochs=8)
    data = make_data()
    engine = Engine(device=CPU)
    _, accuracy = evaluate(
        student, data.val_images, torch.zeros_like(data.val_labels), engine=engine
    )
    assert accuracy >= 0.9


@pytest.mark.parametrize("loss", ["dkd", "dist", "multi_temperature"])
def test_a_student_learns_from_every_loss_on_logits(loss):
    recipe = Recipe(
        loss=loss, is_standardised=True, is_adaptive=True, alpha_schedule="warm_up",
        teacher_confidence=0.5, augmentation="none",
    )  # fmt: skip
    student, teacher = make_student(), make_student(seed=1)
    run(teacher, epochs=6)
    assert run(student, recipe, teacher=teacher, epochs=6).val_accuracy >= 0.9


def test_cross_entropy_never_asks_the_teacher():
    teacher = SayZero()
    recipe = Recipe(loss="cross_entropy", augmentation="none")
    run(make_student(), recipe, teacher=teacher, epochs=1)
    assert teacher.views == []
    run(make_student(), recipe, epochs=1)


def test_alpha_zero_never_asks_the_teacher():
    teacher = SayZero()
    run(make_student(), PLAIN, teacher=teacher, epochs=1)
    assert teacher.views == []


def test_teacher_and_student_see_the_same_view():
    seen = []
    student = make_student()
    student.register_forward_pre_hook(
        lambda module, arguments: seen.append(arguments[0].clone()) if module.training else None
    )
    teacher = SayZero()
    recipe = Recipe(augmentation="crop", mix="mixup", mix_alpha=1.0)
    run(student, recipe, teacher=teacher, epochs=1)
    steps = seen[-len(teacher.views) :]
    assert all(torch.equal(a, b) for a, b in zip(steps, teacher.views, strict=True))


def test_the_same_seed_gives_the_same_student():
    accuracies, weights = [], []
    for _ in range(2):
        student = make_student()
        curve = run(student, epochs=2).curve
        accuracies.append([row.val_accuracy for row in curve])
        weights.append(student.state_dict())
    assert accuracies[0] == accuracies[1]


def test_the_best_epoch_is_kept():
    student = make_student()
    training = run(student, epochs=5)
    data = make_data()
    _, accuracy = evaluate(student, data.val_images, data.val_labels, engine=Engine(device=CPU))
    assert accuracy == pytest.approx(max(row.val_accuracy for row in training.curve), abs=0.05)


def test_a_loss_that_is_not_finite_is_a_divergence():
    recipe = Recipe(
        alpha=0.0, alpha_end=0.0, augmentation="none", optimiser="sgd", learning_rate=100.0
    )

    class Explode(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(1.0))

        def forward(self, views):
            return views.flatten(1)[:, :2] * self.scale / 0.0

    with pytest.raises(DivergedError, match="epoch 1 of 3"):
        run(Student(Explode(), mean=[0.0], std=[1.0]), recipe, epochs=3)


def test_distillation_without_a_teacher_is_refused():
    with pytest.raises(ValueError, match="teaching"):
        run(make_student(), Recipe())


def test_each_epoch_is_told():
    rows = []
    run(make_student(), epochs=3, on_epoch=rows.append)
    assert [row.epoch for row in rows] == [1, 2, 3]


def test_fewer_pictures_than_a_batch_are_one_batch():
    assert len(run(make_student(), epochs=1, data=make_data(8)).curve) == 1


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


def make_depthwise(*, stride):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, padding=1),
        Watched(8, 8, 3, stride=stride, padding=1, groups=8),
        torch.nn.Flatten(),
        torch.nn.LazyLinear(2),
    )


@pytest.mark.parametrize(("stride", "dtype"), [(1, torch.bfloat16), (2, torch.float32)])
def test_only_depthwise_convolutions_with_strides_stay_in_full_precision(stride, dtype):
    network, views = make_depthwise(stride=stride), torch.rand(4, 1, 8, 8)
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
def test_the_same_loop_trains_on_cuda():
    data = make_data()
    training = distill(
        make_student(),
        data,
        recipe=PLAIN,
        plan=Plan(epochs=6, batch_size=16, seed=0, device=torch.device("cuda")),
        augment=augment(PLAIN, data),
        teaching=Teaching(),
    )
    assert training.val_accuracy >= 0.95


class AnySize(nn.Module):
    """Takes pictures of any size, and remembers the sizes that it was trained on."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)
        self.sizes = []

    def forward(self, views):
        if self.training:
            self.sizes.append(tuple(views.shape[2:]))
        return self.head(self.conv(views).relu().mean((2, 3)))


def test_a_student_sees_smaller_pictures_first():
    network = AnySize()
    recipe = dataclasses.replace(PLAIN, resizing="progressive")
    run(Student(network, mean=[0.4], std=[0.3]), recipe, epochs=5)
    steps = [size for size in network.sizes if size != (4, 4)]
    assert set(steps) == {(2, 2), (3, 3)}
    assert network.sizes[-1] == (4, 4)


def test_a_student_of_one_size_cannot_be_resized():
    recipe = dataclasses.replace(PLAIN, resizing="progressive")
    with pytest.raises(BuildError, match="pass --fix resizing=none"):
        run(make_student(), recipe)


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


@pytest.mark.parametrize(("epochs", "n"), [(9, 22), (3, 64), (1, 192)])
def test_any_number_of_steps_has_a_schedule(epochs, n):
    training = run(make_student(), epochs=epochs, data=make_data(n))
    assert len(training.curve) == epochs
