"""Views of pictures, made for a whole batch at once on the device where it lies."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import final

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor
from torchvision.transforms import v2

from autokd.types import Recipe

__all__ = ["Augment", "as_view", "build_augmentation"]

_N_DRAWS = 8
"""Sub-batches of one batch that RandAugment treats differently."""

_SHIFT_SHARE = 8
"""A picture is shifted by at most its side over this."""


def as_view(images: UInt8[Tensor, "b c h w"]) -> Float32[Tensor, "b c h w"]:
    """The pictures as they are, pixels in [0, 1]; what validation sees.

    Args:
        images: Pixels in 0..255.

    Returns:
        New tensors on the same device.
    """
    return images.to(torch.float32).div_(255)


def build_augmentation(recipe: Recipe, *, n_classes: int, seed: int) -> "Augment":
    """The augmentation of a recipe.

    Args:
        recipe: Its `augmentation`, `magnitude`, `mix`, `mix_alpha` and `label_smoothing`.
        n_classes: Of the targets.
        seed: The same seed gives the same views for the same batches.

    Returns:
        A function from batches to views and targets.
    """
    return Augment(recipe, n_classes=n_classes, seed=seed)


@final
class Augment:
    """Makes views and soft targets out of a batch; each call draws anew.

    Draws come from a generator of its own on the CPU, so that the same seed gives the same
    views on every device; torch's global generators are left as they were.
    """

    def __init__(self, recipe: Recipe, *, n_classes: int, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._n_classes = n_classes
        self._smoothing = recipe.label_smoothing
        self._is_shifted = recipe.augmentation != "none"
        self._is_flipped = recipe.augmentation in {"flip_crop", "randaugment"}
        self._randaugment = (
            v2.RandAugment(num_ops=2, magnitude=recipe.magnitude)
            if recipe.augmentation == "randaugment"
            else None
        )
        mixes = {"mixup": v2.MixUp, "cutmix": v2.CutMix}
        self._mix = (
            mixes[recipe.mix](alpha=recipe.mix_alpha, num_classes=n_classes)
            if recipe.mix in mixes
            else None
        )

    def __call__(
        self, images: UInt8[Tensor, "b c h w"], labels: Int64[Tensor, " b"]
    ) -> tuple[Float32[Tensor, "b c h w"], Float32[Tensor, "b classes"]]:
        """Views of a batch and what should be predicted for them.

        Args:
            images: Pixels in 0..255; shuffled, since mixing pairs neighbours.
            labels: On the same device.

        Returns:
            Views with pixels in [0, 1], and targets whose rows sum to 1.
        """
        if self._is_shifted:
            images = self._shift(images)
        if self._randaugment is not None:
            with self._own_draws():
                parts = [self._randaugment(part) for part in images.chunk(_N_DRAWS)]
            images = torch.cat(parts)
        views = as_view(images)
        if self._mix is not None:
            with self._own_draws():
                views, targets = self._mix(views, labels)
        else:
            targets = views.new_zeros(len(labels), self._n_classes)
            targets.scatter_(1, labels[:, None], 1.0)
        if self._smoothing:
            targets = targets.mul_(1 - self._smoothing).add_(self._smoothing / self._n_classes)
        return views, targets

    def _shift(self, images: UInt8[Tensor, "b c h w"]) -> UInt8[Tensor, "b c h w"]:
        """Each picture moved, reflected at the border, and half of them mirrored if wanted."""
        n, channels, height, width = images.shape
        rows, columns = self._draw_lines(n, side=height), self._draw_lines(n, side=width)
        if self._is_flipped:
            flip = torch.rand(n, 1, generator=self._generator) < 0.5
            columns = torch.where(flip, columns.flip(1), columns)
        lines = torch.cat([rows, columns], dim=1).to(images.device, non_blocking=True)
        rows, columns = lines[:, :height], lines[:, height:]
        pixels = (rows[:, :, None] * width + columns[:, None, :]).reshape(n, 1, -1)
        flat = images.reshape(n, channels, -1)
        return flat.gather(2, pixels.expand(-1, channels, -1)).reshape(images.shape)

    def _draw_lines(self, n: int, *, side: int) -> Int64[Tensor, "n side"]:
        """For each of `n` pictures, which line comes to stand where."""
        most = min(max(1, side // _SHIFT_SHARE), side - 1)
        shift = torch.randint(-most, most + 1, (n, 1), generator=self._generator)
        last = side - 1
        return last - (last - (torch.arange(side) + shift).abs()).abs()

    @contextmanager
    def _own_draws(self) -> Generator[None]:
        """Lets torchvision, which draws from the global CPU generator, draw from ours."""
        seed = int(torch.randint(2**63 - 1, (), generator=self._generator))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch CUDA's
            yield
