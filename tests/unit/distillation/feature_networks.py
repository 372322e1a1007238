"""Small networks of every kind, to read features from."""

import timm
import torch
from timm.models.swin_transformer import SwinTransformer
from torch import nn
from torchvision.models import resnet18

from autokd.spaces import build_space

N_CLASSES = 10


class SmallCnn(nn.Module):
    """Three stages of 16, 8 and 4 pixels for pictures of 32."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stages = nn.Sequential(*(
            nn.Sequential(
                nn.Conv2d(n_in, n_out, 3, 2, 1), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)
            )
            for n_in, n_out in ((3, width), (width, 2 * width), (2 * width, 3 * width))
        ))  # fmt: skip
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(3 * width, N_CLASSES)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.stages(pictures)))


def build_vit() -> nn.Module:
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=4, num_classes=N_CLASSES,
        depth=4, embed_dim=48, num_heads=2,
    )  # fmt: skip


def build_swin() -> nn.Module:
    return SwinTransformer(
        img_size=32, patch_size=2, window_size=4, embed_dim=24, depths=(1, 1), num_heads=(2, 2),
        num_classes=N_CLASSES,
    )  # fmt: skip


def build_student(space: str, side: int = 32) -> nn.Module:
    built = build_space(space, recipe="default", input_shape=(3, side, side), n_classes=N_CLASSES)
    network, _ = built.freeze({})
    return network


BUILDERS = {
    "cnn": SmallCnn,
    "wide_cnn": lambda: SmallCnn(width=12),
    "resnet18": lambda: resnet18(num_classes=N_CLASSES),
    "vit": build_vit,
    "swin": build_swin,
    "mobile": lambda: build_student("mobile"),
    "small_vit": lambda: build_student("vit"),
}


def build(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return BUILDERS[name]()


def draw_pictures(batch: int = 4, side: int = 32) -> torch.Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(5))
