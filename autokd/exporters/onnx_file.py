"""Writing a network as ONNX, and running what was written."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import final

import numpy as np
import onnx
import onnxruntime
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from autokd.errors import ExportError
from autokd.types import InputShape

__all__ = ["OnnxNetwork", "annotate_onnx", "export_onnx"]

_OPSET = 17
_PROGRAM_OPSET = 18  # the least that the exporter of programs writes
_BATCH = 256


def export_onnx(
    network: nn.Module,
    path: Path,
    *,
    shape: InputShape,
    metadata: Mapping[str, str] | None = None,
    is_traced: bool = True,
) -> Path:
    """Writes a network as ONNX: input `image` (batch, channels, height, width) in [0, 1].

    The exporter that traces is used, not the one built on torch.export: it takes a tenth of the
    time for the same latency afterwards, and a search exports every candidate.

    Args:
        network: Takes pictures in [0, 1], gives logits; left in evaluation mode, on the CPU.
        path: The file to write.
        shape: Channels, height, width.
        metadata: Kept in the file.
        is_traced: Whether the exporter that traces can be used; a program of torch.export
            needs the other one.

    Returns:
        The file.

    Raises:
        ExportError: Something in the network has no counterpart in ONNX.
    """
    example = torch.zeros(1, *shape)
    axes = {"image": {0: "batch"}, "logits": {0: "batch"}}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer warns of each Python number it meets
            torch.onnx.export(
                network.cpu().eval(),
                (example,),
                str(path),
                input_names=["image"],
                output_names=["logits"],
                dynamic_axes=axes if is_traced else None,
                opset_version=_OPSET if is_traced else _PROGRAM_OPSET,
                dynamo=not is_traced,
                external_data=False,
            )
    except (RuntimeError, TypeError, ValueError, torch.onnx.OnnxExporterError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ExportError(f"student must be exportable to ONNX, got {reason}") from error
    return annotate_onnx(path, path, metadata=metadata) if metadata else path


def annotate_onnx(source: Path, path: Path, *, metadata: Mapping[str, str]) -> Path:
    """A copy of an ONNX file with this metadata and no other.

    Args:
        source: The file.
        path: The copy; may be the same.
        metadata: Kept in the copy.

    Returns:
        The copy.
    """
    model = onnx.load(source)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)
    return path


@final
class OnnxNetwork:
    """An ONNX file in onnxruntime on the CPU."""

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        """Loads the file.

        Args:
            path: As `export_onnx` wrote it.
            threads: Of the runtime; 0 takes all cores.

        Raises:
            ExportError: The runtime cannot load it.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            # onnxruntime's exceptions share no public base class.
            raise ExportError(f"onnxruntime must load {path.name}, got {error}") from error

    def predict(
        self, images: UInt8[Tensor, "count channels height width"]
    ) -> Float[Tensor, "count classes"]:
        """Logits of any number of pictures, as the runtime computes them."""
        parts = [
            self._session.run(None, {"image": (part.float() / 255).numpy()})[0]
            for part in images.split(_BATCH)
        ]
        return torch.from_numpy(np.concatenate([np.asarray(part) for part in parts]))
