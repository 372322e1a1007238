import dataclasses
import time
from functools import partial
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


def run(student, recipe=PLAIN, *, teacher=None, epochs=4, data=None, engine=None, **options):
    data = data or make_data()
    return distill(
        student,
        data,
        recipe=recipe,
        plan=Plan(epochs=epochs, batch_size=16, seed=0, device=CPU, engine=engine),
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


class Compiled:
    """Stands for torch.compile: the network as it is, and how often it was called."""

    def __init__(self, monkeypatch, *, seconds=0.0):
        self.n_steps, self.seconds = 0, seconds
        monkeypatch.setattr(torch, "compile", self.compile)
        monkeypatch.setattr(engine_module, "_can_compile", lambda _: True)
        monkeypatch.setattr(engine_module, "_WORTH_COMPILING_S", 0.0)

    def compile(self, network, **_):
        def step(views):
            self.n_steps += 1
            time.sleep(self.seconds)
            return network(views)

        return step


def measured(*, n_steps):
    views = torch.rand(16, 1, 4, 4)
    return measure_engine(make_student(), views, n_classes=2, device=CPU, n_steps=n_steps)


def test_a_student_is_compiled_where_that_pays_back(monkeypatch):
    Compiled(monkeypatch)
    times = iter([5.0, 4.0, 1.0])  # the last one is the compiled one's
    monkeypatch.setattr(engine_module, "_has_bf16", lambda _: False)
    monkeypatch.setattr(engine_module, "_time_steps", lambda *_, **__: next(times))
    engine = measured(n_steps=100)
    assert engine.is_compiled
    assert engine.is_channels_last


def test_a_student_is_not_compiled_where_it_does_not_pay_back(monkeypatch):
    compiled = Compiled(monkeypatch, seconds=0.02)
    assert not measured(n_steps=100).is_compiled
    assert compiled.n_steps == 3
    assert not measured(n_steps=0).is_compiled
    assert compiled.n_steps == 3


def test_a_student_that_cannot_be_compiled_is_trained_as_it_is(monkeypatch):
    Compiled(monkeypatch)

    def refuse(*_, **__):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: refuse)
    assert not measured(n_steps=100).is_compiled


def test_a_compiled_engine_runs_the_steps_and_not_the_validation(monkeypatch):
    compiled = Compiled(monkeypatch)
    engine = Engine(device=CPU, is_compiled=True)
    training = run(make_student(), epochs=3, engine=engine)
    n_steps = len(make_data().train_images) // 16
    assert compiled.n_steps == 3 * n_steps
    assert training.engine == engine


def test_a_compiled_student_learns_as_much(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(compile_like_a_graph, torch.compile))
    network = make_student().network  # the types of Student.forward are checked here
    training = run(network, epochs=6, engine=Engine(device=CPU, is_compiled=True))
    assert training.val_accuracy >= 0.95


def compile_like_a_graph(compile_network, network, *, mode, dynamic):
    """Torch's own, without the code generator, which needs a compiler or a GPU."""
    assert mode == "reduce-overhead"
    return compile_network(network, backend="aot_eager", dynamic=dynamic)


def test_a_student_that_sees_pictures_of_many_sizes_is_not_compiled(monkeypatch):
    compiled = Compiled(monkeypatch)
    recipe = dataclasses.replace(PLAIN, resizing="progressive")
    student = Student(AnySize(), mean=[0.5], std=[0.25])
    training = run(student, recipe, epochs=1, engine=Engine(device=CPU, is_compiled=True))
    assert not training.engine.is_compiled
    assert compiled.n_steps == 0


@pytest.mark.parametrize("is_compiled", [False, True])
def test_an_engine_is_read_as_it_was_written(is_compiled):
    for engine in (
        Engine(device=CPU, threads=2, is_channels_last=True, is_compiled=is_compiled),
        Engine(device=torch.device("cuda"), is_bf16=True, is_compiled=is_compiled),
    ):
        assert Engine.parse(str(engine)) == engine


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
