"""What a teacher wants done to a picture, and the module that does it to the student's view."""

from dataclasses import dataclass, replace
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autokd.config import Config
from autokd.errors import TeacherError
from autokd.types import InputShape

__all__ = [
    "PreparedViews",
    "Preprocessing",
    "override_preprocessing",
    "plain_preprocessing",
    "spread",
]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The pictures a network was trained with.

    Attributes:
        shape: Channels, height and width that the network takes.
        mean: Per channel, subtracted from pixels in [0, 1].
        std: Per channel, divides what is left.
    """

    shape: InputShape
    mean: tuple[float, ...]
    std: tuple[float, ...]


def plain_preprocessing(shape: InputShape) -> Preprocessing:
    """Pictures as they are, pixels in [0, 1].

    Args:
        shape: Channels, height and width that the network takes.

    Returns:
        A mean of 0 and a standard deviation of 1 in every channel.
    """
    return Preprocessing(shape=shape, mean=(0.0,) * shape[0], std=(1.0,) * shape[0])


def spread(values: tuple[float, ...], n_channels: int) -> tuple[float, ...]:
    """Values per channel for a network that takes other channels than they are of.

    Args:
        values: Of red, green and blue, say.
        n_channels: That there are.

    Returns:
        The values, or their mean in each channel.
    """
    if len(values) == n_channels:
        return values
    return (sum(values) / len(values),) * n_channels


def override_preprocessing(own: Preprocessing, *, config: Config) -> Preprocessing:
    """The teacher's own preprocessing, with what the user says instead.

    Args:
        own: What the source of the teacher says.
        config: Its `teacher_image_size`, `teacher_mean` and `teacher_std` win.

    Returns:
        The preprocessing to use.

    Raises:
        TeacherError: A mean or a deviation does not fit the channels, or is not positive.
    """
    channels = own.shape[0]
    side = config.teacher_image_size
    shape = own.shape if side is None else (channels, side, side)
    mean = _per_channel(config.teacher_mean, channels=channels, option="--teacher-mean")
    std = _per_channel(config.teacher_std, channels=channels, option="--teacher-std")
    if std is not None and min(std) <= 0:
        raise TeacherError(f"`--teacher-std` must be positive, got {list(std)}")
    return replace(own, shape=shape, mean=mean or own.mean, std=std or own.std)


def _per_channel(
    values: tuple[float, ...] | None, *, channels: int, option: str
) -> tuple[float, ...] | None:
    """One value per channel, a single one being repeated."""
    if values is None or len(values) == channels:
        return values
    if len(values) == 1:
        return values * channels
    raise TeacherError(
        f"`{option}` must have one value per channel of the teacher ({channels}), got {len(values)}"
    )


@final
class PreparedViews(nn.Module):
    """The student's view of a picture, as a teacher wants it.

    Colour is averaged for a teacher of grey pictures and grey repeated for one of colour; the
    size is changed by antialiased bilinear interpolation; then comes the teacher's own
    normalisation. A resize between two known sizes is one matrix per axis: that equals
    `F.interpolate(..., antialias=True)`, which no ONNX opset below 18 can express.

    Attributes:
        mean: Shape [1 channels 1 1].
        std: Shape [1 channels 1 1].
    """

    mean: Tensor
    std: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, preprocessing: Preprocessing, *, view_shape: InputShape) -> None:
        super().__init__()
        channels, height, width = preprocessing.shape
        if channels != view_shape[0] and 1 not in (channels, view_shape[0]):
            raise TeacherError(
                f"`--teacher` must take {view_shape[0]} or 1 channels for these pictures, "
                f"got one of {channels}"
            )
        self.is_averaged = channels == 1 < view_shape[0]
        self.is_resized = (height, width) != view_shape[1:]
        # Not persistent: a state dict holds the network's weights alone.
        constants = {
            "mean": torch.tensor(preprocessing.mean).view(1, -1, 1, 1),
            "std": torch.tensor(preprocessing.std).view(1, -1, 1, 1),
            "rows": _resize_matrix(view_shape[1], to=height),
            "columns": _resize_matrix(view_shape[2], to=width).T.contiguous(),
        }
        for name, constant in constants.items():
            self.register_buffer(name, constant, persistent=False)

    def forward(self, views: Tensor) -> Tensor:
        """Pictures for the network out of pictures for the student.

        Unchecked annotations: a shape check inside an ONNX trace warns.

        Args:
            views: Float [batch channels height width] in [0, 1], as the data has them.

        Returns:
            Float [batch channels height width] as the network takes them.
        """
        with torch.autocast(views.device.type, enabled=False):  # half precision loses pixels
            views = views.float()
            if self.is_averaged:
                views = views.mean(1, keepdim=True)
            if self.is_resized:
                views = self.rows @ views @ self.columns
            return (views - self.mean) / self.std  # repeats grey where the mean has channels


def _resize_matrix(size: int, *, to: int) -> Tensor:
    """The [to size] matrix of an antialiased bilinear resize of one axis."""
    identity = torch.eye(size)[None, None]
    resized = F.interpolate(identity, size=(to, size), mode="bilinear", antialias=True)
    return resized[0, 0]
