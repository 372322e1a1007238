"""Where networks of every family look."""

import pytest
import timm
import torch
from torch import nn
from torchvision.models import vision_transformer

from autokd.candidate import find_gaze, watch
from tests.unit.distillation.feature_networks import build, draw_pictures

IMAGES = (draw_pictures(5) * 255).to(torch.uint8)


@pytest.mark.parametrize(
    ("name", "path", "size"),
    [
        ("cnn", "stages", (4, 4)),
        ("vit", "blocks.2", (8, 8)),  # the last but one: only the class token leaves the last
        ("small_vit", None, None),
        ("swin", None, None),
        ("mobile", None, None),
    ],
)
def test_each_family_is_looked_through(name, path, size):
    network = build(name).eval()
    tap = find_gaze(network, IMAGES, role="student")
    if path is not None:
        assert (tap.path, tap.size) == (path, size)
    maps = watch(network, IMAGES, tap=tap, classes=torch.tensor([0, 1, 2, 3, 4]))
    assert maps.shape == (5, 32, 32)
    assert float(maps.min()) >= 0
    assert float(maps.max()) == pytest.approx(1.0)


def test_a_transformer_that_reads_the_mean_of_its_tokens_is_looked_at_after_its_last_block():
    network = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, num_classes=4, depth=3, embed_dim=32,
        num_heads=2, global_pool="avg",
    ).eval()  # fmt: skip
    assert find_gaze(network, IMAGES, role="teacher").path == "blocks.2"


def test_blocks_are_found_by_the_number_at_the_end_of_their_names():
    network = vision_transformer.VisionTransformer(
        image_size=32, patch_size=8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32,
        num_classes=4,
    ).eval()  # fmt: skip
    nn.init.normal_(network.heads.head.weight)  # torchvision begins with a head of zeros
    tap = find_gaze(network, IMAGES, role="teacher")
    assert tap.path == "encoder.layers.encoder_layer_1"


def test_a_map_of_one_place_that_was_enlarged_is_not_looked_at():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 4),
    ).eval()  # fmt: skip
    tap = find_gaze(network, IMAGES, role="student")
    assert tap.size == (8, 8)


def test_a_network_without_maps_has_no_gaze():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))
    assert find_gaze(network, IMAGES, role="student") is None
