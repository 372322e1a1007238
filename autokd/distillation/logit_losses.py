"""What a student can learn from a teacher's logits: four losses, and two ways to prepare them.

Every loss is a mean over the batch, is scaled by the square of the temperature and sends its
gradient into the student only. A temperature is one number, or one for each picture of the batch.
"""

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "adaptive_temperature",
    "dist_loss",
    "dkd_loss",
    "multi_temperature_loss",
    "soft_target_loss",
    "standardise",
]

_EPSILON = 1e-7  # of a standard deviation, as in the authors' code
_DIST_WEIGHT = 2.0  # beta and gamma of the authors' configuration for CIFAR
_FACTORS = (0.5, 0.75, 1.0, 1.25, 1.5)  # 2 to 6 at temperature 4, as in the authors' code


def soft_target_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    temperature: float | Float[Tensor, "batch 1"],
) -> Float[Tensor, ""]:
    """KL divergence of the student from the teacher's softened prediction.

    Scaled by `temperature**2`, so that its gradient keeps its size as the
    temperature grows and the loss can be added to a cross-entropy.

    Args:
        student_logits: Unnormalised scores; the gradient flows into these.
        teacher_logits: Unnormalised scores of the same classes in the same order.
        temperature: Above 1 flattens both predictions. Must be positive; a tensor is not
            checked, that would wait for the device.

    Returns:
        The mean over the batch, in nats.

    Raises:
        ValueError: `temperature` is not positive.

    References:
        Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network",
        2015, section 2. https://arxiv.org/abs/1503.02531
    """
    if not isinstance(temperature, Tensor) and temperature <= 0:
        raise ValueError(f"`temperature` must be positive, got {temperature}")
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=1)
    return (_divergence(student, teacher) * temperature**2).mean()


def dkd_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    target_classes: Int64[Tensor, " batch"],
    temperature: float | Float[Tensor, "batch 1"],
    beta: float,
) -> Float[Tensor, ""]:
    """Decoupled distillation: how sure of the target class, and how the others share the rest.

    The soft-target loss of a picture is `TCKD + (1 - p) * NCKD`, `p` being the teacher's softened
    probability of the target class: a sure teacher mutes what it knows of the other classes. Here
    the factor is `beta` for every picture.

    Args:
        student_logits: Unnormalised scores; the gradient flows into these.
        teacher_logits: Unnormalised scores of the same classes in the same order.
        target_classes: The class of each picture.
        temperature: Above 1 flattens both predictions. Must be positive; a tensor is not checked.
        beta: Weight of the other classes (NCKD) against the target class (TCKD).

    Returns:
        The mean over the batch, in nats.

    Raises:
        ValueError: `temperature` is not positive.

    References:
        Zhao et al., "Decoupled Knowledge Distillation", 2022, section 3.
        https://arxiv.org/abs/2203.08679
    """
    if not isinstance(temperature, Tensor) and temperature <= 0:
        raise ValueError(f"`temperature` must be positive, got {temperature}")
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=1)
    is_target = F.one_hot(target_classes, student.shape[1]).bool()
    target = _divergence(_pair(student, is_target), _pair(teacher, is_target))
    others = _divergence(_others(student, is_target), _others(teacher, is_target))
    return ((target + others * beta) * temperature**2).mean()


def dist_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    temperature: float | Float[Tensor, "batch 1"],
) -> Float[Tensor, ""]:
    """How little the student's softened predictions correlate with the teacher's.

    One minus Pearson's correlation, over the classes of each picture and over the pictures of
    each class; both weigh 2. A student far weaker than the teacher can still reach 0: any
    positive affine map of the teacher's predictions does. A batch of one has the first part only.

    Args:
        student_logits: Unnormalised scores; the gradient flows into these.
        teacher_logits: Unnormalised scores of the same classes in the same order.
        temperature: Above 1 flattens both predictions. Must be positive; a tensor is not checked.

    Returns:
        The mean over pictures and over classes, scaled by `temperature**2`; without unit.

    Raises:
        ValueError: `temperature` is not positive.

    References:
        Huang et al., "Knowledge Distillation from A Stronger Teacher", 2022, section 4.
        https://arxiv.org/abs/2205.10536
    """
    if not isinstance(temperature, Tensor) and temperature <= 0:
        raise ValueError(f"`temperature` must be positive, got {temperature}")
    student = F.softmax(student_logits / temperature, dim=1)
    teacher = F.softmax(teacher_logits.detach() / temperature, dim=1)
    scale = student.new_ones(()) * temperature**2
    loss = ((1 - _correlation(student, teacher, dim=1)) * scale).mean()
    if len(student) > 1:
        loss = loss + (1 - _correlation(student, teacher, dim=0)).mean() * scale.mean()
    return loss * _DIST_WEIGHT


def multi_temperature_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    temperature: float | Float[Tensor, "batch 1"],
) -> Float[Tensor, ""]:
    """The mean soft-target loss over five temperatures around one.

    The prediction part of multi-level logit distillation; its parts on the batch's and the
    classes' Gram matrices are left out.

    Args:
        student_logits: Unnormalised scores; the gradient flows into these.
        teacher_logits: Unnormalised scores of the same classes in the same order.
        temperature: The middle one; the others are 0.5, 0.75, 1.25 and 1.5 times that. Positive.

    Returns:
        The mean over the batch and the temperatures, in nats.

    References:
        Jin, Wang & Lin, "Multi-Level Logit Distillation", CVPR 2023, section 3.
        https://openaccess.thecvf.com/content/CVPR2023/html/Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html
    """
    losses = [
        soft_target_loss(student_logits, teacher_logits, temperature=temperature * factor)
        for factor in _FACTORS
    ]
    return sum(losses[1:], losses[0]) / len(losses)


def standardise(
    logits: Float[Tensor, "batch classes"],
) -> Float[Tensor, "batch classes"]:
    """Each picture's logits with mean 0 and standard deviation 1.

    A student then need not match how large the teacher's logits are, only how they lie.

    Args:
        logits: Unnormalised scores.

    Returns:
        Scores in the same order; all 0 where they were equal.

    References:
        Sun et al., "Logit Standardization in Knowledge Distillation", 2024, section 4.
        https://arxiv.org/abs/2403.01427
    """
    deviation = logits.std(dim=1, keepdim=True)
    return (logits - logits.mean(dim=1, keepdim=True)) / (deviation + _EPSILON)


def adaptive_temperature(
    teacher_logits: Float[Tensor, "batch classes"],
    temperature: float,
) -> Float[Tensor, "batch 1"]:
    """A temperature for each picture: all of it where the teacher is sure, 1 where it is not.

    `1 + (temperature - 1) * confidence`, the confidence being one minus the entropy of the
    teacher's prediction as a share of the largest there is. The formula is ours; the paper below
    has the related idea, with another formula, of one temperature per picture.

    Args:
        teacher_logits: Unnormalised scores of two or more classes.
        temperature: Of a teacher that is entirely sure. Positive.

    Returns:
        Numbers between 1 and `temperature`, without a gradient.

    References:
        Guo et al., "Reducing the Teacher-Student Gap via Adaptive Temperatures", 2022, on
        OpenReview.
    """
    log_teacher = F.log_softmax(teacher_logits.detach(), dim=1)
    entropy = -(log_teacher.exp() * log_teacher).sum(dim=1, keepdim=True)
    confidence = (1 - entropy / math.log(teacher_logits.shape[1])).clamp(0, 1)
    return 1 + (temperature - 1) * confidence


def _divergence(
    log_student: Float[Tensor, "batch outcomes"],
    log_teacher: Float[Tensor, "batch outcomes"],
) -> Float[Tensor, "batch 1"]:
    """KL divergence of each row, in nats."""
    terms = F.kl_div(log_student, log_teacher, reduction="none", log_target=True)
    return terms.sum(dim=1, keepdim=True)


def _pair(
    log_probabilities: Float[Tensor, "batch classes"],
    is_target: Bool[Tensor, "batch classes"],
) -> Float[Tensor, "batch 2"]:
    """Logarithms of the probabilities of the target class and of all others together."""
    target = log_probabilities.masked_fill(~is_target, -math.inf).logsumexp(dim=1)
    others = log_probabilities.masked_fill(is_target, -math.inf).logsumexp(dim=1)
    return torch.stack((target, others), dim=1)


def _others(
    log_probabilities: Float[Tensor, "batch classes"],
    is_target: Bool[Tensor, "batch classes"],
) -> Float[Tensor, "batch classes"]:
    """Logarithms of the probabilities among the other classes; 0 at the target class."""
    others = F.log_softmax(log_probabilities.masked_fill(is_target, -math.inf), dim=1)
    return others.masked_fill(is_target, 0.0)  # adds nothing to a divergence; two -inf are NaN


def _correlation(student: Tensor, teacher: Tensor, *, dim: int) -> Tensor:
    """Pearson's correlation along a dimension, which is kept."""
    student = student - student.mean(dim=dim, keepdim=True)
    teacher = teacher - teacher.mean(dim=dim, keepdim=True)
    return F.cosine_similarity(student, teacher, dim=dim).unsqueeze(dim)
