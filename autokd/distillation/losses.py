"""The objective of a training step: the labels' loss and the teacher's, weighed."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from autokd.distillation.logit_losses import (
    adaptive_temperature,
    dist_loss,
    dkd_loss,
    multi_temperature_loss,
    soft_target_loss,
    standardise,
)
from autokd.types import Recipe

__all__ = ["consensus_loss", "distillation_loss", "label_loss", "teacher_loss"]


def label_loss(
    student_logits: Float[Tensor, "batch classes"],
    targets: Float[Tensor, "batch classes"],
    *,
    log_prior: Float[Tensor, " classes"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy of the student against labels that may be mixed or smoothed.

    Args:
        student_logits: Unnormalised scores.
        targets: A probability for each class; each row sums to 1, to 0 where the picture has no
            label, or to the share of the one that has, where two are mixed.
        log_prior: Logarithms of the shares of the classes. The student then learns what is left
            of a picture's class once its frequency is known: rare classes are not pushed down.

    Returns:
        The mean over the pictures that have a label, as many as the targets sum to, in nats; 0 if
        none has.

    References:
        Menon et al., "Long-tail learning via logit adjustment", 2020, equation 10.
        https://arxiv.org/abs/2007.07314
    """
    if log_prior is not None:
        student_logits = student_logits + log_prior
    n_labelled = targets.sum().clamp(min=1)
    return F.cross_entropy(student_logits, targets, reduction="sum") / n_labelled


def teacher_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    targets: Float[Tensor, "batch classes"],
    recipe: Recipe,
    temperature: float,
) -> Float[Tensor, ""]:
    """The recipe's loss on the teacher's logits.

    How sure the teacher is, for the adaptive temperature and for the pictures that are left out,
    is read off its logits as they are: at temperature 1, not standardised.

    Args:
        student_logits: Unnormalised scores; the gradient flows into these.
        teacher_logits: Of the same views.
        targets: A probability for each class; all 0 where a picture has no label. Only `dkd`
            looks at them.
        recipe: Which loss, and how its logits are prepared.
        temperature: At this point of the training; positive.

    Returns:
        The mean over the pictures that the teacher is sure enough of; 0 if there are none.
    """
    if recipe.teacher_confidence > 0:
        is_sure = teacher_logits.softmax(dim=1).amax(dim=1) >= recipe.teacher_confidence
        if not is_sure.any():
            return student_logits.sum() * 0.0  # still has a graph, so that it can be stepped
        student_logits, teacher_logits = student_logits[is_sure], teacher_logits[is_sure]
        targets = targets[is_sure]
    softness: float | Tensor = temperature
    if recipe.is_adaptive:
        softness = adaptive_temperature(teacher_logits, temperature)
    if recipe.is_standardised:
        student_logits, teacher_logits = standardise(student_logits), standardise(teacher_logits)
    return _logit_loss(
        student_logits, teacher_logits, targets=targets, recipe=recipe, temperature=softness
    )


def distillation_loss(
    student_logits: Float[Tensor, "batch classes"],
    targets: Float[Tensor, "batch classes"],
    *,
    teacher_logits: Float[Tensor, "batch classes"] | None,
    recipe: Recipe,
    alpha: float,
    temperature: float,
    log_prior: Float[Tensor, " classes"] | None = None,
) -> Float[Tensor, ""]:
    """The objective: `(1 - alpha)` of the labels' loss and `alpha` of the teacher's.

    Args:
        student_logits: Unnormalised scores.
        targets: A probability for each class; all 0 where a picture has no label.
        teacher_logits: Of the same views; may be none where `alpha` is 0.
        recipe: Which loss on logits.
        alpha: Weight of the teacher, in [0, 1].
        temperature: Softens teacher and student; positive.
        log_prior: Of the classes, for the labels' loss.

    Returns:
        The mean over the batch, in nats.

    Raises:
        ValueError: `alpha` is outside [0, 1], or is above 0 without a teacher.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"`alpha` must be in [0, 1], got {alpha}")
    hard = label_loss(student_logits, targets, log_prior=log_prior)
    if alpha == 0:
        return hard
    if teacher_logits is None:
        raise ValueError(f"`alpha` must be 0 without a teacher, got {alpha}")
    soft = teacher_loss(
        student_logits, teacher_logits, targets=targets, recipe=recipe, temperature=temperature
    )
    return soft * alpha + hard * (1 - alpha)


def consensus_loss(
    student_logits: Float[Tensor, "batch classes"],
    targets: Float[Tensor, "batch classes"],
    *,
    teacher_logits: Float[Tensor, "batch classes"] | None,
    recipe: Recipe,
    alpha: float,
    temperature: float,
    log_prior: Float[Tensor, " classes"] | None = None,
) -> Float[Tensor, ""]:
    """The objective where the teacher is heard of pictures without a label alone.

    Those weigh `alpha` times their share of the batch; all the rest is of the labels' loss, so
    that a picture with a label is taught as in a training without a teacher.

    Args:
        student_logits: Unnormalised scores.
        targets: A probability for each class; all 0 where a picture has no label. Of two that are
            mixed the one of the larger share counts.
        teacher_logits: Of the same views; may be none where `alpha` is 0.
        recipe: Which loss on logits.
        alpha: Weight of the teacher, in [0, 1].
        temperature: Softens teacher and student; positive.
        log_prior: Of the classes, for the labels' loss.

    Returns:
        The mean over the batch, in nats.
    """
    hard = label_loss(student_logits, targets, log_prior=log_prior)
    is_heard = targets.sum(dim=1) < 0.5
    if teacher_logits is None or alpha == 0 or not is_heard.any():
        return hard
    soft = teacher_loss(
        student_logits[is_heard],
        teacher_logits[is_heard],
        targets=targets[is_heard],
        recipe=recipe,
        temperature=temperature,
    )
    weight = alpha * is_heard.float().mean()
    return soft * weight + hard * (1 - weight)


def _logit_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    targets: Float[Tensor, "batch classes"],
    recipe: Recipe,
    temperature: float | Float[Tensor, "batch 1"],
) -> Float[Tensor, ""]:
    match recipe.loss:
        case "soft_targets":
            return soft_target_loss(student_logits, teacher_logits, temperature=temperature)
        case "dkd":
            return dkd_loss(
                student_logits,
                teacher_logits,
                target_classes=_target_classes(targets, teacher_logits),
                temperature=temperature,
                beta=recipe.dkd_beta,
            )
        case "dist":
            return dist_loss(student_logits, teacher_logits, temperature=temperature)
        case "multi_temperature":
            return multi_temperature_loss(student_logits, teacher_logits, temperature=temperature)
        case "cross_entropy":
            raise ValueError("`loss` must be one on the teacher's logits, got cross_entropy")


def _target_classes(
    targets: Float[Tensor, "batch classes"], teacher_logits: Float[Tensor, "batch classes"]
) -> Int64[Tensor, " batch"]:
    """The class of the largest share; what the teacher says where more of it has no label."""
    is_labelled = targets.amax(dim=1) >= 1 - targets.sum(dim=1)
    return torch.where(is_labelled, targets.argmax(dim=1), teacher_logits.argmax(dim=1))
