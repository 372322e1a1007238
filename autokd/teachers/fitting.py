"""A network trained once: by the injected training loop the first time, from a file after that."""

import hashlib
import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from autokd.teachers.plans import FitNetwork, TeacherPlan
from autokd.teachers.preprocessing import PreparedViews
from autokd.teachers.teacher import Source
from autokd.types import DataCard

__all__ = ["fit_once"]

_logger = logging.getLogger(__name__)
_NETWORK = "1."  # its place in the sequence that is trained


def fit_once(
    source: Source, *, origin: str, plan: TeacherPlan, data: DataCard, fit: FitNetwork, cache: Path
) -> Path:
    """Trains the network of a source, or fills it with what the same training gave before.

    Args:
        source: Its network is changed in place; it is trained behind its preprocessing.
        origin: What the network is and what its weights were; part of the file's name, like
            the data, the preprocessing and the plan.
        plan: How to train it.
        data: What it is trained on.
        fit: Trains.
        cache: Weights lie in its folder `teachers`, until they are complete with a checkpoint of
            the last epoch. A damaged file is written anew.

    Returns:
        The file of the weights, missing only where it could not be written.
    """
    parts = [data.digest, origin, asdict(source.preprocessing), asdict(plan)]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    path = cache / "teachers" / f"{key}.safetensors"
    if path.exists() and _restore(source.network, path=path):
        return path
    prepare = PreparedViews(source.preprocessing, view_shape=data.shape)
    checkpoint = path.with_suffix(".checkpoint")
    trained = fit(nn.Sequential(prepare, source.network), plan=plan, checkpoint=checkpoint).cpu()
    state = {
        name.removeprefix(_NETWORK): value.detach().clone().contiguous()
        for name, value in trained.state_dict().items()
    }
    source.network.cpu().load_state_dict(state)
    if _write(state, path=path):
        checkpoint.unlink(missing_ok=True)
    return path


def _restore(network: nn.Module, *, path: Path) -> bool:
    """Whether the network has the weights of the file now; it is untouched if not."""
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        _logger.warning("%s is damaged, the teacher is trained again: %s", path, error)
        return False
    if _shapes(state) != _shapes(network.state_dict()):
        _logger.warning("%s holds another network, the teacher is trained again", path)
        return False
    network.load_state_dict(state)
    return True


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a state dict."""
    return {name: tuple(value.shape) for name, value in state.items()}


def _write(state: dict[str, Tensor], *, path: Path) -> bool:
    """All of the file or nothing, so that nobody ever reads half of it; whether all."""
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file(state, temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        _logger.warning("the teacher's weights could not be kept in %s: %s", path, error)
        return False
    return True
