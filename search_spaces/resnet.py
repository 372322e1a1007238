"""Residual networks with basic and bottleneck blocks, from 8x8 grey to 224x224 colour.

Searched: the kind of block, the width of the first stage (doubled from stage to stage), each
stage's depth and kernel, the activation and the stride of the stem.

References:
    He et al., "Deep Residual Learning for Image Recognition", 2015.
    https://arxiv.org/abs/1512.03385
"""

from typing import cast

from nni.mutable import Categorical
from nni.nas.nn.pytorch import ModelSpace, MutableLinear, ParametrizedModule, Repeat
from torch import Tensor, nn

ACTIVATIONS = {"relu": nn.ReLU, "hardswish": nn.Hardswish, "silu": nn.SiLU}


def build_conv(n_in: int, n_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps the size but for its stride, and its normalisation."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(n_out)
    )


class Stem(nn.Sequential):
    """The first convolution, which may lower the resolution."""

    def __init__(self, n_in: int, n_out: int, stride: int, activation: str) -> None:
        super().__init__(build_conv(n_in, n_out, 3, stride), ACTIVATIONS[activation]())


class Residual(nn.Module):
    """A basic block (two kernels) or a bottleneck (1, kernel, 1) beside a shortcut."""

    def __init__(
        self, kind: str, n_in: int, n_out: int, kernel: int, stride: int, activation: str
    ) -> None:
        super().__init__()
        if kind == "basic":
            self.body = nn.Sequential(
                build_conv(n_in, n_out, kernel, stride),
                ACTIVATIONS[activation](),
                build_conv(n_out, n_out, kernel),
            )
        else:
            hidden = max(8, n_out // 4)
            self.body = nn.Sequential(
                build_conv(n_in, hidden, 1),
                ACTIVATIONS[activation](),
                build_conv(hidden, hidden, kernel, stride),
                ACTIVATIONS[activation](),
                build_conv(hidden, n_out, 1),
            )
        is_same = stride == 1 and n_in == n_out
        self.shortcut = nn.Identity() if is_same else build_conv(n_in, n_out, 1, stride)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps, `stride` times smaller."""
        return self.activation(self.shortcut(maps) + self.body(maps))


class MutableStem(ParametrizedModule, Stem, wraps=Stem):
    """A stem whose arguments may be searched."""


class MutableResidual(ParametrizedModule, Residual, wraps=Residual):
    """A residual block whose arguments may be searched."""


class ResNetSpace(ModelSpace):
    """All residual networks for one size of picture."""

    def __init__(self, input_shape: tuple[int, int, int], n_classes: int) -> None:
        super().__init__()
        channels, side = input_shape[0], min(input_shape[1:])
        n_stages = 3 if side < 64 else 4
        kind = Categorical(["basic", "bottleneck"], label="block")
        activation = Categorical(list(ACTIVATIONS), label="activation")
        width = Categorical([16, 8, 24, 32], label="width")
        stem_stride = Categorical([1, 2] if side < 128 else [2, 4], label="input_stride")
        self.stem = MutableStem(channels, width, stem_stride, activation)
        self.stages = nn.Sequential()
        for stage in range(n_stages):
            kernel = Categorical([3, 5], label=f"kernel_{stage + 1}")

            def build_block(
                index: int, stage: int = stage, kernel: Categorical[int] = kernel
            ) -> nn.Module:
                before = width * 2 ** (stage if index else max(0, stage - 1))
                stride = 2 if stage and not index else 1
                return MutableResidual(kind, before, width * 2**stage, kernel, stride, activation)

            depth = Categorical([2, 1, 3], label=f"depth_{stage + 1}")
            self.stages.append(Repeat(build_block, depth))
        last = width * 2 ** (n_stages - 1)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), MutableLinear(last, n_classes)
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits of normalised pictures."""
        return self.head(self.stages(self.stem(pictures)))


def build(input_shape: tuple[int, int, int], n_classes: int) -> ModelSpace:
    """The space for pictures of `input_shape` (channels, height, width)."""
    return cast("ModelSpace", ResNetSpace(input_shape, n_classes))
