"""ResNets for 32 pixels as in section 4.2 of He et al., 2015, with option-A shortcuts.

What the checkpoints of akamaster/pytorch_resnet_cifar10 were made with.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two convolutions beside a shortcut that skips pixels and pads channels with zeros."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.stride, self.n_more = stride, n_out - n_in

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps, `stride` times smaller."""
        out = F.relu(self.bn1(self.conv1(maps)))
        side = self.n_more // 2
        short = F.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, side, side))
        return F.relu(self.bn2(self.conv2(out)) + short)


class CifarResNet(nn.Module):
    """Three stages of 16, 32 and 64 channels; `depth` is 6 n + 2."""

    def __init__(self, depth: int, n_classes: int = 10) -> None:
        super().__init__()
        n_blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, n_blocks, stride=1)
        self.layer2 = self._stage(16, 32, n_blocks, stride=2)
        self.layer3 = self._stage(32, 64, n_blocks, stride=2)
        self.linear = nn.Linear(64, n_classes)

    @staticmethod
    def _stage(n_in: int, n_out: int, n_blocks: int, *, stride: int) -> nn.Sequential:
        first = Block(n_in, n_out, stride)
        return nn.Sequential(first, *(Block(n_out, n_out, 1) for _ in range(n_blocks - 1)))

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits of normalised pictures."""
        maps = F.relu(self.bn1(self.conv1(pictures)))
        maps = self.layer3(self.layer2(self.layer1(maps)))
        return self.linear(maps.mean((2, 3)))


def load_checkpoint(path: str) -> CifarResNet:
    """The network of a checkpoint; its depth is told by the number of its blocks."""
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    state = {name.removeprefix("module."): value for name, value in state.items()}
    n_blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("layer1."))
    network = CifarResNet(6 * n_blocks + 2)
    network.load_state_dict(state)
    return network.eval()
