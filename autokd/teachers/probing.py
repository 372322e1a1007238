"""What a network says about itself when it is asked with a zero picture."""

import torch
from torch import Tensor, nn

from autokd.errors import TeacherError
from autokd.types import InputShape

__all__ = ["count_logits", "find_channels", "gives_probabilities", "shorten"]

_SUM_ERROR = 1e-2  # of probabilities in half precision that are added up


def shorten(error: BaseException) -> str:
    """The first line of an error, for a message of one line.

    Args:
        error: Anything that was raised.

    Returns:
        Type and at most 200 characters.
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def count_logits(network: nn.Module, *, shape: InputShape) -> int:
    """How many classes a network predicts, by one forward.

    Args:
        network: Takes prepared pictures; left in eval mode.
        shape: Channels, height and width of them.

    Returns:
        The length of its prediction.

    Raises:
        TeacherError: It fails, or does not give one row of logits per picture.
    """
    zeros = torch.zeros(2, *shape)
    try:
        with torch.no_grad():
            logits = network.eval()(zeros)
    except Exception as error:  # the user's code and vendors raise anything
        raise TeacherError(
            f"`--teacher` must take pictures of {list(shape)}, got {shorten(error)}; "
            "see --teacher-image-size"
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(zeros):
        shown = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise TeacherError(f"`--teacher` must give logits of [{len(zeros)}, classes], got {shown}")
    return logits.shape[1]


def gives_probabilities(network: nn.Module, *, shape: InputShape) -> bool:
    """Whether a network ends in a softmax: what it gives is at least 0 and adds up to 1.

    Args:
        network: Takes prepared pictures; left in eval mode.
        shape: Channels, height and width of them.

    Returns:
        Whether that holds of a zero picture and of three of noise.
    """
    noise = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scores = network.eval()(torch.cat([torch.zeros(1, *shape), noise])).float()
    is_one = (scores.sum(dim=1) - 1).abs() <= _SUM_ERROR
    return bool((scores >= 0).all() and is_one.all())


def find_channels(network: nn.Module, *, shape: InputShape) -> int:
    """The channels of the pictures that a network takes, where nothing tells: by trying.

    Args:
        network: Takes prepared pictures; left in eval mode.
        shape: The data's channels, tried first, and the network's height and width.

    Returns:
        The data's channels, 3 or 1, whichever works first.

    Raises:
        TeacherError: None works; the error is that of the data's channels.
    """
    failure: TeacherError | None = None
    for channels in dict.fromkeys((shape[0], 3, 1)):
        try:
            count_logits(network, shape=(channels, *shape[1:]))
        except TeacherError as error:
            failure = failure or error
        else:
            return channels
    raise TeacherError(str(failure)) from failure
