"""A view is the same whenever it is made, which is what lets an answer be kept."""

import pytest
import torch

from autokd.data import build_augmentation
from autokd.data.augmentation import build_viewer
from autokd.types import Recipe

AUGMENTATIONS = ["none", "crop", "flip_crop", "randaugment"]
N = 24


def pictures(shape=(N, 3, 16, 16)):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def viewer(augmentation, *, magnitude=9, n_views=4):
    recipe = Recipe(augmentation=augmentation, magnitude=magnitude)
    return build_viewer(recipe, n_pictures=N, n_views=n_views)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_a_view_does_not_depend_on_the_batch_that_it_is_made_in(augmentation):
    images, everything = pictures(), torch.arange(N)
    whole = viewer(augmentation)(images, everything, view=2)
    some = torch.tensor([17, 3, 9])
    one_by_one = viewer(augmentation)
    one_by_one(images[:5], everything[:5], view=1)  # another view was made in between
    assert torch.equal(one_by_one(images[some], some, view=2), whole[some])


@pytest.mark.parametrize("augmentation", AUGMENTATIONS[1:])
def test_another_number_is_another_view(augmentation):
    images, everything = pictures(), torch.arange(N)
    make = viewer(augmentation)
    views = {make(images, everything, view=number).numpy().tobytes() for number in range(4)}
    assert len(views) == 4


def test_pictures_as_they_are_have_one_view():
    assert viewer("none").n_views == 1
    assert viewer("crop").n_views == 4


def test_the_key_tells_policies_apart_and_nothing_else():
    keys = {str(viewer(augmentation)) for augmentation in AUGMENTATIONS}
    assert len(keys) == 4
    assert str(viewer("randaugment", magnitude=3)) != str(viewer("randaugment", magnitude=4))
    assert str(viewer("crop", magnitude=3)) == str(viewer("crop", magnitude=4, n_views=9))


def test_epochs_go_through_the_views_and_seeds_begin_elsewhere():
    def numbers(seed):
        augment = build_augmentation(
            Recipe(augmentation="crop"), n_classes=2, n_pictures=N, seed=seed, n_views=4
        )
        labels, indices = torch.zeros(N, dtype=torch.int64), torch.arange(N)
        return [
            augment(pictures(), labels, indices=indices, epoch=epoch).view for epoch in range(5)
        ]

    assert numbers(0) == [0, 1, 2, 3, 0]
    assert sorted(numbers(1)[:4]) == [0, 1, 2, 3]
    assert numbers(1) != numbers(0)


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_rows_are_mixed_as_the_targets_are(mix):
    recipe = Recipe(augmentation="none", mix=mix, mix_alpha=1.0)
    augment = build_augmentation(recipe, n_classes=5, n_pictures=N, seed=0)
    labels = torch.arange(N) % 5
    for epoch in range(5):
        views = augment(pictures(), labels, indices=torch.arange(N), epoch=epoch)
        one_hot = torch.nn.functional.one_hot(labels, 5).float()
        assert torch.allclose(views.mix(one_hot), views.targets, atol=1e-6)
        assert torch.equal(views.clean, pictures().float() / 255)


@pytest.mark.parametrize("mix", ["none", "mixup"])
def test_a_picture_without_a_label_has_no_target(mix):
    recipe = Recipe(augmentation="none", mix=mix, mix_alpha=1.0, label_smoothing=0.1)
    augment = build_augmentation(recipe, n_classes=5, n_pictures=N, seed=0)
    labels = torch.full((N,), -1)
    labels[0] = 3
    views = augment(pictures(), labels, indices=torch.arange(N), epoch=0)
    assert views.targets[5:].abs().sum() == 0
    total = views.targets.sum().item()
    assert total == pytest.approx(1.0, abs=1e-5)
