import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from autokd.distillation import (
    clip_loss,
    embedding_loss,
    interactive_loss,
    measure_retrieval,
    measure_zero_shot,
    relational_loss,
)

seeds = st.integers(0, 999)
ALONE = torch.eye(6, dtype=torch.bool)
SCALE = torch.tensor(10.0)


def draw(seed, n=6, dims=4):
    rows = torch.randn(n, dims, generator=torch.Generator().manual_seed(seed))
    return F.normalize(rows, dim=-1)


@given(seeds)
def test_the_clip_loss_is_that_of_both_directions_by_hand(seed):
    images, texts = draw(seed), draw(seed + 1)
    logits, right = 10 * images @ texts.T, torch.arange(6)
    by_hand = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
    assert torch.allclose(clip_loss(images, texts, positives=ALONE, scale=SCALE), by_hand)


@given(seeds)
def test_pictures_and_texts_can_change_places(seed):
    images, texts = draw(seed), draw(seed + 1)
    there = clip_loss(images, texts, positives=ALONE, scale=SCALE)
    back = clip_loss(texts, images, positives=ALONE, scale=SCALE)
    assert torch.allclose(there, back)


def test_equal_texts_need_not_be_told_apart():
    rows = F.normalize(torch.tensor([[1.0, 0], [1.0, 0], [0, 1.0]]), dim=-1)
    meanings = torch.tensor([0, 0, 1])
    shared = meanings[:, None] == meanings[None, :]
    sharp = torch.tensor(100.0)
    fair = clip_loss(rows, rows, positives=shared, scale=sharp)
    unfair = clip_loss(rows, rows, positives=torch.eye(3, dtype=torch.bool), scale=sharp)
    assert fair.item() == pytest.approx(2 / 3 * math.log(2), abs=1e-4)
    assert unfair.item() == pytest.approx(fair.item(), abs=1e-4)
    # Told apart as far as it goes, the gradient of the first is nothing; that of the other pushes.
    leaning = F.normalize(rows + 0.1 * torch.tensor([[0, 1.0], [0, 0], [0, 0]]), dim=-1)
    leaning.requires_grad_()
    clip_loss(leaning, rows, positives=shared, scale=SCALE).backward()
    assert leaning.grad is not None
    assert leaning.grad[0] @ torch.tensor([0.0, 1.0]) > 0  # back to its like


@given(seeds)
def test_who_embeds_as_the_teacher_has_nothing_left_to_learn(seed):
    images, texts = draw(seed), draw(seed + 1)
    assert embedding_loss(images, images) == 0
    same = relational_loss(
        images, texts, teacher_images=images, teacher_texts=texts, scale=SCALE, teacher_scale=10.0
    )
    assert same.item() == pytest.approx(0, abs=1e-5)


@given(seeds, seeds)
def test_relations_are_at_no_distance_below_zero(ours, theirs):
    loss = relational_loss(
        draw(ours), draw(ours + 1), teacher_images=draw(theirs), teacher_texts=draw(theirs + 1),
        scale=SCALE, teacher_scale=20.0,
    )  # fmt: skip
    assert loss >= -1e-5


@given(seeds)
def test_relations_do_not_change_as_the_space_is_turned(seed):
    images, texts = draw(seed), draw(seed + 1)
    turn = torch.linalg.qr(draw(seed + 2, n=4, dims=4)).Q
    turned = relational_loss(
        images @ turn, texts @ turn, teacher_images=images, teacher_texts=texts, scale=SCALE,
        teacher_scale=10.0,
    )  # fmt: skip
    assert turned.item() == pytest.approx(0, abs=1e-4)


@given(seeds)
def test_the_interactive_loss_of_the_teacher_itself_is_its_own_clip_loss(seed):
    images, texts = draw(seed), draw(seed + 1)
    loss = interactive_loss(
        images, texts, teacher_images=images, teacher_texts=texts, positives=ALONE, scale=SCALE
    )
    assert torch.allclose(loss, clip_loss(images, texts, positives=ALONE, scale=SCALE))


@given(seeds)
def test_the_interactive_loss_looks_for_the_teachers_partners(seed):
    images, texts, theirs, words = (draw(seed + n) for n in range(4))
    loss = interactive_loss(
        images, texts, teacher_images=theirs, teacher_texts=words, positives=ALONE, scale=SCALE
    )
    right = torch.arange(6)
    there = F.cross_entropy(10 * images @ words.T, right)
    back = F.cross_entropy(10 * texts @ theirs.T, right)
    assert torch.allclose(loss, (there + back) / 2)


def test_recalls_count_what_is_found():
    texts = torch.eye(6)
    images = texts[[0, 1, 2, 4, 3, 5]]
    owners = meanings = torch.arange(6)
    found = measure_retrieval(images, texts, owners=owners, meanings=meanings)
    assert found.text_at_1 == found.image_at_1 == found.mean == pytest.approx(4 / 6)
    assert found.text_at_5 == 1  # of six, all but one


def test_any_of_several_captions_will_do_and_a_shared_one_is_both():
    images = torch.eye(2)
    texts = F.normalize(torch.tensor([[0.2, 1.0], [1.0, 0.0], [0.0, 1.0]]), dim=-1)
    owners = torch.tensor([0, 0, 1])
    apart = measure_retrieval(images, texts, owners=owners, meanings=torch.tensor([0, 1, 2]))
    assert (apart.text_at_1, apart.image_at_1) == (1.0, pytest.approx(2 / 3))
    shared = measure_retrieval(images, texts, owners=owners, meanings=torch.tensor([0, 1, 0]))
    assert shared.image_at_1 == 1.0


def test_zero_shot_is_the_share_of_nearest_names():
    names = torch.eye(3)
    images = names[[0, 1, 2, 0]]
    assert measure_zero_shot(images, names, torch.tensor([0, 1, 2, 2])) == 0.75
