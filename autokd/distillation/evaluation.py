"""How good a network is on labelled pictures."""

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from autokd.distillation.engine import Engine

__all__ = ["evaluate"]

_EVAL_BATCH = 512


@torch.no_grad()
def evaluate(
    network: nn.Module,
    images: UInt8[Tensor, "count channels height width"],
    labels: Int64[Tensor, " count"],
    *,
    engine: Engine,
) -> tuple[float, float]:
    """Cross-entropy and top-1 of a network.

    Args:
        network: Takes views in [0, 1]; left in evaluation mode.
        images: Any number of pictures.
        labels: Their classes.
        engine: How to compute.

    Returns:
        The mean loss in nats (an infinite or undefined one as 1e9) and the accuracy in [0, 1].
    """
    network.eval()
    loss_sum = torch.zeros((), device=engine.device)
    n_right = torch.zeros((), device=engine.device)
    for pictures, truth in zip(images.split(_EVAL_BATCH), labels.split(_EVAL_BATCH), strict=True):
        views = pictures.to(engine.device).float().div_(255)
        with engine.precision():
            logits: Float[Tensor, "batch classes"] = network(
                views.contiguous(memory_format=engine.memory_format)
            )
        truth = truth.to(engine.device)
        loss_sum += F.cross_entropy(logits.float(), truth, reduction="sum")
        n_right += (logits.argmax(1) == truth).sum()
    loss = torch.nan_to_num(loss_sum / len(labels), nan=1e9, posinf=1e9).item()
    return loss, n_right.item() / len(labels)
