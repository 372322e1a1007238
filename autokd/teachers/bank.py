"""What a teacher says of every view of every picture, asked once and kept.

One file a view, in half precision: written when the view is first needed, by whichever trial
comes first, mapped into memory by all others. A bank that is cut off goes on with the next view.

References:
    Shen & Xing, "A Fast Knowledge Distillation Framework for Visual Recognition", 2022.
    https://arxiv.org/abs/2112.01528
    Wu et al., "TinyViT", 2022, section 3 (sparse logits).
    https://arxiv.org/abs/2207.10666
"""

import hashlib
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import final

import numpy as np
import torch
import torchvision
from filelock import FileLock
from jaxtyping import Float, Float32, Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor, nn

from autokd.errors import TeacherError

__all__ = ["KnowledgeBank", "expand_answers", "is_abridged"]

_DENSE = 1000  # classes; beyond, only the likeliest are kept
_TOP = 32  # of them
_NEVER = -100.0  # logarithm of a probability; a class that is ruled out has minus infinity
_BATCH = 256  # pictures that the teacher is asked at once
_TOLERANCE = 1e-2  # of the largest logit: what half precision and another batch may change

Answer = Callable[[Tensor], Tensor]
"""Views in [0, 1] to a row for each."""

Render = Callable[[Int64[Tensor, " b"]], Tensor]
"""Indices of pictures, on the CPU, to one view of them."""


@final
class KnowledgeBank:
    """Remembers a teacher's logits by view.

    Attributes:
        path: The folder of this teacher and these pictures.
    """

    def __init__(
        self,
        teacher: nn.Module,
        *,
        cache: Path,
        teacher_digest: str,
        data_digest: str,
        device_type: str = "cpu",
    ) -> None:
        """Opens no file.

        Args:
            teacher: Views in [0, 1] to logits.
            cache: Where all banks lie.
            teacher_digest: Of its weights and preprocessing.
            data_digest: Of the pictures in their order.
            device_type: Where views are rendered. RandAugment may round differently on another
                device, and with another torchvision, so that each has a bank of its own.
        """
        views = f"torchvision {torchvision.__version__} {device_type}"
        parts = f"{teacher_digest} {data_digest} {views} f16 mean"
        key = hashlib.sha256(parts.encode()).hexdigest()[:32]
        self.path = cache / "knowledge" / key
        self._teacher, self._device_type = teacher, device_type

    def recall(self, policy: str, *, view: int, n_pictures: int, render: Render) -> Tensor:
        """The teacher's logits of one view of every picture; it is asked if nobody did before.

        Args:
            policy: All that the view depends on.
            view: Its number.
            n_pictures: Of the data set.
            render: Makes the view.

        Returns:
            A row for each picture, on the CPU: [pictures classes] in half precision; beyond 1,000
            classes [pictures 2 34], which `expand_answers` understands.
        """

        def answer(views: Tensor) -> Tensor:
            logits = self._ask(views)
            return logits.half() if logits.shape[1] <= _DENSE else _compress(logits)

        return self.remember(policy, view=view, n_pictures=n_pictures, render=render, answer=answer)

    def remember(
        self, what: str, *, view: int, n_pictures: int, render: Render, answer: Answer
    ) -> Tensor:
        """Any answer of the teacher to one view of every picture, given once and kept.

        Args:
            what: All that the answer depends on, but for teacher, pictures and number.
            view: Its number.
            n_pictures: Of the data set.
            render: Makes the view.
            answer: Asks the teacher.

        Returns:
            A row for each picture, on the CPU, as `answer` gave it.

        Raises:
            TeacherError: The folder cannot be written or read.
        """
        name = hashlib.sha256(what.encode()).hexdigest()[:16]
        path = self.path / f"{name}-{view:04d}.npy"
        try:
            kept = _read(path)
            if kept is None:
                self.path.mkdir(parents=True, exist_ok=True)
                with FileLock(path.with_suffix(".lock")):
                    kept = _read(path)
                    if kept is None:
                        _write(path, self._collect(n_pictures, render=render, answer=answer))
                        kept = _read(path)
        except OSError as error:
            raise TeacherError(
                f"knowledge bank must be writable, got {error}; set AUTOKD_CACHE to another "
                "folder or pass --no-bank"
            ) from error
        if kept is None:
            raise TeacherError(f"knowledge bank must stay as it is, got {path} removed or damaged")
        return torch.from_numpy(kept)

    def check(
        self,
        kept: Float[Tensor, "b ..."],
        views: Shaped[Tensor, "b ..."],
        *,
        answer: Answer | None = None,
    ) -> None:
        """Refuses what is kept if the teacher says something else today.

        Args:
            kept: Of a batch, as `recall` or `remember` gave it.
            views: The same batch of views, or of whatever else the teacher takes.
            answer: As `remember` was given it; if none, that of `recall`.

        Raises:
            TeacherError: They differ by more than half precision explains.
        """

        def ask() -> Tensor:
            with torch.autocast(views.device.type, enabled=False):
                return (answer or self._ask)(views).float()

        live = ask()
        kept = kept.to(views.device).float()
        if kept.ndim == 2:
            differences = (live - kept).abs()
        else:  # of those classes that are kept, whichever they are
            values, names = kept[:, 0, :_TOP], kept[:, 1, :_TOP].long()
            differences = (live.log_softmax(1).gather(1, names) - values).abs()
        difference = differences.max().item()
        allowed = _TOLERANCE * max(1.0, live.abs().max().item())
        if not difference <= allowed:
            own = (ask() - live).abs().max().item()
            if not own <= allowed:
                raise TeacherError(
                    f"`--teacher` must say the same of a picture whenever it is asked, got answers "
                    f"{own:.2g} apart; take what is random out of it, or pass --no-bank"
                )
            raise TeacherError(
                f"knowledge bank must agree with the teacher to {allowed:.2g}, got a difference "
                f"of {difference:.2g}; the teacher has changed: remove {self.path}"
            )

    @torch.no_grad()
    def _ask(self, views: Tensor) -> Float32[Tensor, "b classes"]:
        with torch.autocast(views.device.type, enabled=False):
            return self._teacher(views).float()

    def _collect(self, n_pictures: int, *, render: Render, answer: Answer) -> NDArray[np.floating]:
        """The answers to a view of all pictures, in full precision whoever asks for them."""
        parts: list[Tensor] = []
        with torch.autocast(self._device_type, enabled=False):
            for indices in torch.arange(n_pictures).split(_BATCH):
                parts.append(answer(render(indices)).cpu())
                if indices[0] == 0:
                    self._make_room(parts[0][0].nbytes * n_pictures)
            return torch.cat(parts).numpy()  # CPU autocast takes no half precision

    def _make_room(self, need: int) -> None:
        """Refuses to begin what cannot be written.

        Raises:
            TeacherError: The disk has no room for another view.
        """
        free = shutil.disk_usage(self.path).free
        if free < need:
            raise TeacherError(
                f"knowledge bank must have room for {need / 2**20:.1f} MiB a view, got "
                f"{free / 2**20:.1f} MiB free in {self.path}; free some, set AUTOKD_CACHE to a "
                "folder on another disk, or pass --no-bank"
            )


def is_abridged(n_classes: int) -> bool:
    """Whether a bank keeps the likeliest of so many classes only.

    Args:
        n_classes: Of the teacher.

    Returns:
        Whether it does.
    """
    return n_classes > _DENSE


def expand_answers(
    kept: Float[Tensor, "b ..."], temperature: float = 1.0
) -> Float[Tensor, "b classes"]:
    """What the teacher said, of each class.

    Beyond 1,000 classes all but the 32 likeliest are alike, and as likely as they are together at
    this temperature, if their logits are normally distributed: those have the mean m, and the
    logarithm of their mean likelihood is m + s^2 / 2 at temperature 1, where it is kept, and
    m / T + s^2 / (2 T^2) at T.

    Args:
        kept: Rows of `KnowledgeBank.recall`.
        temperature: By which the answer will be divided; positive.

    Returns:
        Logits; of more than 1,000 classes log-probabilities, but for the rest's at a temperature
        other than 1.
    """
    return kept if kept.ndim == 2 else _expand(kept, temperature)


def _compress(logits: Float32[Tensor, "b classes"]) -> Float32[Tensor, "b 2 kept"]:
    """Log-probabilities: the likeliest, that of the rest's mean, the mean of theirs; and whose."""
    n_classes = logits.shape[1]
    all_of_them = logits.log_softmax(1)
    likely, classes = all_of_them.topk(_TOP, dim=1)
    n_rest = n_classes - _TOP
    rest = all_of_them.scatter(1, classes, -math.inf).logsumexp(1, keepdim=True)
    known = all_of_them.clamp(min=_NEVER).scatter(1, classes, 0.0)
    mean = known.sum(1, keepdim=True) / n_rest
    values = torch.cat([likely, rest - math.log(n_rest), mean], dim=1)
    names = torch.cat([classes, classes.new_full((len(classes), 2), n_classes)], dim=1)
    return torch.stack([values, names.float()], dim=1)


def _expand(kept: Float32[Tensor, "b 2 kept"], temperature: float) -> Float32[Tensor, "b classes"]:
    """Log-probabilities of all classes."""
    values, names = kept[:, 0], kept[:, 1].long()
    rest, mean = values[:, _TOP, None], values[:, _TOP + 1, None]
    full = (mean + (rest - mean) / temperature).repeat(1, int(names[0, -1]))
    return full.scatter_(1, names[:, :_TOP], values[:, :_TOP])


def _read(path: Path) -> NDArray[np.floating] | None:
    """What a file holds, mapped; none where there is no whole one."""
    try:
        return np.load(path, mmap_mode="c")
    except (FileNotFoundError, ValueError, EOFError):
        return None


def _write(path: Path, kept: NDArray[np.floating]) -> None:
    """All of the file or nothing."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.save(file, kept)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
