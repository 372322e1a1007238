"""A trained network from any source, frozen behind the student's view of a picture."""

import hashlib
import json
import re
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast, final

import torch
from torch import Tensor, nn

from autokd.errors import TeacherError
from autokd.teachers.preprocessing import PreparedViews, Preprocessing
from autokd.types import InputShape

__all__ = ["Source", "Teacher", "digest_network", "digest_weights"]

_ADDRESS = re.compile(" at 0x[0-9a-f]+")


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """What a loader found: a network and how it wants its pictures.

    Attributes:
        network: Takes prepared pictures, gives logits or probabilities.
        preprocessing: How pictures are prepared.
        form: A Python module, TorchScript, an exported program or an ONNX session.
        file: Where all of it comes from, unless it is a Python module.
        beside: Files that hold weights of that one.
        trained: File of weights that were trained for a study.
        gives_probabilities: Whether the network ends in a softmax.
    """

    network: nn.Module
    preprocessing: Preprocessing
    form: Literal["module", "script", "program", "onnx"] = "module"
    file: Path | None = None
    beside: tuple[Path, ...] = ()
    trained: Path | None = None
    gives_probabilities: bool = False


@final
class Teacher(nn.Module):
    """A frozen network: the student's view in, logits out, never trained and never in train mode.

    The logarithm of a network's probabilities is its logits less a constant for each picture, which
    no loss feels.

    Attributes:
        name: As the user gave it.
        digest: SHA-256 of weights and preprocessing.
        n_params: Of the network; none for ONNX and frozen TorchScript, which do not tell.
        view_shape: Channels, height and width of the views it takes.
        preprocessing: What is done to a view.
        weights_file: Where its weights lie if they were trained for a study.
        onnx_file: The file of an ONNX teacher, which takes *prepared* pictures.
        has_features: Whether its layers can be looked into.
        is_exportable: Whether `build_exportable` gives a module that can go to ONNX.
        gives_probabilities: Whether the network ends in a softmax, whose logarithm is taken.
    """

    def __init__(self, source: Source, *, name: str, view_shape: InputShape) -> None:
        super().__init__()
        self.prepare = PreparedViews(source.preprocessing, view_shape=view_shape)
        self.network = source.network.eval()
        for value in self.network.parameters():  # TorchScript has no `requires_grad_` of its own
            value.requires_grad = False
        self.training = False
        self.prepare.training = False
        self.name = name
        self.view_shape = view_shape
        self.preprocessing = source.preprocessing
        self.digest = _digest_source(source)
        self.weights_file = source.trained
        self.onnx_file = source.file if source.form == "onnx" else None
        # A frozen script and an ONNX file have constants in their place.
        self.n_params = sum(p.numel() for p in self.network.parameters()) or None
        self.has_features = source.form == "module"
        self.is_exportable = source.form in ("module", "script")
        self.gives_probabilities = source.gives_probabilities
        self._is_script = source.form == "script"

    @property
    def device(self) -> torch.device:
        """Where it lies, and wants its views."""
        return self.prepare.mean.device

    def forward(self, views: Tensor) -> Tensor:
        """What the teacher makes of pictures, without gradients.

        Unchecked annotations: a shape check inside an ONNX trace warns.

        Args:
            views: Float [batch channels height width] in [0, 1], as the data has them.

        Returns:
            Unnormalised scores, Float32 [batch classes].
        """
        with torch.no_grad():
            scores = self.network(self.prepare(views))
            if self.gives_probabilities:
                scores = scores.clamp(min=torch.finfo(scores.dtype).tiny)
                return scores.float().log()
            return scores.float()

    def train(self, mode: bool = True) -> "Teacher":  # noqa: ARG002, FBT001, FBT002 - torch's own
        """Itself, untouched: a teacher stays in eval mode.

        Args:
            mode: Not looked at.

        Returns:
            The teacher.
        """
        return self

    def build_exportable(self) -> nn.Module:
        """What `torch.onnx.export(dynamo=False)` can write, with any batch size.

        Returns:
            The teacher itself, or its trace where the network is TorchScript: the exporter
            refuses TorchScript inside of a module.

        Raises:
            TeacherError: The network is an exported program or an ONNX file.
        """
        if not self.is_exportable:
            raise TeacherError(
                f"`--teacher` must be made of PyTorch modules to be exported, got {self.name}"
            )
        if not self._is_script:
            return self
        return trace_network(self, view_shape=self.view_shape)


def trace_network(network: nn.Module, *, view_shape: InputShape) -> nn.Module:
    """TorchScript of what a network does with pictures.

    Args:
        network: Takes views; the same modules for every picture. It is on the CPU afterwards.
        view_shape: Channels, height and width of them.

    Returns:
        The trace, for batches of any size.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates its tracer
        trace = torch.jit.trace(network.cpu(), torch.zeros(2, *view_shape), check_trace=False)
    return cast(nn.Module, trace)


def digest_weights(network: nn.Module) -> str:
    """A hash of every weight and buffer of a network.

    Args:
        network: Any module with a state dict.

    Returns:
        SHA-256 over names, types, shapes and values, in hexadecimal.
    """
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def digest_network(network: nn.Module) -> str:
    """A hash of a network that no file tells all about: its weights, and what its layers are.

    Weights alone tell neither activations nor strides.

    Args:
        network: Any module.

    Returns:
        SHA-256 in hexadecimal; the same in each process.
    """
    layers = "\n".join(  # NNI's parametrised modules cannot be printed whole once they are frozen
        f"{name} {type(module).__qualname__} {_ADDRESS.sub('', str(module.extra_repr()))}"
        for name, module in network.named_modules()
    )
    return hashlib.sha256(f"{digest_weights(network)} {layers}".encode()).hexdigest()


def _digest_source(source: Source) -> str:
    """A hash of network and preprocessing; files stand for the network where there are some."""
    if source.trained is not None:  # their file's name tells whose weights they are
        weights = digest_weights(source.network)
    elif source.file is None:
        weights = digest_network(source.network)
    else:
        digests: list[str] = []
        for path in (source.file, *source.beside):
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        weights = " ".join(digests)
    parts = json.dumps([weights, asdict(source.preprocessing)])
    if source.gives_probabilities:
        parts += " logarithm"
    return hashlib.sha256(parts.encode()).hexdigest()
