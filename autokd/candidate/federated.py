"""One round of one site: learning from what all sites say, and saying something oneself."""

import dataclasses

import numpy as np
import torch
import torchvision
from jaxtyping import Float, Float16, Float32, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from autokd.data import (
    Augment,
    JoinedViewer,
    SearchData,
    Viewer,
    build_viewer,
    join_unlabelled,
)
from autokd.distillation import (
    Keeper,
    OnEpoch,
    Plan,
    RememberedTeacher,
    Teaching,
    Training,
    distill,
)
from autokd.types import Recipe

__all__ = ["answer_public", "describe_views", "train_round"]

_BATCH = 256
_LEAST = -6e4  # of a logarithm that half precision holds
_SURE = 0.9  # of a label
_SEEDS_APART = 1000  # rounds draw orders and views of their own


def describe_views(recipe: Recipe, *, n_pictures: int, n_views: int) -> tuple[str, int]:
    """How views of the public pictures are made, and how many there are.

    Args:
        recipe: Its augmentation.
        n_pictures: Public ones.
        n_views: That are wanted.

    Returns:
        Equal where the views of the same pictures are; one view where nothing is done to them.
    """
    viewer = _build_public_viewer(recipe, n_pictures=n_pictures, n_views=n_views)
    policy = str(viewer)
    if recipe.augmentation == "randaugment":  # the others are ours, to the pixel
        version = torchvision.__version__.split("+", maxsplit=1)[0]  # CPU or CUDA is all one
        policy = f"{policy} torchvision {version}"
    return policy, viewer.n_views


def train_round(  # noqa: PLR0913 - everything that meets in a training
    student: nn.Module,
    recipe: Recipe,
    *,
    number: int,
    data: SearchData,
    consensus: Float32[np.ndarray, "views pictures classes"],
    plan: Plan,
    on_epoch: OnEpoch = lambda _: None,
    keeper: Keeper | None = None,
) -> Training:
    """Trains a student on from where it is, on its labels and on what all sites say.

    Public pictures are taught by the consensus and have no label. Private ones are taught by
    their labels alone, with the very loss of a training without the others, and are seen in as
    many views. Only where the recipe mixes one of each kind, a teacher says something of the
    private part too: the label, nine parts in ten, for nobody else has seen it.

    Args:
        student: Trained in place; ends with the weights of the round's best epoch on validation.
        recipe: Loss, schedules, augmentation and optimiser.
        number: Of the round, counted from 1.
        data: Private pictures with labels, public ones without.
        consensus: Logits for each view of each public picture.
        plan: Epochs, batch, seed and device.
        on_epoch: Called after each epoch; may end the training.
        keeper: Keeps the training after each epoch; where it has kept one, that goes on.

    Returns:
        The curve and the best accuracy.
    """
    plan = dataclasses.replace(plan, seed=plan.seed + _SEEDS_APART * number)
    n_private, n_public = len(data.train_images), len(data.unlabelled_images)
    private = build_viewer(recipe, n_pictures=n_private)
    public = _build_public_viewer(recipe, n_pictures=n_public, n_views=len(consensus))
    own = _say_labels(data.train_labels, n_classes=data.card.n_classes)

    def recall(view: int) -> Float32[Tensor, "pictures classes"]:
        return torch.cat([own, torch.from_numpy(consensus[view % len(consensus)])])

    teacher = RememberedTeacher(
        recall,
        expand=lambda kept, _: kept,
        check=lambda _kept, _views: None,  # nobody here could be asked again
        device=plan.device,
        name="consensus",
    )
    with torch.random.fork_rng([plan.device] if plan.device.type == "cuda" else []):
        return distill(
            student,
            join_unlabelled(data),
            recipe=recipe,
            plan=plan,
            augment=Augment(
                recipe,
                viewer=JoinedViewer(private, public, n_first=n_private),
                n_classes=data.card.n_classes,
                seed=plan.seed,
            ),
            teaching=Teaching(logits=teacher, is_of_unlabelled=True),
            on_epoch=on_epoch,
            keeper=keeper,
        )


def answer_public(
    student: nn.Module,
    recipe: Recipe,
    images: UInt8[Tensor, "pictures channels height width"],
    *,
    n_views: int,
    device: torch.device,
) -> Float16[np.ndarray, "views pictures classes"]:
    """What a student says of each view of the public pictures; this is all that leaves a site.

    Args:
        student: Trained; left on the CPU, in evaluation mode.
        recipe: Its augmentation.
        images: Public pictures, pixels in 0..255.
        n_views: Of each.
        device: Where it is asked.

    Returns:
        Logarithms of probabilities.
    """
    viewer = _build_public_viewer(recipe, n_pictures=len(images), n_views=n_views)
    views = [
        _ask(student, viewer, images, view=view, device=device)
        .log_softmax(1)
        .clamp(min=_LEAST)
        .half()
        for view in range(viewer.n_views)
    ]
    return torch.stack(views).numpy()


def _build_public_viewer(recipe: Recipe, *, n_pictures: int, n_views: int) -> Viewer:
    """Views that are the same at every site, whatever device it has."""
    return build_viewer(recipe, n_pictures=n_pictures, n_views=n_views, is_exact=True)


def _say_labels(
    labels: Int64[Tensor, " pictures"], *, n_classes: int
) -> Float32[Tensor, "pictures classes"]:
    """What a teacher would say who knows the labels: logarithms of probabilities."""
    said = F.one_hot(labels, n_classes).float()
    return (said * _SURE + (1 - _SURE) / n_classes).log()


@torch.no_grad()
def _ask(
    student: nn.Module,
    viewer: Viewer,
    images: UInt8[Tensor, "pictures channels height width"],
    *,
    view: int,
    device: torch.device,
) -> Float[Tensor, "pictures classes"]:
    """Logits of one view of every picture, on the CPU and in full precision."""
    student.to(device).eval()
    parts: list[Tensor] = []
    with torch.autocast(device.type, enabled=False):
        for indices in torch.arange(len(images)).split(_BATCH):
            views = viewer(images[indices].to(device), indices, view=view)
            parts.append(student(views).float().cpu())
    student.to("cpu")
    return torch.cat(parts)
