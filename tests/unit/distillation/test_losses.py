import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from autokd.distillation import (
    adaptive_temperature,
    consensus_loss,
    dist_loss,
    distillation_loss,
    dkd_loss,
    label_loss,
    multi_temperature_loss,
    soft_target_loss,
    teacher_loss,
)
from autokd.types import Recipe

LOSSES = ["soft_targets", "dkd", "dist", "multi_temperature"]
TARGETS = F.one_hot(torch.arange(6) % 5, 5).float()


def draw(seed: int, rows: int = 6, classes: int = 5) -> torch.Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))


def test_alpha_goes_from_the_labels_to_the_teacher():
    student, teacher = draw(0), draw(1)
    targets = TARGETS
    losses = {
        alpha: distillation_loss(
            student, targets, teacher_logits=teacher, recipe=Recipe(), alpha=alpha, temperature=4.0
        ).item()
        for alpha in (0.0, 0.5, 1.0)
    }
    assert losses[0.0] == pytest.approx(label_loss(student, targets).item())
    assert losses[1.0] == pytest.approx(soft_target_loss(student, teacher, temperature=4.0).item())
    assert losses[0.5] == pytest.approx((losses[0.0] + losses[1.0]) / 2)


def test_alpha_must_be_a_share_and_needs_a_teacher():
    targets = torch.full((6, 5), 0.2)
    options = {"recipe": Recipe(), "temperature": 1.0}
    with pytest.raises(ValueError, match="alpha"):
        distillation_loss(draw(0), targets, teacher_logits=draw(1), alpha=1.5, **options)
    with pytest.raises(ValueError, match="teacher"):
        distillation_loss(draw(0), targets, teacher_logits=None, alpha=0.5, **options)


PRIOR = torch.tensor([0.6, 0.2, 0.1, 0.09, 0.01]).log()
HALF = torch.cat([TARGETS[:2], torch.zeros(4, 5)])


def hear(student, targets, teacher, **fields):
    options = {"alpha": 0.5, "temperature": 1.0, "log_prior": PRIOR, **fields}
    recipe = Recipe(loss=options.pop("loss", "soft_targets"))
    return consensus_loss(student, targets, teacher_logits=teacher, recipe=recipe, **options)


@pytest.mark.parametrize("loss", LOSSES)
def test_pictures_with_a_label_are_taught_as_without_a_consensus(loss):
    student = draw(0)
    alone = label_loss(student, TARGETS, log_prior=PRIOR)
    assert hear(student, TARGETS, draw(1), loss=loss) == alone
    assert hear(student, TARGETS, None, loss=loss, alpha=0.0) == alone
    # Whatever a teacher would say of the first two, which have a label, is not heard.
    other = torch.cat([draw(2)[:2], draw(1)[2:]])
    assert hear(student, HALF, draw(1), loss=loss) == hear(student, HALF, other, loss=loss)


def test_a_consensus_weighs_alpha_times_the_share_of_its_pictures():
    student, teacher = draw(0), draw(1)
    soft = soft_target_loss(student[2:], teacher[2:], temperature=1.0)
    hard = label_loss(student[:2], TARGETS[:2], log_prior=PRIOR)
    share = 0.5 * 4 / 6
    assert hear(student, HALF, teacher) == pytest.approx(share * soft + (1 - share) * hard)
    none = torch.zeros(6, 5)
    heard = hear(student, none, teacher)
    assert heard == pytest.approx(0.5 * soft_target_loss(student, teacher, temperature=1.0))


def test_two_mixed_pictures_are_taught_by_the_one_of_the_larger_share():
    student, teacher = draw(0), draw(1)
    for ratio in (0.4, 0.6):
        mixed = torch.cat([TARGETS[:2] * ratio, torch.zeros(4, 5)])
        changed = torch.cat([teacher[:2] + draw(2)[:2], teacher[2:]])
        is_alike = hear(student, mixed, teacher) == hear(student, mixed, changed)
        assert is_alike == (ratio > 0.5)


def ask(student, teacher, targets=TARGETS, *, temperature=4.0, **fields):
    return teacher_loss(
        student, teacher, targets=targets, recipe=Recipe(**fields), temperature=temperature
    )


def test_the_recipe_chooses_the_loss():
    student, teacher = draw(0), draw(1)
    expected = {
        "soft_targets": soft_target_loss(student, teacher, temperature=4.0),
        "dkd": dkd_loss(
            student, teacher, target_classes=TARGETS.argmax(1), temperature=4.0, beta=2.0
        ),
        "dist": dist_loss(student, teacher, temperature=4.0),
        "multi_temperature": multi_temperature_loss(student, teacher, temperature=4.0),
    }
    for name, loss in expected.items():
        assert ask(student, teacher, loss=name, dkd_beta=2.0).item() == pytest.approx(loss.item())


def test_cross_entropy_does_not_listen_to_the_teacher():
    with pytest.raises(ValueError, match="cross_entropy"):
        ask(draw(0), draw(1), loss="cross_entropy")


@pytest.mark.parametrize("loss", LOSSES)
@given(st.integers(0, 999), st.floats(0.2, 20), st.floats(-9, 9))
def test_a_standardised_loss_looks_at_no_scale_and_no_shift(loss, seed, scale, shift):
    student, teacher, fields = draw(seed), draw(seed + 1), {"loss": loss, "is_standardised": True}
    plain = ask(student, teacher, **fields).item()
    assert ask(student * scale + shift, teacher, **fields).item() == pytest.approx(plain, rel=0.01)
    assert ask(student, teacher * scale + shift, **fields).item() == pytest.approx(plain, rel=0.01)


def test_an_adaptive_loss_has_the_temperature_of_each_picture():
    student, teacher = draw(0), draw(1)
    each = adaptive_temperature(teacher, 4.0)
    assert ask(student, teacher, is_adaptive=True).item() == pytest.approx(
        soft_target_loss(student, teacher, temperature=each).item()
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_pictures_of_which_the_teacher_is_unsure_are_left_out(loss):
    student, teacher = draw(0), draw(1)
    teacher[:3] = 0.0
    teacher[3:, 1] = 9.0
    fields = {"loss": loss, "is_standardised": True, "is_adaptive": True}
    some = ask(student, teacher, teacher_confidence=0.5, **fields)
    assert some.item() == pytest.approx(ask(student[3:], teacher[3:], TARGETS[3:], **fields).item())


@pytest.mark.parametrize("loss", LOSSES)
def test_a_teacher_that_is_sure_of_nothing_gives_a_zero_that_can_be_stepped(loss):
    student = draw(0).requires_grad_()
    value = ask(student, torch.zeros(6, 5), loss=loss, teacher_confidence=0.5)
    value.backward()
    assert value.item() == 0
    assert torch.equal(student.grad, torch.zeros(6, 5))


def test_pictures_without_a_label_are_left_out_of_the_labels_loss():
    student, targets = draw(0), TARGETS.clone()
    targets[4:] = 0
    assert label_loss(student, targets).item() == pytest.approx(
        F.cross_entropy(student[:4], targets[:4]).item()
    )


def test_without_any_label_the_labels_loss_is_a_zero_that_can_be_stepped():
    student = draw(0).requires_grad_()
    value = label_loss(student, torch.zeros(6, 5))
    value.backward()
    assert value.item() == 0
    assert torch.equal(student.grad, torch.zeros(6, 5))


def test_mixed_and_smoothed_labels_are_a_plain_cross_entropy():
    student, targets = draw(0), draw(1).softmax(1)
    assert label_loss(student, targets).item() == pytest.approx(
        F.cross_entropy(student, targets).item()
    )


@pytest.mark.parametrize(
    ("shares", "classes_of_labels"),
    [
        ({(0, 3): 0.6, (0, 1): 0.4}, {0: 3}),
        ({(0, 3): 0.05, (1, 3): 0.55}, {1: 3}),  # the rest of these mixtures has no label
    ],
)
def test_dkd_takes_the_largest_label_and_the_teachers_where_more_has_none(
    shares, classes_of_labels
):
    student, teacher, targets = draw(0), draw(1), torch.zeros(6, 5)
    for place, share in shares.items():
        targets[place] = share
    classes = teacher.argmax(1)
    for row, label in classes_of_labels.items():
        classes[row] = label
    assert ask(student, teacher, targets, loss="dkd").item() == pytest.approx(
        dkd_loss(student, teacher, target_classes=classes, temperature=4.0, beta=8.0).item()
    )


def test_a_prior_that_knows_nothing_changes_nothing():
    student = draw(0)
    even = torch.full((5,), 0.2).log()
    assert label_loss(student, TARGETS, log_prior=even).item() == pytest.approx(
        label_loss(student, TARGETS).item()
    )


def test_a_student_that_says_what_is_left_beside_the_prior_has_nothing_to_learn():
    # Labels are drawn as the prior says, whatever the picture: the balanced answer is none.
    prior = torch.tensor([0.6, 0.2, 0.1, 0.06, 0.04])
    undecided = torch.zeros(1, 5, requires_grad=True)
    label_loss(undecided, prior[None], log_prior=prior.log()).backward()
    assert undecided.grad == pytest.approx(torch.zeros(1, 5), abs=1e-6)
    label_loss(undecided, prior[None]).backward()
    assert undecided.grad[0, 0] < -0.1
