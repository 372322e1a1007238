"""What a dual tower learns from pairs, and from the embeddings of a larger one.

All take rows of length 1. `positives` says which texts belong to which pictures: two pictures of a
batch may have the same caption, and telling those apart would be learning a mistake.

References:
    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021,
    section 2.3. https://arxiv.org/abs/2103.00020
    Yang et al., "CLIP-KD: An Empirical Study of CLIP Model Distillation", CVPR 2024, section 3.
    https://arxiv.org/abs/2307.12732
    Wu et al., "TinyCLIP: CLIP Distillation via Affinity Mimicking and Weight Inheritance", ICCV
    2023, section 3.1. https://arxiv.org/abs/2309.12314
    Yang et al., "Unified Contrastive Learning in Image-Text-Label Space", CVPR 2022, section 3.2
    (several positives). https://arxiv.org/abs/2204.03610
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["clip_loss", "embedding_loss", "interactive_loss", "relational_loss"]


def clip_loss(
    images: Float[Tensor, "batch dims"],
    texts: Float[Tensor, "batch dims"],
    *,
    positives: Bool[Tensor, "batch batch"],
    scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Cross-entropy of finding the text of each picture in the batch, and the other way round.

    Args:
        images: A row each.
        texts: Theirs, in the same order.
        positives: Which texts belong to which picture; its diagonal is true.
        scale: Factor of the cosines; positive.

    Returns:
        Mean of both directions, in nats.
    """
    there = _find_partners(images, texts, positives=positives, scale=scale)
    back = _find_partners(texts, images, positives=positives.T, scale=scale)
    return (there + back) / 2


def embedding_loss(
    student: Float[Tensor, "batch dims"], teacher: Float[Tensor, "batch dims"]
) -> Float[Tensor, ""]:
    """Mean square of what the student's embeddings differ from the teacher's.

    Args:
        student: Rows of length 1.
        teacher: Of the same pictures or texts.

    Returns:
        The mean over rows and dimensions, at most four over the dimensions.
    """
    return F.mse_loss(student, teacher)


def interactive_loss(
    images: Float[Tensor, "batch dims"],
    texts: Float[Tensor, "batch dims"],
    *,
    teacher_images: Float[Tensor, "batch dims"],
    teacher_texts: Float[Tensor, "batch dims"],
    positives: Bool[Tensor, "batch batch"],
    scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Cross-entropy of finding the teacher's partner of each of the student's embeddings.

    A picture's among the teacher's texts, a text's among the teacher's pictures; the scale is the
    student's here too.

    Args:
        images: The student's.
        texts: The student's.
        teacher_images: Of the same pictures.
        teacher_texts: Of the same texts.
        positives: As for `clip_loss`.
        scale: Likewise.

    Returns:
        Mean of both towers, in nats.
    """
    there = _find_partners(images, teacher_texts, positives=positives, scale=scale)
    back = _find_partners(texts, teacher_images, positives=positives.T, scale=scale)
    return (there + back) / 2


def relational_loss(
    images: Float[Tensor, "batch dims"],
    texts: Float[Tensor, "batch dims"],
    *,
    teacher_images: Float[Tensor, "batch dims"],
    teacher_texts: Float[Tensor, "batch dims"],
    scale: Float[Tensor, ""],
    teacher_scale: float,
) -> Float[Tensor, ""]:
    """KL divergence of the student's similarities within the batch from the teacher's.

    What the teacher takes for similar without being a pair is learnt, too.

    Args:
        images: The student's.
        texts: The student's.
        teacher_images: Of the same pictures.
        teacher_texts: Of the same texts.
        scale: Factor of the student's cosines; positive.
        teacher_scale: Of the teacher's.

    Returns:
        Mean of both directions, in nats; zero where both find the same.
    """
    ours, theirs = scale * images @ texts.T, teacher_scale * teacher_images @ teacher_texts.T
    return (_divergence(ours, theirs) + _divergence(ours.T, theirs.T)) / 2


def _find_partners(rows: Tensor, others: Tensor, *, positives: Tensor, scale: Tensor) -> Tensor:
    targets = positives.float()
    return F.cross_entropy(scale * rows @ others.T, targets / targets.sum(1, keepdim=True))


def _divergence(ours: Tensor, theirs: Tensor) -> Tensor:
    return F.kl_div(
        torch.log_softmax(ours, dim=1),
        torch.log_softmax(theirs, dim=1),
        reduction="batchmean",
        log_target=True,
    )
