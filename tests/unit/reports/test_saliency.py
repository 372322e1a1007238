"""What Grad-CAM shows, and how maps are compared."""

import pytest
import torch
from torch import nn

from autokd.reports import build_grad_cam, correlate_maps, spread_maps


def draw_maps(batch=5, side=8, seed=0):
    return torch.rand(batch, side, side, generator=torch.Generator().manual_seed(seed))


def test_a_map_correlates_fully_with_itself():
    maps = draw_maps()
    torch.testing.assert_close(correlate_maps(maps, maps), torch.ones(5))
    torch.testing.assert_close(correlate_maps(maps, -maps), -torch.ones(5))


@pytest.mark.parametrize(("scale", "level"), [(3.0, 0.0), (1e-3, 0.0), (0.5, 7.0)])
def test_scale_and_level_of_a_map_do_not_matter(scale, level):
    maps, others = draw_maps(seed=1), draw_maps(seed=2)
    expected = correlate_maps(maps, others)
    torch.testing.assert_close(correlate_maps(scale * maps + level, others), expected)
    torch.testing.assert_close(correlate_maps(others, maps), expected)


def test_maps_that_have_nothing_to_do_with_each_other_are_at_zero():
    found = correlate_maps(draw_maps(400, 16, seed=3), draw_maps(400, 16, seed=4))
    assert abs(float(found.mean())) < 0.01
    assert float(found.std()) == pytest.approx(1 / 16, rel=0.2)


def test_a_map_that_is_the_same_everywhere_compares_with_nothing():
    maps = draw_maps(2)
    blank = torch.stack([torch.zeros(8, 8), torch.full((8, 8), 0.3)])
    assert correlate_maps(blank, maps).isnan().all()
    assert correlate_maps(maps, blank).isnan().all()
    rounded = blank + 3e-8 * torch.randn(2, 8, 8)
    assert correlate_maps(rounded[1:], maps[1:]).isnan().all()
    faint = 1e-7 * maps
    torch.testing.assert_close(correlate_maps(faint, maps), torch.ones(2))


def test_a_spread_map_has_the_size_of_the_picture_and_its_top_at_one():
    maps = draw_maps(3, 4) - 0.5
    spread = spread_maps(maps, size=(12, 20))
    assert spread.shape == (3, 12, 20)
    assert float(spread.min()) >= 0
    torch.testing.assert_close(spread.amax((1, 2)), torch.ones(3))
    torch.testing.assert_close(spread_maps(7 * maps, size=(12, 20)), spread)
    assert spread_maps(-maps.abs(), size=(12, 20)).abs().max() == 0


class TwoCorners(nn.Module):
    """Class 0 is what is bright in one corner, class 1 what is bright in the opposite one."""

    def __init__(self):
        super().__init__()
        corners = torch.zeros(1, 2, 8, 8)
        corners[0, 0, :4, :4] = corners[0, 1, 4:, 4:] = 1
        self.register_buffer("corners", corners)
        self.layer = nn.Identity()

    def forward(self, pictures):
        return self.layer(pictures * self.corners).mean((2, 3))


def test_the_region_that_a_class_depends_on_lights_up():
    network = TwoCorners()
    views = torch.full((2, 1, 8, 8), 0.5, requires_grad=True)
    maps = build_grad_cam(network, network.layer, views, classes=torch.tensor([0, 1]))
    assert maps.shape == (2, 8, 8)
    spread = spread_maps(maps, size=(8, 8))
    expected = network.corners[0]
    torch.testing.assert_close(spread, expected)


def test_it_is_the_formula_of_the_paper():
    torch.manual_seed(0)
    body, head = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.Linear(6, 4)
    network = nn.Sequential(body, nn.Softplus(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    views, classes = torch.rand(3, 3, 16, 16), torch.tensor([2, 0, 3])
    found = build_grad_cam(network, body, views, classes=classes)
    maps = body(views).detach().requires_grad_()
    chosen = network[1:](maps)[torch.arange(3), classes].sum()
    (gradient,) = torch.autograd.grad(chosen, maps)
    expected = (gradient.mean((2, 3), keepdim=True) * maps).sum(1).detach()
    assert found.shape == (3, 8, 8)
    torch.testing.assert_close(found, expected)
