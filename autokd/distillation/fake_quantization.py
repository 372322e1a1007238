"""What 8 bits do to numbers, in floating point and with gradients: the parts of a network that
is trained to be quantized.

Rounding has no gradient worth the name; as usual it is taken for the identity where a number is
inside the range, and for a constant outside.

References:
    Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", 2018, section 3. https://arxiv.org/abs/1712.05877
    Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018,
    sections 2 and 3 (weights per channel). https://arxiv.org/abs/1806.08342
"""

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ActivationQuantizer", "QuantizedConvolution", "QuantizedLayer", "QuantizedLinear"]

_LEAST_SCALE = 1e-8
_LEAST_MOMENTUM = 0.01  # of a batch's range in the mean of all, once there are a hundred
_BIAS_LEVELS = 2.0**30  # a bias is an int32 in units of (scale of the input x of the weight)
_WEIGHT_BOUNDS = (-128, 127)
_ACTIVATION_BOUNDS = (0, 255)


@final
class ActivationQuantizer(nn.Module):
    """Rounds a tensor to 256 values between the bounds that it has observed, zero among them.

    The bounds are the means of the batches' own, so that one outlier does not set the scale; the
    later ones count at least a hundredth.

    Attributes:
        is_observing: Whether batches move the bounds.
        is_quantizing: Whether anything is rounded.
    """

    lowest: Tensor
    highest: Tensor
    n_batches: Tensor

    def __init__(self) -> None:
        """Has observed nothing."""
        super().__init__()
        self.is_observing, self.is_quantizing = True, False
        self._settled: tuple[Tensor, Tensor] | None = None
        self.register_buffer("lowest", torch.zeros(()))
        self.register_buffer("highest", torch.zeros(()))
        self.register_buffer("n_batches", torch.zeros(()))

    def forward(self, maps: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The same tensor, rounded where it is time for that."""
        if self.is_observing:
            self._observe(maps.detach())
        if not self.is_quantizing:
            return maps
        scale, zero_point = self._settled or (self.scale, self.zero_point)
        return torch.fake_quantize_per_tensor_affine(maps, scale, zero_point, *_ACTIVATION_BOUNDS)

    @property
    def scale(self) -> Float[Tensor, ""]:
        """What one step of the integers stands for."""
        levels = _ACTIVATION_BOUNDS[1] - _ACTIVATION_BOUNDS[0]
        return ((self.highest - self.lowest) / levels).clamp(min=_LEAST_SCALE)

    @property
    def zero_point(self) -> Tensor:
        """The integer that stands for zero, int32."""
        return (-self.lowest / self.scale).round().clamp(*_ACTIVATION_BOUNDS).int()

    def settle(self) -> None:
        """Fixes scale and zero point, so that they are written as constants."""
        self._settled = (self.scale, self.zero_point)

    @torch.no_grad()
    def _observe(self, maps: Tensor) -> None:
        self.n_batches += 1
        momentum = (1 / self.n_batches).clamp(min=_LEAST_MOMENTUM)
        low, high = maps.aminmax()
        self.lowest.lerp_(low.float().clamp(max=0), momentum)
        self.highest.lerp_(high.float().clamp(min=0), momentum)


class QuantizedLayer(nn.Module):
    """A layer whose weights are rounded to 8 bits, with a scale for each channel of its output.

    Attributes:
        is_quantizing: Whether anything is rounded.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, weight_bits: int) -> None:
        """Takes the values of a float layer; they are copied.

        Args:
            weight: [outputs ...].
            bias: [outputs], if the layer has one.
            weight_bits: 8, or 7 for a processor whose sums of two products have only 16 bits.
        """
        super().__init__()
        self.is_quantizing = False
        self._settled: Tensor | None = None
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self._largest = 2 ** (weight_bits - 1) - 1

    @property
    def scale(self) -> Float[Tensor, " outputs"]:
        """What one step of the integers stands for, in each channel."""
        if self._settled is not None:
            return self._settled
        amax = self.weight.detach().flatten(1).abs().amax(dim=1)
        return (amax / self._largest).clamp(min=_LEAST_SCALE)

    @torch.no_grad()
    def settle(self, input_scale: Tensor | None) -> None:
        """Fixes the scales, large enough for the biases to be integers of 32 bits, too.

        Only channels whose weights are next to nothing beside their bias have to give way.

        Args:
            input_scale: Of the layer's input; none where that is not rounded.
        """
        scale = self.scale
        if self.bias is not None and input_scale is not None:
            scale = torch.maximum(scale, self.bias.abs() / (input_scale * _BIAS_LEVELS))
        self._settled = scale

    def rounded_weight(self) -> Tensor:
        """The weights that the layer computes with."""
        if not self.is_quantizing:
            return self.weight
        scale = self.scale
        zero = torch.zeros(len(scale), dtype=torch.int32, device=scale.device)
        return torch.fake_quantize_per_channel_affine(self.weight, scale, zero, 0, *_WEIGHT_BOUNDS)


@final
class QuantizedConvolution(QuantizedLayer):
    """A two-dimensional convolution with rounded weights."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        stride: Sequence[int],
        padding: Sequence[int] | str,
        dilation: Sequence[int],
        groups: int,
        weight_bits: int,
    ) -> None:
        """As `torch.nn.functional.conv2d` takes them."""
        super().__init__(weight, bias, weight_bits=weight_bits)
        self._stride, self._dilation = tuple(stride), tuple(dilation)
        self._padding = padding if isinstance(padding, str) else tuple(padding)
        self._groups = groups

    def forward(self, maps: Float[Tensor, "batch channels height width"]) -> Tensor:
        """Feature maps."""
        return F.conv2d(
            maps,
            self.rounded_weight(),
            self.bias,
            self._stride,
            self._padding,
            self._dilation,
            self._groups,
        )


@final
class QuantizedLinear(QuantizedLayer):
    """A linear layer with rounded weights."""

    def forward(self, features: Float[Tensor, "... inputs"]) -> Float[Tensor, "... outputs"]:
        """Features."""
        return F.linear(features, self.rounded_weight(), self.bias)
