"""Laws of rounding: what it keeps, what it costs, where its gradient goes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autokd.distillation.fake_quantization import (
    ActivationQuantizer,
    QuantizedConvolution,
    QuantizedLinear,
)

SEEDS = st.integers(0, 2**31 - 1)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def observed(*tensors) -> ActivationQuantizer:
    """Knows the range of these, and rounds."""
    quantizer = ActivationQuantizer()
    for tensor in tensors:
        quantizer(tensor)
    quantizer.is_observing, quantizer.is_quantizing = False, True
    return quantizer


def linear(weight, *, bias=None, bits=8) -> QuantizedLinear:
    layer = QuantizedLinear(weight, bias, weight_bits=bits)
    layer.is_quantizing = True
    return layer


@given(seed=SEEDS)
def test_rounding_what_is_rounded_changes_nothing(seed):
    values = draw(7, 5, seed=seed)
    quantizer = observed(values)
    once = quantizer(values)
    assert torch.equal(quantizer(once), once)
    layer = linear(values)
    once = layer.rounded_weight().detach()
    assert torch.allclose(linear(once).rounded_weight(), once, rtol=1e-6, atol=0)


@given(seed=SEEDS)
def test_rounding_errs_by_half_a_step_at_most(seed):
    values = draw(7, 5, seed=seed)
    quantizer = observed(values)
    # Zero has a step of its own, so that the bounds themselves may be half a step outside.
    assert (quantizer(values) - values).abs().max() <= quantizer.scale * 1.0001
    inside = values[(values > quantizer.lowest * 0.9) & (values < quantizer.highest * 0.9)]
    assert (quantizer(inside) - inside).abs().max() <= quantizer.scale * 0.5001
    layer = linear(values)
    errors = (layer.rounded_weight() - values).abs().amax(dim=1)
    assert (errors <= layer.scale * 0.5001).all()


@given(seed=SEEDS)
def test_zero_stays_zero(seed):
    values = draw(20, seed=seed) + 3
    assert observed(values)(torch.zeros(3)).eq(0).all()


def test_a_gradient_passes_inside_the_range_and_nowhere_else():
    quantizer = observed(torch.tensor([-1.0, 1.0]))
    values = torch.tensor([-5.0, -0.9, 0.0, 0.3, 0.9, 5.0], requires_grad=True)
    quantizer(values).sum().backward()
    assert values.grad.tolist() == [0, 1, 1, 1, 1, 0]


def test_no_weight_is_out_of_range_so_each_gets_its_gradient():
    layer = linear(draw(3, 4))
    layer.rounded_weight().sum().backward()
    assert layer.weight.grad.eq(1).all()


def test_each_channel_has_a_scale_of_its_own():
    weight = torch.stack([draw(4), draw(4) * 1000])
    errors = (linear(weight).rounded_weight() - weight).abs().amax(dim=1)
    assert errors[0] < 0.02 < errors[1]


def test_seven_bits_are_twice_as_coarse():
    weight = draw(3, 4)
    assert torch.allclose(linear(weight, bits=7).scale * 63, linear(weight).scale * 127)
    levels = linear(weight, bits=7).rounded_weight() / linear(weight, bits=7).scale[:, None]
    assert levels.abs().max().round() == 63


def test_the_bounds_are_means_so_one_outlier_does_not_set_the_scale():
    quantizer = observed(*[torch.tensor([-1.0, 1.0])] * 9, torch.tensor([-1.0, 101.0]))
    assert quantizer.highest.item() == pytest.approx(11)
    assert quantizer.lowest.item() == pytest.approx(-1)


def test_what_is_never_negative_begins_at_integer_zero():
    assert observed(torch.rand(9)).zero_point == 0
    assert observed(torch.rand(9) + 5).zero_point == 0


def test_until_it_is_time_nothing_is_rounded():
    values = draw(3, 4)
    assert ActivationQuantizer()(values) is values
    layer = QuantizedLinear(values, None, weight_bits=8)
    assert layer.rounded_weight() is layer.weight


def test_a_convolution_is_that_of_torch():
    weight, bias, maps = draw(6, 2, 3, 3), draw(6), draw(2, 4, 8, 8)
    layer = QuantizedConvolution(
        weight, bias, stride=[2, 2], padding=[1, 1], dilation=[1, 1], groups=2, weight_bits=8
    )
    wanted = torch.nn.functional.conv2d(maps, weight, bias, 2, 1, 1, 2)
    assert torch.equal(layer(maps), wanted)
    layer.is_quantizing = True
    assert 0 < (layer(maps) - wanted).abs().max() < 0.1


def test_a_large_bias_of_a_channel_without_weights_still_fits_32_bits():
    layer = linear(torch.tensor([[1e-9, 1e-9], [1.0, 1.0]]), bias=torch.tensor([50.0, 50.0]))
    before, input_scale = layer.scale, torch.tensor(0.01)
    layer.settle(input_scale)
    assert (layer.bias / (layer.scale * input_scale)).abs().max() < 2**31 - 1
    assert layer.scale[0] > before[0]
    assert layer.scale[1] == before[1]
