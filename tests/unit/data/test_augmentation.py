import itertools

import pytest
import torch

from autokd.data import as_view, build_augmentation
from autokd.types import Recipe

AUGMENTATIONS = ["none", "crop", "flip_crop", "randaugment"]
MIXES = ["none", "mixup", "cutmix"]
N_PICTURES, N_EPOCHS = 400, 50
SHAPES = [(32, 1, 8, 8), (13, 3, 20, 12), (1, 3, 9, 9)]


def batch(shape=(32, 1, 8, 8), *, n_classes=10):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    return images, torch.randint(0, n_classes, shape[:1], generator=generator)


def build(*, seed=0, **recipe):
    """The augmentation as a function of a batch; the n-th call is the n-th epoch."""
    augment = build_augmentation(
        Recipe(**recipe), n_classes=10, n_pictures=N_PICTURES, seed=seed, n_views=N_EPOCHS
    )
    epochs = itertools.count()

    def make(images, labels):
        views = augment(images, labels, indices=torch.arange(len(images)), epoch=next(epochs))
        return views.pictures, views.targets

    return make


def test_a_view_is_the_picture_over_255():
    images, _ = batch()
    assert torch.equal(as_view(images), images.float() / 255)


def test_no_augmentation_is_the_identity():
    images, labels = batch()
    views, targets = build(augmentation="none")(images, labels)
    assert torch.equal(views, as_view(images))
    assert torch.equal(targets.argmax(1), labels)
    assert torch.equal(targets.sum(1), torch.ones(32))
    assert set(targets.unique().tolist()) == {0, 1}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_views_are_pictures_and_targets_are_distributions(augmentation, mix, shape):
    images, labels = batch(shape)
    before = images.clone()
    augment = build(
        augmentation=augmentation, mix=mix, mix_alpha=1.0, magnitude=30, label_smoothing=0.1
    )
    for _ in range(5):
        views, targets = augment(images, labels)
        assert views.shape == images.shape
        assert views.dtype == targets.dtype == torch.float32
        assert 0 <= views.min() <= views.max() <= 1 + 1e-6
        assert targets.shape == (shape[0], 10)
        assert torch.allclose(targets.sum(1), torch.ones(shape[0]))
        assert targets.min() >= 0.1 / 10 - 1e-6
    assert torch.equal(images, before)


def shifts_of(view, image, *, most=1):
    """Every shift with reflection at the border that turns the image into the view."""
    padded = torch.nn.functional.pad(image[None].float(), (most,) * 4, mode="reflect")[0]
    height, width = image.shape[1:]
    return [
        (down, right)
        for down in range(2 * most + 1)
        for right in range(2 * most + 1)
        if torch.equal(view, padded[:, down : down + height, right : right + width] / 255)
    ]


def test_a_crop_is_a_shift_with_reflection():
    images, labels = batch((64, 3, 8, 8))
    views, _ = build(augmentation="crop")(images, labels)
    found = [shifts_of(view, image) for view, image in zip(views, images, strict=True)]
    assert all(len(each) == 1 for each in found)
    assert len({each[0] for each in found}) == 9  # each picture has its own draw


def test_the_largest_shift_is_an_eighth_of_the_side():
    images = torch.arange(64, dtype=torch.uint8).expand(200, 1, 16, 64).contiguous()
    views, _ = build(augmentation="crop")(images, torch.zeros(200, dtype=torch.int64))
    moved = (views[:, 0, 8, 32] * 255).round() - 32
    assert (moved.min(), moved.max()) == (-8, 8)


def test_half_of_the_pictures_are_mirrored():
    images = torch.arange(64, dtype=torch.uint8).expand(400, 1, 8, 64).contiguous()
    views, _ = build(augmentation="flip_crop")(images, torch.zeros(400, dtype=torch.int64))
    flipped = views[:, 0, 4, 20] > views[:, 0, 4, 40]
    assert 150 < flipped.sum() < 250


def test_a_mirrored_crop_is_a_shift_of_the_mirrored_picture():
    images, labels = batch((64, 3, 8, 8))
    views, _ = build(augmentation="flip_crop")(images, labels)
    for view, image in zip(views, images, strict=True):
        assert shifts_of(view, image) or shifts_of(view.flip(2), image)


def test_randaugment_treats_parts_of_a_batch_differently():
    images = batch((1, 3, 16, 16))[0].expand(64, -1, -1, -1).contiguous()
    augment = build(augmentation="randaugment", magnitude=15)
    views, _ = augment(images, torch.zeros(64, dtype=torch.int64))
    assert len({view.numpy().tobytes() for view in views}) > 8


@pytest.mark.parametrize("side", [1, 2, 3])
@pytest.mark.parametrize("augmentation", ["crop", "flip_crop"])
def test_the_smallest_pictures_are_shifted_too(augmentation, side):
    images, labels = batch((4, 1, side, side))
    assert build(augmentation=augmentation)(images, labels)[0].shape == images.shape


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_the_target_of_a_mixture_is_its_ratio(mix):
    images = torch.zeros(2, 1, 16, 16, dtype=torch.uint8)
    images[0] = 255  # the light in a view is the share of picture 0, whose label is 3
    augment = build(augmentation="none", mix=mix, mix_alpha=1.0)
    ratios = []
    for _ in range(20):
        views, targets = augment(images, torch.tensor([3, 5]))
        assert torch.allclose(views.mean((1, 2, 3)), targets[:, 3], atol=1e-5)
        assert torch.allclose(targets[:, 3] + targets[:, 5], torch.ones(2))
        ratios.append(round(float(targets[0, 3]), 4))
    assert len(set(ratios)) > 10


def test_smoothing_spreads_its_share_over_all_classes():
    images, labels = batch()
    _, targets = build(augmentation="none", label_smoothing=0.2)(images, labels)
    assert torch.allclose(targets.max(1).values, torch.tensor(0.82))
    assert torch.allclose(targets.min(1).values, torch.tensor(0.02))


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_the_seed_decides_and_each_call_draws_anew(augmentation, mix):
    images, labels = batch()

    def run(seed):
        augment = build(augmentation=augmentation, mix=mix, mix_alpha=1.0, magnitude=9, seed=seed)
        return torch.stack([augment(images, labels)[0] for _ in range(3)])

    first = run(0)
    torch.rand(5)  # the global generator has no say
    assert torch.equal(first, run(0))
    if (augmentation, mix) != ("none", "none"):
        assert not torch.equal(first, run(1))
        assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_the_global_generator_is_left_alone(augmentation, mix):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    build(augmentation=augmentation, mix=mix, magnitude=9)(*batch())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_a_gpu_gives_the_same_views(augmentation, mix):
    images, labels = batch((32, 3, 16, 16))
    state = torch.cuda.get_rng_state()
    options = {"augmentation": augmentation, "mix": mix, "magnitude": 9}
    views, targets = build(**options)(images, labels)
    on_gpu = build(**options)(images.cuda(), labels.cuda())
    assert on_gpu[0].is_cuda
    assert on_gpu[1].is_cuda
    assert torch.allclose(on_gpu[1].cpu(), targets, atol=1e-6)
    # rounding may move single pixels of a rotation
    assert ((on_gpu[0].cpu() - views).abs() > 2 / 255).float().mean() < 0.01
    assert torch.equal(state, torch.cuda.get_rng_state())
