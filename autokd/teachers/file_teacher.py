"""Teachers in files that hold the whole network: exported programs, TorchScript and ONNX."""

import logging
import pickle
import warnings
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from autokd.config import Config
from autokd.errors import TeacherError
from autokd.teachers.batching import BatchedNetwork
from autokd.teachers.onnx_teacher import load_onnx
from autokd.teachers.preprocessing import plain_preprocessing
from autokd.teachers.probing import find_channels, shorten
from autokd.teachers.teacher import Source
from autokd.types import DataCard, InputShape

__all__ = ["load_file_teacher"]

_SCRIPTS = (".pt", ".pth", ".ts", ".torchscript")
_UNREADABLE = (
    OSError, RuntimeError, ValueError, KeyError, AttributeError, AssertionError, EOFError,
    zipfile.BadZipFile, pickle.UnpicklingError,
)  # fmt: skip
_OPEN = 10**6  # pictures; a larger bound of the batch is none
_TRAINING_ARGUMENT = {"aten.batch_norm.default": 5, "aten.dropout.default": 2}


def load_file_teacher(name: str, *, data: DataCard, config: Config) -> Source:
    """The network of a file that holds all of it.

    Args:
        name: Its path; the suffix says what it is.
        data: Its picture size is taken where neither file nor user say one.
        config: Its `teacher_image_size`.

    Returns:
        The network; pixels in [0, 1].

    Raises:
        TeacherError: The file is not there, of another kind, or cannot be read.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        raise TeacherError(f"`--teacher` must be a file, got {path}; there is none")
    side = config.teacher_image_size
    shape = data.shape if side is None else (data.shape[0], side, side)
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return load_onnx(path, shape=shape)
    if suffix == ".pt2":
        return _load_program(path, shape=shape)
    if suffix in _SCRIPTS:
        return _load_script(path, shape=shape)
    raise TeacherError(
        f"`--teacher` must be a file in {', '.join(('.onnx', '.pt2', *_SCRIPTS))}, got {path}; "
        "a state dict goes to --teacher-weights, beside timm:NAME or torchvision:NAME"
    )


def _load_script(path: Path, *, shape: InputShape) -> Source:
    """TorchScript; its channels are found by trying."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deprecates TorchScript
            network = torch.jit.load(path, map_location="cpu").float()
    except _UNREADABLE as error:
        raise TeacherError(
            f"`--teacher` must be a readable TorchScript file, got {path}: {shorten(error)}; "
            "a state dict goes to --teacher-weights, beside timm:NAME or torchvision:NAME"
        ) from error
    channels = find_channels(network, shape=shape)
    preprocessing = plain_preprocessing((channels, *shape[1:]))
    return Source(network=network, preprocessing=preprocessing, form="script", file=path)


@final
class ProgramNetwork(nn.Module):
    """The module of an exported program, which cannot be switched between train and eval."""

    def __init__(self, program: ExportedProgram, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.program, self._dtype = program.module(check_guards=False), dtype

    def forward(self, pictures: Tensor) -> Tensor:
        """The program's answer.

        Args:
            pictures: [batch channels height width], prepared.

        Returns:
            What the program gives.
        """
        return self.program(pictures.to(self._dtype))

    def train(self, mode: bool = True) -> "ProgramNetwork":  # noqa: ARG002, FBT001, FBT002
        """Itself, untouched.

        Args:
            mode: Not looked at.

        Returns:
            The network.
        """
        return self


def _load_program(path: Path, *, shape: InputShape) -> Source:
    """An exported program; a batch size that it was exported with is worked around."""
    try:
        with _quiet():
            program = torch.export.load(path)
    except _UNREADABLE as error:
        raise TeacherError(
            f"`--teacher` must be a readable exported program, got {path}: {shorten(error)}"
        ) from error
    pictures = _find_input(program, path=path)
    sizes: tuple[Any, ...] = tuple(pictures.shape)
    if any(_is_training(node) for node in program.graph.nodes):
        raise TeacherError(
            f"`--teacher` must be exported in eval mode, got {path}; call model.eval() before"
        )
    network: nn.Module = ProgramNetwork(program, dtype=pictures.dtype)
    least, most = _batch_bounds(program, batch=sizes[0])
    if least > 1 or most is not None:
        network = BatchedNetwork(network, least=least, most=most)
    height, width = (
        own if isinstance(own, int) else asked
        for own, asked in zip(sizes[2:], shape[1:], strict=True)
    )
    channels = sizes[1]
    if not isinstance(channels, int):
        channels = find_channels(network, shape=(shape[0], height, width))
    preprocessing = plain_preprocessing((channels, height, width))
    return Source(network=network, preprocessing=preprocessing, form="program", file=path)


def _find_input(program: ExportedProgram, *, path: Path) -> Tensor:
    """The program's only input, of four sizes, which are numbers or symbols."""
    names = program.graph_signature.user_inputs
    values = [node.meta["val"] for node in program.graph.nodes if node.name in names]
    sizes = tuple(values[0].shape) if len(values) == 1 and isinstance(values[0], Tensor) else ()
    if len(sizes) != 4:
        raise TeacherError(
            "`--teacher` must take one input [batch, channels, height, width], "
            f"got {path} with {len(values)} inputs, the first of shape {list(sizes)}"
        )
    return values[0]


def _batch_bounds(program: ExportedProgram, *, batch: Any) -> tuple[int, int | None]:  # noqa: ANN401
    """The least and the most pictures that a program takes at once."""
    if isinstance(batch, int):
        return batch, batch
    bounds = program.range_constraints.get(batch.node.expr)
    if bounds is None:
        return 1, None
    is_open = bool(bounds.upper > _OPEN)  # torch's infinity cannot become a number
    return int(bounds.lower), None if is_open else int(bounds.upper)


def _is_training(node: torch.fx.Node) -> bool:
    """Whether a step of a program does what it does in train mode only."""
    position = _TRAINING_ARGUMENT.get(str(node.target))
    return position is not None and len(node.args) > position and node.args[position] is True


@contextmanager
def _quiet() -> Generator[None]:
    """Keeps torch from logging a traceback of its own before it raises."""
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
