import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autokd.distillation.feature_losses import (
    angle_loss,
    attention_loss,
    contrastive_loss,
    distance_loss,
    fsp_loss,
    fsp_matrix,
    hint_loss,
)

MAPS, ROWS = (4, 3, 5, 5), (6, 8)
seeds = st.integers(0, 999)


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def flow_loss(student, teacher):
    return fsp_loss(fsp_matrix(student, student), fsp_matrix(teacher, teacher))


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        (hint_loss, MAPS), (attention_loss, MAPS), (flow_loss, MAPS),
        (distance_loss, ROWS), (angle_loss, ROWS),
    ],
)  # fmt: skip
def test_equal_features_have_no_loss_and_others_have(loss, shape):
    assert loss(draw(0, *shape), draw(0, *shape)).item() == 0
    assert loss(draw(0, *shape), draw(1, *shape)).item() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        (hint_loss, MAPS), (attention_loss, MAPS), (flow_loss, MAPS),
        (distance_loss, ROWS), (angle_loss, ROWS), (contrastive_loss, ROWS),
    ],
)  # fmt: skip
def test_losses_are_computed_in_float32(loss, shape, dtype):
    student, teacher = draw(0, *shape).to(dtype), draw(1, *shape).to(dtype)
    value = loss(student, teacher)
    assert value.dtype == torch.float32
    assert value.item() == loss(student.float(), teacher.float()).item()


@settings(deadline=None)  # the first call of an operator is slow
@given(seeds, st.floats(0.01, 100))
def test_attention_does_not_see_the_scale_of_a_map(seed, scale):
    student, teacher = draw(seed, *MAPS), draw(seed + 1, 4, 7, 5, 5)
    scales = torch.tensor([scale, 1.0, 2.0, 0.5]).view(4, 1, 1, 1)
    scaled = attention_loss(student * scales, teacher)
    assert scaled.item() == pytest.approx(attention_loss(student, teacher).item(), rel=1e-4)


def test_attention_is_the_formula_by_hand():
    student = torch.tensor([[[[1.0, 0.0]], [[1.0, 1.0]]]])  # squares: 2, 1
    teacher = torch.tensor([[[[0.0, 3.0]]]])  # squares: 0, 9
    by_hand = ((2 / math.sqrt(5)) ** 2 + (1 / math.sqrt(5) - 1) ** 2) / 2
    assert attention_loss(student, teacher).item() == pytest.approx(by_hand)


def test_attention_to_an_empty_map_has_a_finite_gradient():
    student = torch.zeros(MAPS, requires_grad=True)
    attention_loss(student, draw(0, *MAPS)).backward()
    assert student.grad.isfinite().all()


@settings(deadline=None)  # the first call of an operator is slow
@given(seeds)
def test_a_flow_backwards_is_the_transpose_and_a_loss_has_no_direction(seed):
    front, back = draw(seed, 4, 3, 8, 8), draw(seed + 1, 4, 5, 4, 4)
    flow = fsp_matrix(front, back)
    assert flow.shape == (4, 3, 5)
    torch.testing.assert_close(flow, fsp_matrix(back, front).transpose(1, 2))
    other = draw(seed + 2, 4, 3, 5)
    assert fsp_loss(flow, other).item() == pytest.approx(fsp_loss(other, flow).item())


def test_a_flow_is_the_mean_product_over_places():
    front, back = draw(0, 2, 3, 4, 4), draw(1, 2, 5, 4, 4)
    expected = torch.einsum("bmhw,bnhw->bmn", front, back) / 16
    torch.testing.assert_close(fsp_matrix(front, back), expected)


@settings(deadline=None)  # the first call of an operator is slow
@given(seeds, st.floats(0.01, 100))
@pytest.mark.parametrize("loss", [distance_loss, angle_loss])
def test_relations_do_not_see_scale_rotation_and_place(loss, seed, scale):
    student, teacher = draw(seed, *ROWS), draw(seed + 1, 6, 11)
    turn, _ = torch.linalg.qr(draw(seed + 2, 8, 8))
    moved = (student @ turn + draw(seed + 3, 8)) * scale
    assert loss(moved, teacher).item() == pytest.approx(loss(student, teacher).item(), abs=1e-5)
    assert loss(moved, student).item() == pytest.approx(0, abs=1e-5)


def test_distances_and_angles_are_the_formulas_of_the_paper():
    student, teacher = draw(0, *ROWS), draw(1, 6, 11)

    def distances(rows):
        found = torch.cdist(rows, rows)
        return found / found[found > 0].mean()

    def cosines(rows):
        apart = torch.nn.functional.normalize(rows[None] - rows[:, None], dim=2)
        return apart @ apart.transpose(1, 2)

    huber = torch.nn.functional.smooth_l1_loss
    expected = huber(distances(student), distances(teacher))
    torch.testing.assert_close(distance_loss(student, teacher), expected)
    expected = huber(cosines(student), cosines(teacher))
    torch.testing.assert_close(angle_loss(student, teacher), expected)


@pytest.mark.parametrize("loss", [distance_loss, angle_loss])
@pytest.mark.parametrize(
    "rows", [torch.ones(4, 8), torch.eye(4, 8)[[0, 0, 1, 1]], torch.ones(1, 8)]
)
def test_pictures_that_are_alike_have_a_finite_gradient(loss, rows):
    student = rows.clone().requires_grad_()
    value = loss(student, draw(1, len(rows), 5))
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


@settings(deadline=None)  # the first call of an operator is slow
@given(seeds)
def test_contrast_is_lower_for_pictures_that_meet_their_own(seed):
    teacher = draw(seed, 16, 32)
    aligned = contrastive_loss(teacher + 0.1 * draw(seed + 1, 16, 32), teacher)
    assert aligned < contrastive_loss(teacher.roll(1, 0), teacher)
    assert aligned < math.log(16)


def test_contrast_that_knows_nothing_is_the_logarithm_of_the_batch():
    assert contrastive_loss(torch.ones(8, 4), draw(0, 8, 4) * 0 + 1).item() == pytest.approx(
        math.log(8)
    )


@pytest.mark.parametrize("temperature", [0.0, -0.07])
def test_the_temperature_of_contrast_must_be_positive(temperature):
    with pytest.raises(ValueError, match="temperature"):
        contrastive_loss(draw(0, *ROWS), draw(1, *ROWS), temperature=temperature)


def test_a_teacher_batch_of_another_size_is_refused_and_not_broadcast():
    with pytest.raises(Exception, match="teacher_maps"):
        hint_loss(draw(0, *MAPS), draw(1, 1, 3, 5, 5))
