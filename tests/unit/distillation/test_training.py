import dataclasses

import pytest
import torch
from torch import nn

from autokd.distillation import (
    Engine,
    Plan,
    Student,
    Teaching,
    distill,
    evaluate,
)
from autokd.errors import BuildError, DivergedError
from autokd.types import Recipe
from tests.unit.distillation.trainings import (
    CPU,
    PLAIN,
    AnySize,
    augment,
    make_data,
    make_student,
    run,
)


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


@pytest.mark.parametrize(("epochs", "n"), [(9, 22), (3, 64), (1, 192)])
def test_any_number_of_steps_has_a_schedule(epochs, n):
    training = run(make_student(), epochs=epochs, data=make_data(n))
    assert len(training.curve) == epochs


def test_a_balanced_recipe_does_not_push_a_rare_class_down():
    data = make_data(1280)
    data.train_images = torch.full_like(data.train_images, 128)  # nothing to be seen in them
    data.train_labels = (torch.arange(len(data.train_labels)) % 8 == 0).long()
    shares = []
    for is_balanced in (False, True):
        student = make_student()  # of one epoch, so that no validation chooses
        run(student, dataclasses.replace(PLAIN, is_balanced=is_balanced), data=data, epochs=1)
        with torch.no_grad():
            shares.append(student(data.train_images[:1].float() / 255).softmax(1)[0, 1].item())
    assert shares[0] < 0.3
    assert shares[1] == pytest.approx(0.5, abs=0.12)
