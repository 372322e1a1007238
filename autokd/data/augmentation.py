"""Views of pictures, made for a whole batch at once on the device where it lies.

View `v` of picture `i` is the same whenever it is made, by whichever trial: what a teacher says of
it can be kept. Only the mixing of two views, which comes after, is drawn anew.
"""

import dataclasses
import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import final

import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor
from torchvision.transforms import v2

from autokd.types import Recipe

__all__ = [
    "N_VIEWS",
    "Augment",
    "JoinedViewer",
    "Viewer",
    "Views",
    "as_view",
    "build_augmentation",
    "build_viewer",
]

N_VIEWS = 16
"""Views of a picture, unless told otherwise; an epoch sees one of each picture."""

_VIEWS_APART = 1_000_003  # a prime, so that seeds begin at different views of any number
_SEEDS_APART = 10_007
"""Epochs at the most; each mixes by draws of its own."""

_N_DRAWS = 8
"""Parts of a data set that RandAugment treats differently in one view."""

_SHIFT_SHARE = 8
"""A picture is shifted by at most its side over this."""


@final
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """A batch as teacher and student see it.

    Attributes:
        pictures: In [0, 1], mixed where the recipe mixes.
        targets: A probability for each class; a row of zeros where there is no label.
        clean: The pictures before mixing.
        indices: Which picture of the data set each row is, on the CPU.
        view: Number of the view.
        ratio: Share of each row's own picture in its mixture, the rest being of the row before;
            none where nothing is mixed.
    """

    pictures: Float32[Tensor, "b c h w"]
    targets: Float32[Tensor, "b classes"]
    clean: Float32[Tensor, "b c h w"]
    indices: Int64[Tensor, " b"]
    view: int
    ratio: Float32[Tensor, ""] | None

    def mix(self, rows: Float[Tensor, "b width"]) -> Float[Tensor, "b width"]:
        """Rows that belong to the clean pictures, mixed as the pictures are."""
        if self.ratio is None:
            return rows
        return rows * self.ratio + rows.roll(1, 0) * (1 - self.ratio)


def as_view(images: UInt8[Tensor, "b c h w"]) -> Float32[Tensor, "b c h w"]:
    """The pictures as they are, pixels in [0, 1]; what validation sees.

    Args:
        images: Pixels in 0..255.

    Returns:
        New tensors on the same device.
    """
    return images.to(torch.float32).div_(255)


def build_viewer(
    recipe: Recipe, *, n_pictures: int, n_views: int = N_VIEWS, is_exact: bool = False
) -> "Viewer":
    """The views of a recipe.

    Args:
        recipe: Its `augmentation` and `magnitude`.
        n_pictures: Of the data set.
        n_views: Of each picture; one where nothing is done to it.
        is_exact: Whether RandAugment, which rounds differently on a GPU, is done on the CPU
            wherever the pictures are, so that one version of torchvision gives the same pixels.

    Returns:
        What makes view `v` of picture `i`.
    """
    return Viewer(recipe, n_pictures=n_pictures, n_views=n_views, is_exact=is_exact)


@final
class Viewer:
    """Makes views of pictures; the same picture and number give the same view.

    Attributes:
        n_views: How many different ones there are.
    """

    def __init__(
        self, recipe: Recipe, *, n_pictures: int, n_views: int, is_exact: bool = False
    ) -> None:
        self.n_views = 1 if recipe.augmentation == "none" else n_views
        self._n_pictures = n_pictures
        self._is_shifted = recipe.augmentation != "none"
        self._is_flipped = recipe.augmentation in {"flip_crop", "randaugment"}
        self._randaugment = (
            v2.RandAugment(num_ops=2, magnitude=recipe.magnitude)
            if recipe.augmentation == "randaugment"
            else None
        )
        self._draws = _Draws.of(0, n_pictures=n_pictures)
        self._view = 0
        magnitude = recipe.magnitude if self._randaugment is not None else 0
        self._is_exact = is_exact
        self._key = f"{recipe.augmentation} {magnitude} {_SHIFT_SHARE} {_N_DRAWS} 2"

    def __str__(self) -> str:
        """All that a view depends on, but for the pictures and its number."""
        return self._key

    def __call__(
        self,
        images: UInt8[Tensor, "b c h w"],
        indices: Int64[Tensor, " b"],
        *,
        view: int,
    ) -> Float32[Tensor, "b c h w"]:
        """One view of each picture of a batch.

        Args:
            images: Pixels in 0..255.
            indices: Which picture of the data set each of them is, on the CPU.
            view: Its number, below `n_views`.

        Returns:
            Pixels in [0, 1].
        """
        if view != self._view:
            self._draws, self._view = _Draws.of(view, n_pictures=self._n_pictures), view
        if self._is_shifted:
            images = self._shift(images, indices)
        if self._randaugment is not None:
            device = images.device
            images = images.cpu() if self._is_exact else images
            images = self._augment(images, self._draws.part[indices], self._randaugment).to(device)
        return as_view(images)

    def _shift(
        self, images: UInt8[Tensor, "b c h w"], indices: Int64[Tensor, " b"]
    ) -> UInt8[Tensor, "b c h w"]:
        """Each picture moved, reflected at the border, and half of them mirrored if wanted."""
        n, channels, height, width = images.shape
        rows = _lines(self._draws.down[indices], side=height)
        columns = _lines(self._draws.right[indices], side=width)
        if self._is_flipped:
            flip = self._draws.flip[indices][:, None] < 0.5
            columns = torch.where(flip, columns.flip(1), columns)
        lines = torch.cat([rows, columns], dim=1).to(images.device, non_blocking=True)
        rows, columns = lines[:, :height], lines[:, height:]
        pixels = (rows[:, :, None] * width + columns[:, None, :]).reshape(n, 1, -1)
        flat = images.reshape(n, channels, -1)
        return flat.gather(2, pixels.expand(-1, channels, -1)).reshape(images.shape)

    def _augment(
        self, images: UInt8[Tensor, "b c h w"], part: Int64[Tensor, " b"], transform: v2.Transform
    ) -> UInt8[Tensor, "b c h w"]:
        """RandAugment, drawn once for each part of the data set."""
        order = part.argsort(stable=True)
        back = order.argsort().to(images.device)
        counts = part.bincount(minlength=_N_DRAWS).tolist()
        done = []
        for seed, some in zip(
            self._draws.seeds, images[order.to(images.device)].split(counts), strict=True
        ):
            if len(some):
                with _own_draws(seed):
                    done.append(transform(some))
        return torch.cat(done)[back]


@final
class JoinedViewer:
    """Views of pictures of two kinds in one list, each as it would be without the other.

    Attributes:
        n_views: Of the kind that has more; the other one begins again.
    """

    def __init__(self, first: Viewer, second: Viewer, *, n_first: int) -> None:
        """Joins both.

        Args:
            first: Of the pictures with the lower indices.
            second: Of those with the higher ones.
            n_first: Where they begin.
        """
        self.n_views = max(first.n_views, second.n_views)
        self._first, self._second, self._n_first = first, second, n_first

    def __call__(
        self,
        images: UInt8[Tensor, "b c h w"],
        indices: Int64[Tensor, " b"],
        *,
        view: int,
    ) -> Float32[Tensor, "b c h w"]:
        """One view of each picture of a batch, as `Viewer` gives it."""
        views = torch.empty(images.shape, dtype=torch.float32, device=images.device)
        is_first = indices < self._n_first
        kinds = ((self._first, is_first, 0), (self._second, ~is_first, self._n_first))
        for viewer, is_of_kind, start in kinds:
            if is_of_kind.any():
                here = is_of_kind.to(images.device)
                number = view % viewer.n_views
                views[here] = viewer(images[here], indices[is_of_kind] - start, view=number)
        return views


@final
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Draws:
    """What is drawn for one view of every picture, always the same, in [0, 1)."""

    down: Float32[Tensor, " pictures"]
    right: Float32[Tensor, " pictures"]
    flip: Float32[Tensor, " pictures"]
    part: Int64[Tensor, " pictures"]
    seeds: list[int]

    @classmethod
    def of(cls, view: int, *, n_pictures: int) -> "_Draws":
        digest = hashlib.sha256(f"view {view}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        seeds = torch.randint(2**62, (_N_DRAWS,), generator=generator).tolist()
        down, right, flip = torch.rand(3, n_pictures, generator=generator)
        part = torch.randint(_N_DRAWS, (n_pictures,), generator=generator)
        return cls(down=down, right=right, flip=flip, part=part, seeds=seeds)


def _lines(draws: Float32[Tensor, " n"], *, side: int) -> Int64[Tensor, "n side"]:
    """For each of `n` pictures, which line comes to stand where."""
    most = min(max(1, side // _SHIFT_SHARE), side - 1)
    shift = (draws * (2 * most + 1)).long().clamp_(max=2 * most)[:, None] - most
    last = side - 1
    return last - (last - (torch.arange(side) + shift).abs()).abs()


@contextmanager
def _own_draws(seed: int) -> Generator[None]:
    """Lets torchvision, which draws from the global CPU generator, draw from a seed of ours."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch CUDA's
        yield


def build_augmentation(
    recipe: Recipe, *, n_classes: int, n_pictures: int, seed: int, n_views: int = N_VIEWS
) -> "Augment":
    """The augmentation of a recipe.

    Args:
        recipe: Its `augmentation`, `magnitude`, `mix`, `mix_alpha` and `label_smoothing`.
        n_classes: Of the targets.
        n_pictures: Of the data set.
        seed: Of the mixing and of the order of the views.
        n_views: Of each picture.

    Returns:
        A function from batches to views and targets.
    """
    viewer = build_viewer(recipe, n_pictures=n_pictures, n_views=n_views)
    return Augment(recipe, viewer=viewer, n_classes=n_classes, seed=seed)


@final
class Augment:
    """Makes views and soft targets out of a batch.

    Draws come from a generator of its own on the CPU, so that the same seed gives the same
    views on every device; torch's global generators are left as they were.

    Attributes:
        viewer: Makes the views before they are mixed.
    """

    def __init__(
        self, recipe: Recipe, *, viewer: Viewer | JoinedViewer, n_classes: int, seed: int
    ) -> None:
        self.viewer = viewer
        self._generator = torch.Generator()
        self._seed, self._epoch = seed, -1
        self._first = _VIEWS_APART * seed  # another seed sees the views in another order
        self._n_classes = n_classes
        self._smoothing = recipe.label_smoothing
        mixes = {"mixup": v2.MixUp, "cutmix": v2.CutMix}
        self._mix = (
            mixes[recipe.mix](alpha=recipe.mix_alpha, num_classes=n_classes + 1)
            if recipe.mix in mixes
            else None
        )

    def __call__(
        self,
        images: UInt8[Tensor, "b c h w"],
        labels: Int64[Tensor, " b"],
        *,
        indices: Int64[Tensor, " b"],
        epoch: int,
    ) -> Views:
        """Views of a batch and what should be predicted for them.

        Args:
            images: Pixels in 0..255; shuffled, since mixing pairs neighbours.
            labels: On the same device; below 0 where there is none.
            indices: Which picture of the data set each of them is, on the CPU.
            epoch: Counted from 0; each has its own view of a picture, as far as they reach.

        Returns:
            Views with pixels in [0, 1], and targets whose rows sum to 1, to 0 without a label, or
            to the share of the picture with a label where it is mixed with one without.
        """
        if epoch != self._epoch:  # a training that was cut off goes on with the same draws
            self._generator.manual_seed(self._seed * _SEEDS_APART + epoch)
            self._epoch = epoch
        view = (self._first + epoch) % self.viewer.n_views
        clean = self.viewer(images, indices, view=view)
        # One column more: first the pictures without a label, after mixing the ratio.
        targets = clean.new_zeros(len(labels), self._n_classes + 1)
        targets.scatter_(1, (labels % (self._n_classes + 1))[:, None], 1.0)
        targets[:, -1] = 0.0
        pictures, ratio = clean, None
        if self._mix is not None:
            targets[0, -1] = 1.0
            with _own_draws(int(torch.randint(2**62, (), generator=self._generator))):
                pictures, targets = self._mix(clean, targets)
            ratio = targets[0, -1]
        targets = targets[:, :-1]
        if self._smoothing:
            share = targets.sum(1, keepdim=True)
            targets = targets * (1 - self._smoothing) + share * self._smoothing / self._n_classes
        return Views(
            pictures=pictures,
            targets=targets,
            clean=clean,
            indices=indices,
            view=view,
            ratio=ratio,
        )
