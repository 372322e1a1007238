import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autokd.distillation import distillation_loss, label_loss, soft_target_loss


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


def test_alpha_goes_from_the_labels_to_the_teacher():
    student, teacher = draw(0), draw(1)
    targets = torch.nn.functional.one_hot(torch.arange(6) % 5, 5).float()
    losses = {
        alpha: distillation_loss(
            student, targets, teacher_logits=teacher, alpha=alpha, temperature=4.0
        ).item()
        for alpha in (0.0, 0.5, 1.0)
    }
    assert losses[0.0] == pytest.approx(label_loss(student, targets).item())
    assert losses[1.0] == pytest.approx(soft_target_loss(student, teacher, temperature=4.0).item())
    assert losses[0.5] == pytest.approx((losses[0.0] + losses[1.0]) / 2)


def test_a_teacher_batch_of_another_size_is_refused_and_not_broadcast():
    with pytest.raises(Exception, match="teacher_logits"):
        soft_target_loss(draw(0), draw(1, rows=1), temperature=4.0)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_the_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="temperature"):
        soft_target_loss(draw(0), draw(1), temperature=temperature)


def test_alpha_must_be_a_share_and_needs_a_teacher():
    targets = torch.full((6, 5), 0.2)
    with pytest.raises(ValueError, match="alpha"):
        distillation_loss(draw(0), targets, teacher_logits=draw(1), alpha=1.5, temperature=1.0)
    with pytest.raises(ValueError, match="teacher"):
        distillation_loss(draw(0), targets, teacher_logits=None, alpha=0.5, temperature=1.0)
