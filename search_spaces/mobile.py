"""Inverted residuals (MobileNetV2 and V3), for pictures from 8x8 grey to 224x224 colour.

Searched: for each stage its width, depth, kernel and expansion; for the whole network
squeeze-and-excitation, the activation and the stride of the stem.

References:
    Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018.
    https://arxiv.org/abs/1801.04381
    Howard et al., "Searching for MobileNetV3", 2019. https://arxiv.org/abs/1905.02244
"""

from typing import cast

from nni.mutable import Categorical
from nni.nas.nn.pytorch import ModelSpace, MutableLinear, ParametrizedModule, Repeat
from torch import Tensor, nn

ACTIVATIONS = {"relu": nn.ReLU, "hardswish": nn.Hardswish, "silu": nn.SiLU}
BASE_WIDTHS = (16, 32, 64, 128, 192)


class SqueezeExcite(nn.Module):
    """Scales each channel by what a small network thinks of all channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(8, channels // 4)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps of the same shape."""
        return maps * self.gate(maps)


class Stem(nn.Sequential):
    """The first convolution, which may lower the resolution."""

    def __init__(self, n_in: int, n_out: int, stride: int, activation: str) -> None:
        super().__init__(
            nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(n_out),
            ACTIVATIONS[activation](),
        )


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; added to its input where the shapes allow."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        expansion: int,
        kernel: int,
        stride: int,
        *,
        squeeze_excite: bool,
        activation: str,
    ) -> None:
        super().__init__()
        hidden = n_in * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [nn.Conv2d(n_in, hidden, 1, bias=False), nn.BatchNorm2d(hidden)]
            layers += [ACTIVATIONS[activation]()]
        layers += [
            nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            ACTIVATIONS[activation](),
        ]
        layers += [SqueezeExcite(hidden)] if squeeze_excite else []
        layers += [nn.Conv2d(hidden, n_out, 1, bias=False), nn.BatchNorm2d(n_out)]
        self.body = nn.Sequential(*layers)
        self.is_residual = stride == 1 and n_in == n_out

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps, `stride` times smaller."""
        return maps + self.body(maps) if self.is_residual else self.body(maps)


class MutableStem(ParametrizedModule, Stem, wraps=Stem):
    """A stem whose arguments may be searched."""


class MutableInvertedResidual(ParametrizedModule, InvertedResidual, wraps=InvertedResidual):
    """An inverted residual whose arguments may be searched."""


class MobileSpace(ModelSpace):
    """All mobile networks for one size of picture."""

    def __init__(self, input_shape: tuple[int, int, int], n_classes: int) -> None:
        super().__init__()
        channels, side = input_shape[0], min(input_shape[1:])
        strides = (1, 2, 1) if side < 12 else (1, 2, 2) if side < 48 else (1, 2, 2, 2)
        strides = (*strides, 2) if side >= 128 else strides
        squeeze_excite = Categorical([False, True], label="squeeze_excite")
        activation = Categorical(list(ACTIVATIONS), label="activation")
        stem_stride = Categorical([1, 2] if side < 128 else [2, 4], label="input_stride")
        widths = [
            Categorical([base, base // 2, base * 3 // 2, base * 2], label=f"width_{stage}")
            for stage, base in enumerate(BASE_WIDTHS[: len(strides)], start=1)
        ]
        self.stem = MutableStem(channels, widths[0], stem_stride, activation)
        self.stages = nn.Sequential()
        for stage, stride in enumerate(strides, start=1):
            before, width = widths[max(0, stage - 2)], widths[stage - 1]
            kernel = Categorical([3, 5], label=f"kernel_{stage}")
            expansion = Categorical([2, 1, 4], label=f"expansion_{stage}")

            def build_block(
                index: int,
                n_in: Categorical[int] = before,
                n_out: Categorical[int] = width,
                expansion: Categorical[int] = expansion,
                kernel: Categorical[int] = kernel,
                stride: int = stride,
            ) -> nn.Module:
                return MutableInvertedResidual(
                    n_out if index else n_in,
                    n_out,
                    expansion,
                    kernel,
                    1 if index else stride,
                    squeeze_excite=squeeze_excite,
                    activation=activation,
                )

            depth = Categorical([2, 1, 3], label=f"depth_{stage}")
            self.stages.append(Repeat(build_block, depth))
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), MutableLinear(widths[-1], n_classes)
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits of normalised pictures."""
        return self.head(self.stages(self.stem(pictures)))


def build(input_shape: tuple[int, int, int], n_classes: int) -> ModelSpace:
    """The space for pictures of `input_shape` (channels, height, width)."""
    return cast("ModelSpace", MobileSpace(input_shape, n_classes))
