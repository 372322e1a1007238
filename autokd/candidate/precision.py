"""A trained student in INT8: calibrated, kept in float where it hurts, scored in the runtime."""

import math
import os
import shutil
import tempfile
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from autokd.data import SearchData
from autokd.errors import DataError
from autokd.exporters import OnnxNetwork, Quantizer, export_onnx
from autokd.types import DataCard

__all__ = [
    "INT8_SUFFIX",
    "Quantized",
    "check_calibration",
    "choose_calibration",
    "quantize_student",
    "score_file",
]

INT8_SUFFIX = ".int8.onnx"
"""Of the file of an INT8 student, which lies beside that of its weights."""

_LEAST, _WANTED = 300, 512  # pictures to calibrate with
_LIMIT = 0.01  # of validation accuracy that INT8 may cost before layers are left in float
_NOISE = 2  # pictures of the validation split that say nothing
_LOOKED = 64  # pictures that tell how much a layer suffers
_GROUPS = 32  # of neighbouring layers that are looked at one by one


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """What became of a student in INT8.

    Attributes:
        path: The ONNX file.
        val_accuracy: Of the file in the runtime, in [0, 1].
        fp32_val_accuracy: Of the student's FP32 file in the same runtime.
        float_layers: Layers that are left in FP32 in it, by their names in the file.
    """

    path: Path
    val_accuracy: float
    fp32_val_accuracy: float
    float_layers: tuple[str, ...]


def check_calibration(data: DataCard) -> None:
    """Refuses a data set that is too small for INT8.

    Args:
        data: That students learn from.

    Raises:
        DataError: There are too few training pictures to calibrate with.
    """
    if data.n_train < _LEAST:
        raise DataError(
            f"`--data` must have {_LEAST} training pictures to calibrate INT8 with, got "
            f"{data.n_train}; use --precision fp32, a smaller --val-ratio or more pictures"
        )


def choose_calibration(data: SearchData, *, n: int = _WANTED, seed: int = 0) -> Tensor:
    """Pictures to calibrate with, out of the training split.

    Args:
        data: Of the study.
        n: How many at the most.
        seed: Of the draw.

    Returns:
        uint8 pictures (count, channels, height, width).
    """
    generator = torch.Generator().manual_seed(seed)
    return data.train_images[torch.randperm(len(data.train_images), generator=generator)[:n]]


def quantize_student(
    student: nn.Module,
    path: Path,
    *,
    data: SearchData,
    float_layers: Collection[str] | None = None,
    limit: float = _LIMIT,
    seed: int = 0,
    weight_bits: int | None = None,
) -> Quantized:
    """Writes a trained student in INT8 and scores the file.

    Where INT8 costs more accuracy than the limit, layers are left in FP32: first the one that,
    quantized alone, moves the logits most, then twice as many, up to half of the network.

    Args:
        student: Takes pictures in [0, 1], gives logits; left in evaluation mode, on the CPU.
        path: The file to write.
        data: Training pictures to calibrate with, validation pictures to score on.
        float_layers: Layers to leave in FP32 whatever it costs; found if none are given.
        limit: Of the accuracy on validation that INT8 may cost, in [0, 1]; two pictures are
            always within it.
        seed: Of the draw of the calibration pictures.
        weight_bits: As the processor wants it that the file is deployed to; this one if none.

    Returns:
        The file and its accuracy; a `DataError` says that there are too few pictures, an
        `ExportError` that the student cannot be quantized.
    """
    check_calibration(data.card)
    pictures = choose_calibration(data, seed=seed)
    limit = max(limit, _NOISE / len(data.val_labels))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="autokd-") as folder:
        model = export_onnx(student, Path(folder) / "model.onnx", shape=data.card.shape)
        fp32 = score_file(model, data.val_images, data.val_labels)
        best: Quantized | None = None
        with Quantizer(model, pictures=pictures, weight_bits=weight_bits) as quantizer:
            for layers in _choices(quantizer, model, pictures[:_LOOKED], fixed=float_layers):
                file = quantizer.write(Path(folder) / "int8.onnx", float_layers=layers)
                accuracy = score_file(file, data.val_images, data.val_labels)
                if best is None or accuracy > best.val_accuracy:
                    _put(file, path)
                    best = Quantized(
                        path=path,
                        val_accuracy=accuracy,
                        fp32_val_accuracy=fp32,
                        float_layers=tuple(layers),
                    )
                if fp32 - best.val_accuracy <= limit:
                    break
    assert best is not None, "there is always a first choice"
    return best


def _put(file: Path, path: Path) -> None:
    """Takes the place of what is there, at once, from another file system too."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        shutil.copyfile(file, beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def score_file(model: Path, images: Tensor, labels: Tensor) -> float:
    """Top-1 of an ONNX file in onnxruntime, in [0, 1], on as many threads as torch has here."""
    logits = OnnxNetwork(model, threads=torch.get_num_threads()).predict(images)
    return float((logits.argmax(1) == labels).double().mean())


def _choices(
    quantizer: Quantizer, model: Path, pictures: Tensor, *, fixed: Collection[str] | None
) -> Generator[Sequence[str]]:
    """Layers to leave in float, fewer first; those that are fixed, if they are."""
    if fixed is not None:
        yield tuple(fixed)
        return
    yield ()
    groups = _rank(quantizer, model, pictures)
    n_float = 1
    while n_float <= math.ceil(len(groups) / 2):
        yield [layer for group in groups[:n_float] for layer in group]
        n_float *= 2


def _rank(quantizer: Quantizer, model: Path, pictures: Tensor) -> list[list[str]]:
    """Groups of neighbouring layers, those first that move the logits most, quantized alone."""
    layers = quantizer.layers
    size = math.ceil(len(layers) / _GROUPS) or 1
    groups = [list(layers[start : start + size]) for start in range(0, len(layers), size)]
    threads = torch.get_num_threads()
    wanted = OnnxNetwork(model, threads=threads).predict(pictures)
    errors: list[float] = []
    with tempfile.TemporaryDirectory(prefix="autokd-") as folder:
        for group in groups:
            file = quantizer.write(Path(folder) / "one.onnx", only=group)
            found = OnnxNetwork(file, threads=threads).predict(pictures)
            errors.append(float((found - wanted).square().mean()))
    order = sorted(range(len(groups)), key=lambda index: -errors[index])
    return [groups[index] for index in order]
