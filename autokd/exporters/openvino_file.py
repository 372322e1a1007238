"""Writing a network as OpenVINO IR where OpenVINO is installed, and running what was written."""

import importlib.util
import warnings
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from autokd.errors import ExportError

__all__ = ["OpenVinoNetwork", "export_openvino", "has_openvino"]

_BATCH = 256


def has_openvino() -> bool:
    """Whether OpenVINO is installed, as by the extra `autokd[openvino]`."""
    return importlib.util.find_spec("openvino") is not None


def export_openvino(model: Path, path: Path) -> Path:
    """Writes an ONNX file as OpenVINO IR, its weights in full precision.

    Args:
        model: The ONNX file.
        path: Of the `.xml` file; the weights lie beside it in a `.bin` file.

    Returns:
        The `.xml` file.

    Raises:
        ExportError: OpenVINO does not know something in the network.
    """
    vendor = _load()
    try:
        # `convert_model` would try other formats and send telemetry; this reads ONNX and no more.
        vendor.save_model(vendor.Core().read_model(model), path, compress_to_fp16=False)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ExportError(f"student must be exportable to OpenVINO, got {reason}") from error
    return path


@final
class OpenVinoNetwork:
    """OpenVINO IR on the CPU, computed in FP32."""

    def __init__(self, path: Path) -> None:
        """Loads and compiles the file.

        Args:
            path: As `export_openvino` wrote it.

        Raises:
            ExportError: OpenVINO cannot load it.
        """
        try:
            # Some CPUs would compute in bfloat16 unless they are told not to.
            self._network = (
                _load().Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            )
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise ExportError(f"OpenVINO must load {path.name}, got {reason}") from error

    def predict(
        self, images: UInt8[Tensor, "count channels height width"]
    ) -> Float[Tensor, "count classes"]:
        """Logits of any number of pictures, as the runtime computes them."""
        parts = [
            np.array(self._network([(part.float() / 255).numpy()])[0])
            for part in images.split(_BATCH)
        ]
        return torch.from_numpy(np.concatenate(parts))


def _load() -> Any:  # noqa: ANN401 - a module without types
    """OpenVINO, imported when it is needed and without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import openvino
    return openvino
