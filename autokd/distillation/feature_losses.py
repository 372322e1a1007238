"""The losses of a distilled student, on features; all are computed in float32."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "angle_loss",
    "attention_loss",
    "contrastive_loss",
    "distance_loss",
    "fsp_loss",
    "fsp_matrix",
    "hint_loss",
]

_LEAST_SHARE = 1e-6  # of the mean squared distance: nearer points are held for that far apart
_LEAST_SQUARE = 1e-12


def hint_loss(
    student_maps: Float[Tensor, "batch channels height width"],
    teacher_maps: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, ""]:
    """Mean squared difference of maps.

    Args:
        student_maps: Projected to the teacher's channels.
        teacher_maps: At the student's resolution.

    Returns:
        The mean over all values.

    References:
        Romero et al., "FitNets: Hints for Thin Deep Nets", 2015, section 2.2.
        https://arxiv.org/abs/1412.6550
    """
    return F.mse_loss(student_maps.float(), teacher_maps.float())


def attention_loss(
    student_maps: Float[Tensor, "batch student_channels height width"],
    teacher_maps: Float[Tensor, "batch teacher_channels height width"],
) -> Float[Tensor, ""]:
    """Mean squared difference of where two networks look.

    Where a network looks is the sum of squares over channels, scaled to length one: the scale
    of a picture's map does not matter, and the channels of both may differ.

    Args:
        student_maps: Of any number of channels.
        teacher_maps: At the student's resolution.

    Returns:
        The mean over pictures and places.

    References:
        Zagoruyko & Komodakis, "Paying More Attention to Attention", 2017, section 3.1.
        https://arxiv.org/abs/1612.03928
    """
    return F.mse_loss(_attention(student_maps), _attention(teacher_maps))


def fsp_matrix(
    front: Float[Tensor, "batch front_channels front_height front_width"],
    back: Float[Tensor, "batch back_channels back_height back_width"],
) -> Float[Tensor, "batch front_channels back_channels"]:
    """The flow between two layers: products of their channels, averaged over places.

    Args:
        front: Maps of one layer.
        back: Maps of another; the larger of the two is pooled to the smaller.

    Returns:
        A Gram matrix for each picture.

    References:
        Yim et al., "A Gift from Knowledge Distillation", CVPR 2017, section 3.2.
        https://openaccess.thecvf.com/content_cvpr_2017/papers/Yim_A_Gift_From_CVPR_2017_paper.pdf
    """
    height = min(front.shape[2], back.shape[2])
    width = min(front.shape[3], back.shape[3])
    near, far = _places(front, height, width), _places(back, height, width)
    return near @ far.transpose(1, 2) / (height * width)


def fsp_loss(
    student_flow: Float[Tensor, "batch front_channels back_channels"],
    teacher_flow: Float[Tensor, "batch front_channels back_channels"],
) -> Float[Tensor, ""]:
    """Mean squared difference of two flows.

    Args:
        student_flow: From `fsp_matrix`, of projected maps.
        teacher_flow: From `fsp_matrix`.

    Returns:
        The mean over pictures and pairs of channels.

    References:
        Yim et al., "A Gift from Knowledge Distillation", CVPR 2017, section 3.3.
        https://openaccess.thecvf.com/content_cvpr_2017/papers/Yim_A_Gift_From_CVPR_2017_paper.pdf
    """
    return F.mse_loss(student_flow.float(), teacher_flow.float())


def distance_loss(
    student_embeddings: Float[Tensor, "batch student_width"],
    teacher_embeddings: Float[Tensor, "batch teacher_width"],
) -> Float[Tensor, ""]:
    """Huber loss of the distances between pictures, each network's in units of its mean.

    Args:
        student_embeddings: The gradient flows into these.
        teacher_embeddings: Of the same pictures; may be of another width.

    Returns:
        The mean over all pairs; 0 for a batch of one.

    References:
        Park et al., "Relational Knowledge Distillation", CVPR 2019, section 3.2.1.
        https://arxiv.org/abs/1904.05068
    """
    return F.smooth_l1_loss(_distances(student_embeddings), _distances(teacher_embeddings))


def angle_loss(
    student_embeddings: Float[Tensor, "batch student_width"],
    teacher_embeddings: Float[Tensor, "batch teacher_width"],
) -> Float[Tensor, ""]:
    """Huber loss of the cosines of the angles that each three pictures make.

    Costs batch**3 values whatever the width: cosines come from the Gram matrix.

    Args:
        student_embeddings: The gradient flows into these.
        teacher_embeddings: Of the same pictures; may be of another width.

    Returns:
        The mean over all triples.

    References:
        Park et al., "Relational Knowledge Distillation", CVPR 2019, section 3.2.2.
        https://arxiv.org/abs/1904.05068
    """
    return F.smooth_l1_loss(_cosines(student_embeddings), _cosines(teacher_embeddings))


def contrastive_loss(
    student_embeddings: Float[Tensor, "batch width"],
    teacher_embeddings: Float[Tensor, "batch width"],
    *,
    temperature: float = 0.07,
) -> Float[Tensor, ""]:
    """How hard it is to tell which teacher's embedding is of the student's picture, and back.

    The paper draws 16,384 negatives from a memory bank of all training pictures and estimates
    their normalisation (NCE). Here the negatives are the other pictures of the batch, and the
    normalisation is exact (InfoNCE): nothing is stored, augmented views are new each time, and
    large batches are worth more.

    Args:
        student_embeddings: Projected to the common width.
        teacher_embeddings: Projected to the common width.
        temperature: Divides cosines. Must be positive.

    Returns:
        The mean over the batch and both directions, in nats.

    Raises:
        ValueError: `temperature` is not positive.

    References:
        Tian, Krishnan & Isola, "Contrastive Representation Distillation", 2020, section 3.
        https://arxiv.org/abs/1910.10699
    """
    if temperature <= 0:
        raise ValueError(f"`temperature` must be positive, got {temperature}")
    student = F.normalize(student_embeddings.float(), dim=1)
    teacher = F.normalize(teacher_embeddings.float(), dim=1)
    scores = student @ teacher.T / temperature
    own = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


def _places(maps: Tensor, height: int, width: int) -> Float[Tensor, "batch channels places"]:
    """A map pooled to a size, its places in a row."""
    if maps.shape[2:] == (height, width):
        return maps.float().flatten(2)
    return F.adaptive_avg_pool2d(maps.float(), (height, width)).flatten(2)


def _attention(maps: Tensor) -> Float[Tensor, "batch places"]:
    """Sum of squares over channels, of length one for each picture."""
    return F.normalize(maps.float().square().sum(1).flatten(1), dim=1)


def _measure(
    embeddings: Tensor,
) -> tuple[Float[Tensor, "batch batch"], Float[Tensor, "batch batch"]]:
    """Products of centred embeddings and their distances, which are above zero everywhere."""
    centred = embeddings.float() - embeddings.float().mean(0)  # less is lost to cancellation
    products = centred @ centred.T
    lengths = products.diagonal()
    squares = lengths.unsqueeze(1) + lengths - 2 * products
    least = (squares.detach().mean() * _LEAST_SHARE).clamp(min=_LEAST_SQUARE)
    return products, torch.maximum(squares, least).sqrt()


def _is_pair(distances: Tensor) -> Tensor:
    """1 for two pictures, 0 for a picture and itself."""
    return 1 - torch.eye(len(distances), device=distances.device)


def _distances(embeddings: Tensor) -> Float[Tensor, "batch batch"]:
    """Distances in units of the mean distance of two pictures."""
    _, distances = _measure(embeddings)
    distances = distances * _is_pair(distances)
    n_pairs = max(1, len(distances) * (len(distances) - 1))
    return distances / (distances.sum() / n_pairs).clamp(min=_LEAST_SQUARE)


def _cosines(embeddings: Tensor) -> Float[Tensor, "batch batch batch"]:
    """At each picture, the cosine of the angle between two others."""
    products, distances = _measure(embeddings)
    inverse = _is_pair(distances) / distances
    # (k - i) . (j - i) from products, for corner i
    corner = products.diagonal().view(-1, 1, 1) - products.unsqueeze(1) - products.unsqueeze(2)
    return (products + corner) * inverse.unsqueeze(1) * inverse.unsqueeze(2)
