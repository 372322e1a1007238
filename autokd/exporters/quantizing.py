"""INT8: a network in ONNX becomes one of whole numbers, without any training."""

import contextlib
import inspect
import logging
import tempfile
from collections.abc import Collection, Generator
from pathlib import Path
from types import TracebackType
from typing import Any, final

import numpy as np
import onnx
from jaxtyping import UInt8
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantType,
    quant_pre_process,
    quantize_static,
)
from torch import Tensor

from autokd.errors import ExportError
from autokd.exporters.onnx_file import annotate_onnx
from autokd.exporters.saturation import safe_weight_bits

__all__ = ["Quantizer", "quantize_onnx"]

_PARTS = 16  # pictures at once: while they are calibrated on, every layer's output is there
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_KEEPS_RANGES = "calibration_cache_path" in inspect.signature(quantize_static).parameters
# from onnxruntime 1.32 on; those of other providers lag behind, and calibrate for each file


@final
class Quantizer:
    """One ONNX file that is calibrated once and written as INT8 as often as wanted.

    Static quantization in QDQ form: activations in unsigned bytes by the range that calibration
    pictures reach, weights in signed bytes, a scale for each channel. BatchNorm is folded into the
    convolution before it, the batch stays free, the file keeps its metadata. Weights have seven
    bits where the kernels of the processor would saturate with eight.

    Example:
        ``` python
        with Quantizer(Path("model.onnx"), pictures=images[:512]) as quantizer:
            quantizer.write(Path("model.int8.onnx"))
        ```

    References:
        Jacob et al., "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", 2018. https://arxiv.org/abs/1712.05877
    """

    def __init__(
        self,
        model: Path,
        *,
        pictures: UInt8[Tensor, "count channels height width"],
        weight_bits: int | None = None,
    ) -> None:
        """Prepares the file and runs the pictures through it.

        Args:
            model: As `export_onnx` wrote it; not changed.
            pictures: That the ranges are taken from.
            weight_bits: 7 or 8, as the processor wants it that the file is for; this one if none.

        Raises:
            ExportError: There is no picture, or the network cannot be quantized.
        """
        if not len(pictures):
            raise ExportError("`pictures` must hold one to calibrate with, got none")
        self._scratch = tempfile.TemporaryDirectory(prefix="autokd-int8-")
        folder = Path(self._scratch.name)
        self._prepared, self._ranges = folder / "prepared.onnx", folder / "ranges.json"
        self._bits = weight_bits or safe_weight_bits()
        self._pictures = pictures
        try:
            with _quietly(model.name):
                self._metadata = {one.key: one.value for one in onnx.load(model).metadata_props}
                # Symbolic shapes are not needed, and fail on the reshapes of a transformer.
                quant_pre_process(model, self._prepared, skip_symbolic_shape=True)
            self._quantize(folder / "first.onnx")
        except ExportError:
            self._scratch.cleanup()
            raise

    def __enter__(self) -> "Quantizer":
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Forgets the calibration."""
        self._scratch.cleanup()

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers with weights, in the order in which they are computed."""
        graph = onnx.load(self._prepared).graph
        weights = {tensor.name for tensor in graph.initializer}
        return tuple(
            node.name
            for node in graph.node
            if node.op_type in _WEIGHTED and any(name in weights for name in node.input)
        )

    def write(
        self, path: Path, *, float_layers: Collection[str] = (), only: Collection[str] = ()
    ) -> Path:
        """Writes the network in INT8.

        Args:
            path: The file to write.
            float_layers: Names of layers that stay in FP32.
            only: If given, nothing but these is quantized.

        Returns:
            The file; an `ExportError` says that a layer cannot be quantized.
        """
        self._quantize(path, float_layers=float_layers, only=only)
        return annotate_onnx(path, path, metadata=self._metadata)

    def _quantize(
        self,
        path: Path,
        *,
        float_layers: Collection[str] = (),
        only: Collection[str] = (),
    ) -> None:
        kept: dict[str, Any] = {"calibration_cache_path": self._ranges} if _KEEPS_RANGES else {}
        reader = None if kept and self._ranges.exists() else _Reader(self._pictures)
        with _quietly(path.name):
            quantize_static(
                self._prepared,
                path,
                reader,
                per_channel=True,
                reduce_range=self._bits == 7,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=list(float_layers),
                nodes_to_quantize=list(only),
                **kept,
            )


def find_float_layers(path: Path) -> tuple[str, ...]:
    """Names of the layers with weights that stayed in FP32 in an INT8 file."""
    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    return tuple(
        node.name
        for node in graph.node
        if node.op_type in _WEIGHTED and any(name in weights for name in node.input[:2])
    )


def quantize_onnx(
    model: Path,
    path: Path,
    *,
    pictures: UInt8[Tensor, "count channels height width"],
    float_layers: Collection[str] = (),
    weight_bits: int | None = None,
) -> Path:
    """Writes an ONNX file in INT8.

    Args:
        model: As `export_onnx` wrote it; takes pictures in [0, 1].
        path: The file to write.
        pictures: To calibrate with, out of the training split; some hundreds, unless only the time
            of the file matters.
        float_layers: Names of layers that stay in FP32.
        weight_bits: As `Quantizer` takes it.

    Returns:
        The file; an `ExportError` says why there is none.
    """
    with Quantizer(model, pictures=pictures, weight_bits=weight_bits) as quantizer:
        return quantizer.write(path, float_layers=float_layers)


@final
class _Reader(CalibrationDataReader):
    """Pictures in small batches, as the runtime asks for them."""

    def __init__(self, pictures: Tensor) -> None:
        self._parts = iter(pictures.split(_PARTS))

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override] - ends with none
        """The next batch; none at the end."""
        part = next(self._parts, None)
        return None if part is None else {"image": (part.float() / 255).numpy()}


@contextlib.contextmanager
def _quietly(name: str) -> Generator[None]:
    """Within, the quantizer's remarks are not printed, and what it raises is ours.

    Args:
        name: Of the file, for the message.

    Yields:
        Nothing.

    Raises:
        ExportError: Something was raised.
    """
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    except Exception as error:
        # The quantizer is Python code over any graph and raises whatever it meets.
        reason = " ".join(str(error).split())[:300]
        raise ExportError(
            f"{name} must be quantizable to INT8, got {type(error).__name__}: {reason}"
        ) from error
    finally:
        logging.disable(before)
