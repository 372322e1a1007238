"""A lens shows a map and changes nothing."""

import pytest
import torch

from autokd.distillation import Lens, find_embedding, find_taps
from tests.unit.distillation.feature_networks import build, draw_pictures


def watch_layer(network, tap):
    seen = []
    with Lens(network, tap) as lens:
        lens.layer.register_forward_hook(lambda _module, _arguments, output: seen.append(output))
        logits = network(draw_pictures())
    return logits, seen[-1]


@pytest.mark.parametrize("name", ["cnn", "resnet18", "vit", "swin", "mobile", "small_vit"])
def test_a_lens_shows_the_map_of_each_tap_and_does_not_change_the_logits(name):
    network = build(name).eval()
    expected = network(draw_pictures())
    taps = find_taps(network, draw_pictures())
    assert taps
    for tap in taps:
        logits, seen = watch_layer(network, tap)
        assert seen.shape == (4, tap.channels, *tap.size)
        torch.testing.assert_close(logits, expected)


def test_what_the_lens_shows_is_what_the_logits_are_made_of():
    network = build("vit").eval()
    tap = find_taps(network, draw_pictures())[0]
    logits, seen = watch_layer(network, tap)
    assert seen.is_leaf
    (gradient,) = torch.autograd.grad(logits.sum(), seen)
    assert gradient.abs().sum() > 0


def test_a_frozen_network_is_seen_through_too():
    network = build("cnn").eval().requires_grad_(requires_grad=False)
    logits, seen = watch_layer(network, find_taps(network, draw_pictures())[-1])
    assert torch.autograd.grad(logits.sum(), seen)[0].abs().sum() > 0


def test_nothing_of_a_lens_stays_on_the_network():
    network = build("cnn")
    tap = find_taps(network, draw_pictures())[-1]
    keys = set(network.state_dict())
    with pytest.raises(KeyError), Lens(network, tap):
        raise KeyError
    module = network.get_submodule(tap.path)
    assert not module._forward_hooks
    assert set(network.state_dict()) == keys


def test_an_embedding_has_no_places_to_look_at():
    network = build("cnn")
    tap = find_embedding(network, draw_pictures())
    with pytest.raises(ValueError, match="must be a map"):
        Lens(network, tap)
