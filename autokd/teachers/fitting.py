"""A network trained once: by the injected training loop the first time, from a file after that."""

import hashlib
import json
import logging
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock, Timeout
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

    Another process that trains the same is waited for: both have one and the same network.

    Args:
        source: Its network is changed in place; it is trained behind its preprocessing.
        origin: What the network is and what its weights were; part of the file's name, like
            the data, the preprocessing and the plan.
        plan: How to train it.
        data: What it is trained on.
        fit: Trains.
        cache: Weights lie in its folder `teachers`, until they are complete with a checkpoint of
            the last epoch, with a lock beside. A damaged file is written anew.

    Returns:
        The file of the weights, missing only where it could not be written.
    """
    parts = [data.digest, origin, asdict(source.preprocessing), asdict(plan)]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    path = cache / "teachers" / f"{key}.safetensors"
    with _alone(path):
        _fit(source, path=path, plan=plan, data=data, fit=fit)
    return path


def _fit(source: Source, *, path: Path, plan: TeacherPlan, data: DataCard, fit: FitNetwork) -> None:
    """Trains the network and writes it, or takes what lies there."""
    is_known = path.exists()
    if is_known and _restore(source.network, path=path):
        return
    prepare = PreparedViews(source.preprocessing, view_shape=data.shape)
    checkpoint = path.with_suffix(".checkpoint")
    trained = fit(nn.Sequential(prepare, source.network), plan=plan, checkpoint=checkpoint).cpu()
    state = {
        name.removeprefix(_NETWORK): value.detach().clone().contiguous()
        for name, value in trained.state_dict().items()
    }
    source.network.cpu().load_state_dict(state)
    # A worker of another study may have brought that study's weights, which must stay.
    is_brought = not is_known and path.exists() and _restore(source.network, path=path)
    if is_brought or _write(state, path=path):
        checkpoint.unlink(missing_ok=True)


@contextmanager
def _alone(path: Path) -> Generator[None]:
    """Nobody else looks for a file and writes it meanwhile; the lock of who is killed is free."""
    lock = FileLock(path.with_suffix(".lock"))
    with suppress(OSError):  # what cannot be written is shared with nobody
        path.parent.mkdir(parents=True, exist_ok=True)
        _take(lock, path=path)
    try:
        yield
    finally:
        lock.release()


def _take(lock: FileLock, *, path: Path) -> None:
    """Takes a lock, and says so where that has to be waited for."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _logger.warning("another process trains the same teacher; waiting for its %s", path)
        lock.acquire()


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
