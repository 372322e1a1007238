"""Writing a network as ONNX, and running what was written."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np
import onnx
import onnxruntime
import torch
from google.protobuf.message import DecodeError
from jaxtyping import Float, Int64, UInt8
from onnx import TensorProto
from torch import Tensor, nn

from autokd.errors import ExportError
from autokd.exporters.saturation import safe_weight_bits
from autokd.types import InputShape

__all__ = ["OnnxNetwork", "annotate_onnx", "check_onnx", "export_onnx", "export_onnx_text"]

_OPSET = 17
_PROGRAM_OPSET = 18  # the least that the exporter of programs writes
_BATCH = 256
_LARGEST_OF_7_BITS = 64
_ALIKE = 0.01  # of the largest logit, that others may differ by
_WAY = "in its code, x.flatten(1) is for any number where x.reshape(len(x), -1) may be for one"


def export_onnx(
    network: nn.Module,
    path: Path,
    *,
    shape: InputShape,
    metadata: Mapping[str, str] | None = None,
    is_traced: bool = True,
    output: str = "logits",
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
        output: What the network's outputs are called.

    Returns:
        The file.
    """
    _export(network, path, torch.zeros(1, *shape), names=("image", output), is_traced=is_traced)
    return annotate_onnx(path, path, metadata=metadata) if metadata else path


def export_onnx_text(network: nn.Module, path: Path, *, context: int) -> Path:
    """Writes a text tower as ONNX: input `tokens` (batch, context), output `embedding`.

    Args:
        network: Takes tokens; left in evaluation mode, on the CPU.
        path: The file to write.
        context: Tokens of a text.

    Returns:
        The file.
    """
    tokens = torch.zeros(1, context, dtype=torch.int64)
    _export(network, path, tokens, names=("tokens", "embedding"), is_traced=True)
    return path


def _export(
    network: nn.Module, path: Path, example: Tensor, *, names: tuple[str, str], is_traced: bool
) -> None:
    """Writes what a network does with an example of a batch of any size."""
    axes = {name: {0: "batch"} for name in names}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    is_fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # torch's fused attention is not in ONNX
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer warns of each Python number it meets
            torch.onnx.export(
                network.cpu().eval(),
                (example,),
                str(path),
                input_names=[names[0]],
                output_names=[names[1]],
                dynamic_axes=axes if is_traced else None,
                opset_version=_OPSET if is_traced else _PROGRAM_OPSET,
                dynamo=not is_traced,
                external_data=False,
            )
    except (RuntimeError, TypeError, ValueError, torch.onnx.OnnxExporterError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ExportError(f"student must be exportable to ONNX, got {reason}") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(is_fast)


def check_onnx(network: nn.Module, path: Path, *, shape: InputShape) -> None:
    """Whether a file does what its network does, with more pictures than it was written with.

    Args:
        network: Takes pictures in [0, 1], gives logits; in evaluation mode, on the CPU.
        path: As `export_onnx` wrote it.
        shape: Channels, height, width.

    Raises:
        ExportError: It does not.
    """
    noise = torch.randint(256, (2, *shape), generator=torch.Generator().manual_seed(0))
    pictures = noise.to(torch.uint8)
    with torch.no_grad():
        wanted = network(pictures.float() / 255)
    try:
        found = OnnxNetwork(path, threads=1).predict(pictures)
    except ExportError as error:
        raise ExportError(
            f"student must take any number of pictures, got {error}; {_WAY}"
        ) from error
    is_known = bool(wanted.isfinite().all())  # nothing can be told of one that overflows
    least = _ALIKE * float(wanted.abs().max()) if is_known else 0.0
    if found.shape != wanted.shape or (is_known and float((found - wanted).abs().max()) > least):
        raise ExportError(
            "student must answer in onnxruntime as in torch, whatever the number of pictures, got "
            f"other logits for two; {_WAY}"
        )


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
    """An ONNX file in onnxruntime on the CPU.

    A file with weights of 8 bits is one for another processor where the kernels of this one would
    saturate: it is computed in float here, between the same roundings, with the same answers.
    """

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        """Loads the file.

        Args:
            path: As `export_onnx` wrote it.
            threads: Of the runtime; 0 takes all cores.

        Raises:
            ExportError: The runtime cannot load it.
        """
        self._name = path.name
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        if _would_saturate(path):
            options.add_session_config_entry("session.disable_quant_qdq", "1")
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
        return self._run("image", [part.float() / 255 for part in images.split(_BATCH)])

    def embed(self, tokens: Int64[Tensor, "count context"]) -> Float[Tensor, "count dims"]:
        """Embeddings of any number of texts, as the runtime computes them."""
        return self._run("tokens", tokens.split(_BATCH))

    def _run(self, name: str, parts: Sequence[Tensor]) -> Tensor:
        """Raises an `ExportError` where the runtime cannot."""
        try:
            rows = [self._session.run(None, {name: part.numpy()})[0] for part in parts]
        except Exception as error:  # likewise
            line = " ".join(str(error).split())
            raise ExportError(
                f"onnxruntime must run {self._name} with a batch of {len(parts[0])}, got {line}"
            ) from error
        return torch.from_numpy(np.concatenate([np.asarray(part) for part in rows]))


def _would_saturate(path: Path) -> bool:
    """Whether a file has larger weights in INT8 than this processor computes with exactly."""
    if safe_weight_bits() == 8:
        return False
    try:
        weights = [
            one for one in onnx.load(path).graph.initializer if one.data_type == TensorProto.INT8
        ]
    except (OSError, DecodeError):  # the runtime says what is wrong with it
        return False
    # In int16, since the magnitude of -128 is none of int8.
    values = (onnx.numpy_helper.to_array(one).astype(np.int16) for one in weights)
    return any(np.abs(one).max(initial=0) > _LARGEST_OF_7_BITS for one in values)
