"""The losses of a distilled student, on logits."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["distillation_loss", "label_loss", "soft_target_loss"]


def soft_target_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """KL divergence of the student from the teacher's softened prediction.

    Scaled by `temperature**2`, so that its gradient keeps its size as the
    temperature grows and the loss can be added to a cross-entropy.

    Args:
        student_logits: Unnormalised scores; the gradient flows into these.
        teacher_logits: Unnormalised scores of the same classes in the same order.
        temperature: Above 1 flattens both predictions. Must be positive.

    Returns:
        The mean over the batch, in nats.

    Raises:
        ValueError: `temperature` is not positive.

    References:
        Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network",
        2015, section 2. https://arxiv.org/abs/1503.02531
    """
    if temperature <= 0:
        raise ValueError(f"`temperature` must be positive, got {temperature}")
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def label_loss(
    student_logits: Float[Tensor, "batch classes"],
    targets: Float[Tensor, "batch classes"],
) -> Float[Tensor, ""]:
    """Cross-entropy of the student against labels that may be mixed or smoothed.

    Args:
        student_logits: Unnormalised scores.
        targets: A probability for each class; each row sums to 1.

    Returns:
        The mean over the batch, in nats.
    """
    return F.cross_entropy(student_logits, targets)


def distillation_loss(
    student_logits: Float[Tensor, "batch classes"],
    targets: Float[Tensor, "batch classes"],
    *,
    teacher_logits: Float[Tensor, "batch classes"] | None,
    alpha: float,
    temperature: float,
) -> Float[Tensor, ""]:
    """The objective: `(1 - alpha)` of the labels' loss and `alpha` of the teacher's.

    Args:
        student_logits: Unnormalised scores.
        targets: A probability for each class.
        teacher_logits: Of the same views; may be none where `alpha` is 0.
        alpha: Weight of the teacher, in [0, 1].
        temperature: Softens teacher and student; positive.

    Returns:
        The mean over the batch, in nats.

    Raises:
        ValueError: `alpha` is outside [0, 1], or is above 0 without a teacher.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"`alpha` must be in [0, 1], got {alpha}")
    if alpha == 0:
        return label_loss(student_logits, targets)
    if teacher_logits is None:
        raise ValueError(f"`alpha` must be 0 without a teacher, got {alpha}")
    soft = soft_target_loss(student_logits, teacher_logits, temperature=temperature)
    return soft * alpha + label_loss(student_logits, targets) * (1 - alpha)
