"""Teachers in ONNX files, asked through onnxruntime on the CPU."""

import importlib
from pathlib import Path
from typing import Any, final

import numpy as np
import onnx
import onnxruntime
import torch
from onnx.external_data_helper import ExternalDataInfo, uses_external_data
from torch import Tensor, nn

from autokd.errors import TeacherError
from autokd.teachers.batching import BatchedNetwork
from autokd.teachers.preprocessing import plain_preprocessing
from autokd.teachers.probing import find_channels, shorten
from autokd.teachers.teacher import Source
from autokd.types import InputShape

__all__ = ["OnnxNetwork", "load_onnx"]

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
_FAULTS: Any = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
_UNREADABLE = (
    _FAULTS.Fail, _FAULTS.InvalidArgument, _FAULTS.InvalidGraph, _FAULTS.InvalidProtobuf,
    _FAULTS.NoSuchFile, _FAULTS.NotImplemented, _FAULTS.RuntimeException,
)  # fmt: skip


@final
class OnnxNetwork(nn.Module):
    """A session of onnxruntime that looks like a module; pictures go through NumPy.

    Attributes:
        session: What answers; its first output counts.
    """

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        super().__init__()
        self.session = session
        self._input: Any = session.get_inputs()[0]

    def forward(self, pictures: Tensor) -> Tensor:
        """The file's answer, on the device of the pictures.

        Args:
            pictures: [batch channels height width], prepared.

        Returns:
            The first output of the file.
        """
        array = pictures.detach().cpu().numpy().astype(_TYPES[self._input.type])
        logits = self.session.run(None, {self._input.name: array})[0]
        return torch.from_numpy(np.asarray(logits)).to(pictures.device)


def load_onnx(path: Path, *, shape: InputShape) -> Source:
    """The network of an ONNX file.

    Args:
        path: The file.
        shape: Channels and size to ask it with where it does not say them.

    Returns:
        A network that takes any batch size; pixels in [0, 1].

    Raises:
        TeacherError: The file cannot be read or is no classifier of pictures.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a pool of threads would not survive the fork of a worker
    options.log_severity_level = 4  # what is wrong is said once, by the error
    try:
        session = onnxruntime.InferenceSession(
            path, sess_options=options, providers=["CPUExecutionProvider"]
        )
    except _UNREADABLE as error:
        raise TeacherError(
            f"`--teacher` must be a readable ONNX file, got {path}: {shorten(error)}"
        ) from error
    inputs: list[Any] = list(session.get_inputs())
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in _TYPES:
        shown = ", ".join(f"{item.type}{item.shape}" for item in inputs)
        raise TeacherError(
            "`--teacher` must take one float input [batch, channels, height, width], "
            f"got {path} with {shown}"
        )
    batch, channels, height, width = (
        size if isinstance(size, int) else None for size in inputs[0].shape
    )
    network: nn.Module = OnnxNetwork(session)
    if batch is not None:
        network = BatchedNetwork(network, least=batch, most=batch)
    size = (height or shape[1], width or shape[2])
    channels = channels or find_channels(network, shape=(shape[0], *size))
    preprocessing = plain_preprocessing((channels, *size))
    return Source(
        network=network,
        preprocessing=preprocessing,
        form="onnx",
        file=path,
        beside=_find_weights_beside(path),
    )


def _find_weights_beside(model: Path) -> tuple[Path, ...]:
    """Files that hold weights of an ONNX file, which torch writes beside it by default."""
    graph = onnx.load(model, format="protobuf", load_external_data=False).graph
    outside = filter(uses_external_data, graph.initializer)
    return tuple(sorted({model.parent / ExternalDataInfo(tensor).location for tensor in outside}))
