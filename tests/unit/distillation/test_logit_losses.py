import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from autokd.distillation import (
    adaptive_temperature,
    dist_loss,
    dkd_loss,
    multi_temperature_loss,
    soft_target_loss,
    standardise,
)

seeds, temperatures = st.integers(0, 999), st.floats(0.5, 20)
CLASSES = torch.arange(6) % 5
LOSSES = {
    "soft_targets": soft_target_loss,
    "dkd": partial(dkd_loss, target_classes=CLASSES, beta=8.0),
    "dist": dist_loss,
    "multi_temperature": multi_temperature_loss,
}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def draw(seed: int, rows: int = 6, classes: int = 5) -> torch.Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 999), st.floats(0.5, 20))
def test_a_student_that_says_what_the_teacher_says_has_no_loss(seed, temperature):
    logits = draw(seed)
    loss = soft_target_loss(logits, logits + 3.0, temperature=temperature)
    assert loss.item() == pytest.approx(0, abs=1e-4)


@given(st.integers(0, 999), st.floats(0.5, 20))
def test_the_soft_target_loss_is_never_negative(seed, temperature):
    assert soft_target_loss(draw(seed), draw(seed + 1), temperature=temperature) >= -1e-5


def test_it_is_hintons_formula_by_hand():
    student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    p = [1 / (1 + math.e), math.e / (1 + math.e)]  # teacher at temperature 2
    q = [math.exp(0.5) / (math.exp(0.5) + 1), 1 / (math.exp(0.5) + 1)]
    by_hand = 4 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert soft_target_loss(student, teacher, temperature=2.0).item() == pytest.approx(by_hand)


def test_the_gradient_keeps_its_size_as_the_temperature_grows():
    norms = []
    for temperature in (20.0, 80.0):
        student = draw(0).requires_grad_()
        soft_target_loss(student, draw(1), temperature=temperature).backward()
        norms.append(student.grad.norm().item())
    assert norms[0] == pytest.approx(norms[1], rel=0.1)


def test_only_the_student_gets_a_gradient_through_its_logits():
    student = draw(0).requires_grad_()
    soft_target_loss(student, draw(1), temperature=4.0).backward()
    assert torch.allclose(student.grad.sum(1), torch.zeros(6), atol=1e-6)


def test_a_teacher_batch_of_another_size_is_refused_and_not_broadcast():
    with pytest.raises(Exception, match="teacher_logits"):
        soft_target_loss(draw(0), draw(1, rows=1), temperature=4.0)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_the_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="temperature"):
        soft_target_loss(draw(0), draw(1), temperature=temperature)


@each_loss
@given(seeds, temperatures)
def test_each_loss_is_zero_where_both_say_the_same(loss, seed, temperature):
    logits = draw(seed)
    assert loss(logits, logits + 3.0, temperature=temperature).item() == pytest.approx(0, abs=2e-3)


@each_loss
@given(seeds, temperatures)
def test_no_loss_is_ever_negative(loss, seed, temperature):
    assert loss(draw(seed), draw(seed + 1), temperature=temperature) >= -1e-4


@each_loss
@given(seeds, st.floats(-50, 50))
def test_no_loss_looks_at_a_constant_added_to_the_logits(loss, seed, shift):
    student, teacher = draw(seed), draw(seed + 1)
    moved = loss(student + shift, teacher - shift, temperature=4.0)
    assert moved.item() == pytest.approx(loss(student, teacher, temperature=4.0).item(), rel=0.01)


@each_loss
def test_the_gradient_flows_into_the_student_only(loss):
    student, teacher = draw(0).requires_grad_(), draw(1).requires_grad_()
    loss(student, teacher, temperature=4.0).backward()
    assert student.grad.norm() > 0
    assert torch.allclose(student.grad.sum(1), torch.zeros(6), atol=1e-5)
    assert teacher.grad is None


@each_loss
@given(seeds, temperatures)
def test_a_temperature_for_each_picture_may_be_the_same_for_all(loss, seed, temperature):
    student, teacher = draw(seed), draw(seed + 1)
    single = loss(student, teacher, temperature=temperature)
    each = loss(student, teacher, temperature=torch.full((6, 1), temperature))
    assert each.item() == pytest.approx(single.item(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", ["soft_targets", "dkd", "multi_temperature"])
def test_a_temperature_for_each_picture_is_the_mean_of_their_losses(name):
    student, teacher, each = draw(0), draw(1), torch.linspace(1, 6, 6).view(6, 1)
    loss = LOSSES[name] if name != "dkd" else partial(dkd_loss, beta=8.0)
    rows = [
        loss(
            student[i : i + 1], teacher[i : i + 1], temperature=each[i].item(),
            **({"target_classes": CLASSES[i : i + 1]} if name == "dkd" else {}),
        )
        for i in range(6)
    ]  # fmt: skip
    together = LOSSES[name](student, teacher, temperature=each)
    assert together.item() == pytest.approx(torch.stack(rows).mean().item(), rel=1e-4)


@each_loss
def test_no_loss_broadcasts_a_teacher_batch_of_another_size(loss):
    with pytest.raises(Exception, match="teacher_logits"):
        loss(draw(0), draw(1, rows=1), temperature=4.0)


@each_loss
@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_every_temperature_must_be_positive(loss, temperature):
    with pytest.raises(ValueError, match="`temperature` must be positive"):
        loss(draw(0), draw(1), temperature=temperature)


@each_loss
def test_a_sure_teacher_gives_a_finite_loss_and_gradient(loss):
    student, teacher = draw(0).requires_grad_(), F.one_hot(CLASSES, 5).float() * 200
    value = loss(student, teacher, temperature=1.0)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


@given(seeds, temperatures)
def test_dkd_weighed_as_soft_targets_are_is_the_soft_target_loss(seed, temperature):
    student, teacher, classes = draw(seed, rows=1), draw(seed + 1, rows=1), torch.tensor([2])
    beta = 1 - (teacher / temperature).softmax(1)[0, 2].item()
    dkd = dkd_loss(student, teacher, target_classes=classes, temperature=temperature, beta=beta)
    soft = soft_target_loss(student, teacher, temperature=temperature)
    assert dkd.item() == pytest.approx(soft.item(), rel=1e-3, abs=1e-3)


def test_dkd_without_beta_looks_at_the_target_class_alone():
    teacher = draw(1)
    student = teacher.clone()
    student[:, 4] += 1.0
    student[:, 3] = (teacher[:, 3].exp() + teacher[:, 4].exp() - student[:, 4].exp()).log()
    rows = student[:, 3].isfinite()
    student, teacher = student[rows], teacher[rows]
    classes = torch.zeros(len(student), dtype=torch.int64)
    loss = partial(dkd_loss, student, teacher, target_classes=classes, temperature=1.0)
    assert loss(beta=0.0).item() == pytest.approx(0, abs=1e-5)
    assert loss(beta=1.0) > 0.01


def test_dkd_of_two_classes_is_the_soft_target_loss():
    student, teacher = draw(0, classes=2), draw(1, classes=2)
    dkd = dkd_loss(student, teacher, target_classes=CLASSES % 2, temperature=2.0, beta=8.0)
    assert dkd.item() == pytest.approx(
        soft_target_loss(student, teacher, temperature=2.0).item(), rel=1e-4
    )


@given(seeds, st.floats(0.1, 0.9))
def test_dist_is_zero_for_a_positive_affine_map_of_the_prediction(seed, share):
    teacher = draw(seed)
    flatter = (teacher.softmax(1) * share + (1 - share) / 5).log()
    assert dist_loss(flatter, teacher, temperature=1.0).item() == pytest.approx(0, abs=1e-3)
    assert soft_target_loss(flatter, teacher, temperature=1.0) > 1e-5


def test_dist_is_the_authors_formula_by_hand():
    student, teacher = draw(0), draw(1)
    p, q = (student / 4).softmax(1), (teacher / 4).softmax(1)
    rows = [1 - torch.corrcoef(torch.stack((a, b)))[0, 1] for a, b in zip(p, q, strict=True)]
    columns = [1 - torch.corrcoef(torch.stack((a, b)))[0, 1] for a, b in zip(p.T, q.T, strict=True)]
    by_hand = 16 * (2 * torch.stack(rows).mean() + 2 * torch.stack(columns).mean())
    assert dist_loss(student, teacher, temperature=4.0).item() == pytest.approx(by_hand.item())


def test_dist_of_one_picture_looks_at_its_classes_alone():
    logits = draw(0, rows=1)
    assert dist_loss(logits, logits, temperature=4.0).item() == pytest.approx(0, abs=1e-4)


def test_several_temperatures_are_two_to_six_around_four():
    student, teacher = draw(0), draw(1)
    mean = sum(soft_target_loss(student, teacher, temperature=float(t)) for t in range(2, 7)) / 5
    loss = multi_temperature_loss(student, teacher, temperature=4.0)
    assert loss.item() == pytest.approx(mean.item())


@given(seeds, st.floats(0.1, 30), st.floats(-30, 30))
def test_standardised_logits_have_no_scale_and_no_shift(seed, scale, shift):
    logits = draw(seed)
    standard = standardise(logits * scale + shift)
    assert torch.allclose(standard.mean(1), torch.zeros(6), atol=1e-4)
    assert torch.allclose(standard.std(1), torch.ones(6), atol=1e-3)
    assert torch.allclose(standard, standardise(logits), atol=5e-3)


def test_equal_logits_are_standardised_to_zero_with_a_finite_gradient():
    logits = torch.full((2, 5), 3.0, requires_grad=True)
    standard = standardise(logits)
    standard.square().sum().backward()
    assert torch.equal(standard, torch.zeros(2, 5))
    assert logits.grad.isfinite().all()


@given(seeds, st.floats(0.1, 20), st.floats(1, 20))
def test_an_adaptive_temperature_lies_between_one_and_the_temperature(seed, scale, temperature):
    each = adaptive_temperature(draw(seed) * scale, temperature)
    assert each.shape == (6, 1)
    assert each.min() >= 1
    assert each.max() <= temperature + 1e-5


def test_a_sure_teacher_is_softened_by_all_of_the_temperature_an_unsure_one_not():
    logits = torch.tensor([[100.0, 0.0, 0.0], [1.0, 1.0, 1.0], [2.0, 0.0, 0.0]])
    sure, unsure, between = adaptive_temperature(logits, 4.0).flatten().tolist()
    assert sure == pytest.approx(4.0)
    assert unsure == pytest.approx(1.0, abs=1e-5)
    assert 1 < between < 4
