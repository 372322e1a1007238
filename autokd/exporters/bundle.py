"""The folder that a user deploys from, and the proof that it does what the table said."""

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from autokd.errors import ConfigError, ExportError
from autokd.exporters.card import render_card
from autokd.exporters.onnx_file import OnnxNetwork, annotate_onnx, export_onnx
from autokd.exporters.openvino_file import OpenVinoNetwork, export_openvino, has_openvino
from autokd.exporters.program import export_program
from autokd.exporters.quantizing import find_float_layers
from autokd.exporters.runner import write_runner
from autokd.exporters.weights_file import dump_weights
from autokd.types import DataCard, Latency, Target, is_same_device

__all__ = ["Bundle", "Pictures", "QuantizedFile", "check_folder", "export_bundle"]

_logger = logging.getLogger(__name__)

_LEAST_AGREEMENT = 0.999
_LEAST_PICTURES = 1000  # below, one picture of a thousand may differ
_BATCH = 256
_OPTIONAL = (
    "model.int8.onnx",
    "model.pt2",
    "model.xml",
    "model.bin",
    "looks.png",
    "front.png",
    "curves.png",
    "coordinates.png",
    "importance.png",
)


@runtime_checkable
class Pictures(Protocol):
    """The test split: uint8 pictures (count, channels, height, width) and int64 labels."""

    @property
    def images(self) -> Tensor:
        """What the report is made on."""
        ...

    @property
    def labels(self) -> Tensor:
        """Their classes."""
        ...


@dataclass(frozen=True, kw_only=True)
class QuantizedFile:
    """A student in INT8, as it was scored for the table.

    Attributes:
        path: The ONNX file.
        test_accuracy: Of the file in the runtime, in [0, 1].
        is_aware: Whether the student was trained on to bear it.
    """

    path: Path
    test_accuracy: float
    is_aware: bool = False


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What was exported and what was found when it was checked.

    Attributes:
        files: In the folder that the user named.
        test_accuracy: Of the trained student in torch, in [0, 1].
        onnx_test_accuracy: Of `model.onnx` in onnxruntime.
        top1_agreement: Share of the test pictures on which both say the same.
        latency_ms: Of what is deployed, measured now: of `model.int8.onnx` where there is
            one, else of `model.onnx`.
        card: What `card.json` holds.
        int8_test_accuracy: Of `model.int8.onnx` in onnxruntime; none where there is none.
        fp32_latency_ms: Of `model.onnx`, by turns with `model.int8.onnx`.
    """

    files: tuple[Path, ...]
    test_accuracy: float
    onnx_test_accuracy: float
    top1_agreement: float
    latency_ms: float
    card: dict[str, Any]
    int8_test_accuracy: float | None = None
    fp32_latency_ms: float | None = None

    @property
    def deployed_test_accuracy(self) -> float:
        """Of what is deployed: of `model.int8.onnx` where there is one."""
        return self.test_accuracy if self.int8_test_accuracy is None else self.int8_test_accuracy


def export_bundle(  # noqa: PLR0913 - everything that a folder holds
    student: nn.Module,
    out: Path,
    *,
    data: DataCard,
    test: Pictures,
    target: Target,
    card: Mapping[str, Any],
    extras: Sequence[Path] = (),
    int8: QuantizedFile | None = None,
    precision: float | None = None,
) -> Bundle:
    """Writes and checks `model.onnx`, `model.pt2`, `model.safetensors`, `card.json`, `card.md`.

    Beside them lie `run.py`, which classifies a picture, its `requirements.txt` and, where
    OpenVINO is installed, `model.xml` and `model.bin`; of a student in INT8 also
    `model.int8.onnx`, which is the file that was scored for the table.

    Everything is written beside the folder first and moved when it has passed, so that a
    mismatch (an `ExportError`) leaves nothing that could be deployed.

    Args:
        student: Takes pictures in [0, 1], gives logits.
        out: The folder; made if missing. Files of an earlier export are replaced.
        data: Classes and shape.
        test: The test split.
        target: What the student was measured on.
        card: What else the card tells; `searched_on` is the device of its `searched_latency_ms`.
        extras: Files that lie beside it, as the pictures of the card.
        int8: Its file in INT8, if it is deployed so.
        precision: Half of the latency's 95 % interval, as a share, that is narrow enough; a
            wider one is called noisy. If none, no interval is.

    Returns:
        Files and figures.

    Raises:
        ConfigError: The folder cannot be written.
    """
    student = student.cpu().eval()
    try:
        out.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".export-", dir=out))
    except OSError as error:
        raise ConfigError(f"`--out` must be a folder to write to, got {out}: {error}") from error
    try:
        metadata = {"classes": json.dumps(data.classes), "autokd": json.dumps(card, default=str)}
        model = export_onnx(student, scratch / "model.onnx", shape=data.shape, metadata=metadata)
        program = partial(export_program, student, shape=data.shape)
        left_out = _try(program, scratch / "model.pt2", is_needed=target.needs_program)
        (scratch / "model.safetensors").write_bytes(dump_weights(student))
        if has_openvino():
            left_out |= _try(partial(export_openvino, model), scratch / "model.xml")
        write_runner(scratch, model="model.onnx" if int8 is None else "model.int8.onnx")
        for file in extras:
            shutil.copy(file, scratch)
        figures = _check(student, scratch, test=test)
        facts: dict[str, Any] = {}
        if int8 is None:
            latency = target.measure(model)
        else:
            added, latency = _add_int8(int8, model, test=test, target=target, metadata=metadata)
            figures |= added
            facts = {
                "is_aware": int8.is_aware,
                "float_layers": find_float_layers(int8.path),
                **_explain_vanity(latency, fp32_ms=added["fp32_latency_ms"]),
            }
        figures["latency_ms"] = latency.median_ms
        full = {
            **card,
            **facts,
            **figures,
            "latency_ci95_ms": [latency.ci95_low_ms, latency.ci95_high_ms],
            "is_noisy": precision is not None and latency.precision > precision,
            "protocol": _describe_protocol(latency),
            **_compare_devices(card, latency),
            "left_out": left_out,
            "classes": list(data.classes),
            "input": _describe_input(data),
        }
        text = json.dumps(full, indent=2, default=str) + "\n"
        (scratch / "card.json").write_text(text, encoding="utf-8")
        (scratch / "card.md").write_text(render_card(full), encoding="utf-8")
        names = sorted(path.name for path in scratch.iterdir())
        for name in names:
            (scratch / name).replace(out / name)
        for name in set(_OPTIONAL).difference(names):  # of an earlier student
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"`--out` must have room for the student, got {out}: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Bundle(files=tuple(out / name for name in names), card=full, **figures)


def _try(write: Callable[[Path], object], path: Path, *, is_needed: bool = False) -> dict[str, str]:
    """A further form of the student; where it lacks an operator, it is left out and said so."""
    try:
        write(path)
    except ExportError as error:
        if is_needed:
            raise
        _logger.warning("%s is left out: %s", path.name, error)
        return {path.name: str(error)}
    return {}


def check_folder(out: Path) -> None:
    """Finds out, before anything is trained for it, whether a folder can be written.

    Args:
        out: The folder, which need not exist; nothing is left in it.

    Raises:
        ConfigError: It cannot.
    """
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=there):
            pass
    except OSError as error:
        raise ConfigError(f"`--out` must be a folder to write to, got {out}: {error}") from error


def _describe_protocol(latency: Latency) -> str:
    """How the latency was found, in a line."""
    if latency.runtime == "table":
        return f"from the table {latency.device}"
    if latency.runtime.partition(" ")[0] == "command":
        what = f"median of {latency.n_runs} times that the program told"
    else:
        what = f"undisturbed time of one forward pass out of {latency.n_runs} runs"
    return (
        f"{what}, batch {latency.batch}, {latency.threads} threads, "
        f"{latency.runtime} on {latency.device}"
    )


def _compare_devices(card: Mapping[str, Any], latency: Latency) -> dict[str, str]:
    """A line where the table's latency is another device's; nothing where it is not."""
    there = card.get("searched_on")
    if not there or is_same_device(there, latency.device):
        return {}
    return {
        "elsewhere": f"the study's latency of {card['searched_latency_ms']:.4g} ms is that of "
        f"{there}, the one measured now that of {latency.device}; `autokd measure model.onnx` "
        "there tells that of the file"
    }


def _explain_vanity(latency: Latency, *, fp32_ms: float) -> dict[str, str]:
    """A line where the INT8 file is no faster here than the FP32 one; nothing where it is."""
    if latency.median_ms < fp32_ms:
        return {}
    return {
        "vain": f"model.int8.onnx takes {latency.median_ms:.4g} ms on {latency.device}, no less "
        f"than model.onnx with {fp32_ms:.4g} ms, which is the one to deploy there"
    }


def _add_int8(
    int8: QuantizedFile,
    model: Path,
    *,
    test: Pictures,
    target: Target,
    metadata: Mapping[str, str],
) -> tuple[dict[str, float], Latency]:
    """The INT8 file beside the FP32 one; an `ExportError` where it is not what the table said."""
    file = annotate_onnx(int8.path, model.with_suffix(".int8.onnx"), metadata=metadata)
    found = OnnxNetwork(file).predict(test.images).argmax(1)
    n_right, n_wanted = int((found == test.labels).sum()), int8.test_accuracy * len(test.labels)
    if abs(n_right - n_wanted) > (1 - _LEAST_AGREEMENT) * max(_LEAST_PICTURES, len(test.labels)):
        raise ExportError(
            f"{file.name} must be as accurate as in the table, {int8.test_accuracy:.2%}, got "
            f"{n_right / len(test.labels):.2%}; nothing was written"
        )
    own, quantized = target.measure_together([model, file])
    figures = {
        "int8_test_accuracy": n_right / len(test.labels),
        "fp32_latency_ms": own.median_ms,
    }
    return figures, quantized


def _describe_input(data: DataCard) -> dict[str, Any]:
    channels, height, width = data.shape
    return {
        "name": "image",
        "shape": ["batch", channels, height, width],
        "dtype": "float32",
        "range": [0, 1],
        "normalisation": "inside the network",
    }


@torch.no_grad()
def _check(student: nn.Module, folder: Path, *, test: Pictures) -> dict[str, float]:
    """Accuracy and agreement of the files on the test split; raises where they differ."""
    ours = _predict(student, test.images).argmax(1)
    onnx = OnnxNetwork(folder / "model.onnx").predict(test.images).argmax(1)
    answers = {"model.onnx": onnx}
    if (program := folder / "model.pt2").exists():
        module = torch.export.load(program).module()
        answers["model.pt2"] = _predict(module, test.images).argmax(1)
    if (xml := folder / "model.xml").exists():
        answers["model.xml"] = OpenVinoNetwork(xml).predict(test.images).argmax(1)
    for name, theirs in answers.items():
        n_different = int((ours != theirs).sum())
        allowed = (1 - _LEAST_AGREEMENT) * max(_LEAST_PICTURES, len(ours))
        if n_different > allowed:
            raise ExportError(
                f"{name} must agree with the student on {_LEAST_AGREEMENT:.1%} of the test "
                f"pictures, got {1 - n_different / len(ours):.2%}; nothing was written"
            )
    return {
        "test_accuracy": float((ours == test.labels).float().mean()),
        "onnx_test_accuracy": float((onnx == test.labels).float().mean()),
        "top1_agreement": float((ours == onnx).float().mean()),
    }


def _predict(network: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([network(part.float() / 255) for part in images.split(_BATCH)])
