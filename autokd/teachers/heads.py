"""The last layer of a classifier: found by its width, replaced for other classes."""

from torch import nn

from autokd.errors import TeacherError

__all__ = ["find_head", "replace_head"]


def find_head(network: nn.Module, *, n_logits: int) -> str:
    """The name of the layer that gives the logits.

    Args:
        network: A classifier.
        n_logits: How many it predicts.

    Returns:
        The last linear layer or 1x1 convolution of that width; empty where there is none.
    """
    found = ""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear) and layer.out_features == n_logits:
            found = name
        is_pointwise = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)
        if is_pointwise and layer.out_channels == n_logits:
            found = name
    return found


def replace_head(network: nn.Module, *, n_logits: int, n_classes: int) -> None:
    """Puts a new, untrained head for other classes on a network.

    Args:
        network: Changed in place; by its own `reset_classifier` where it has one, as timm's do.
        n_logits: How many it predicts now.
        n_classes: How many it shall predict.

    Raises:
        TeacherError: No layer of the network looks like its head.
    """
    if callable(reset := getattr(network, "reset_classifier", None)):
        reset(n_classes)
        return
    name = find_head(network, n_logits=n_logits)
    if not name:
        raise TeacherError(
            f"`--teacher` must end in a linear layer or a 1x1 convolution of width {n_logits} "
            "to get a new head, got neither; replace it yourself with --teacher python:..."
        )
    old = network.get_submodule(name)
    has_bias = getattr(old, "bias", None) is not None
    if isinstance(old, nn.Linear):
        network.set_submodule(name, nn.Linear(old.in_features, n_classes, bias=has_bias))
    elif isinstance(old, nn.Conv2d):
        network.set_submodule(name, nn.Conv2d(old.in_channels, n_classes, 1, bias=has_bias))
