"""One straight training loop for a dual tower; a teacher is optional, all else is the same."""

import copy
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from autokd.distillation.checkpoint import Checkpoint, Keeper
from autokd.distillation.contrastive import (
    clip_loss,
    embedding_loss,
    interactive_loss,
    relational_loss,
)
from autokd.distillation.engine import Engine
from autokd.distillation.memory import keep_freed_memory
from autokd.distillation.optimiser import build_optimiser, build_schedule
from autokd.distillation.plan import OnEpoch, Plan
from autokd.distillation.retrieval import Retrieval
from autokd.distillation.towers import DualTower
from autokd.errors import DivergedError
from autokd.types import EpochLog, Recipe

__all__ = ["Alignment", "Exam", "Lesson", "PairBatch", "TeacherRows", "align"]

_FEATURE_WEIGHT = 2000.0  # of CLIP-KD; a mean over dimensions is small
_CLIP_NORM = 1.0
_SEEDS_APART = 10_007  # epochs at the most; each draws from a seed of its own


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TeacherRows:
    """What the teacher makes of the pictures and texts of a batch.

    Attributes:
        images: Embeddings of length 1.
        texts: Likewise.
        scale: Factor of its cosines.
    """

    images: Float[Tensor, "batch dims"]
    texts: Float[Tensor, "batch dims"]
    scale: float


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class PairBatch:
    """Pictures and a text of each.

    Attributes:
        pictures: In [0, 1], as the student sees them.
        tokens: Of the texts.
        meanings: Equal for equal texts.
        teacher: What it makes of the same; none where it is not listened to.
    """

    pictures: Float32[Tensor, "batch channels height width"]
    tokens: Int64[Tensor, "batch context"]
    meanings: Int64[Tensor, " batch"]
    teacher: TeacherRows | None


@final
@dataclass(frozen=True, kw_only=True)
class Exam:
    """How well a dual tower does on the validation split.

    Attributes:
        retrieval: Recalls.
        loss: Contrastive, in nats.
    """

    retrieval: Retrieval
    loss: float


@runtime_checkable
class Lesson(Protocol):
    """What a dual tower learns from, and is examined by."""

    @property
    def n_pictures(self) -> int:
        """Of the training split."""
        ...

    def batch(
        self, indices: Int64[Tensor, " b"], *, epoch: int, seed: int, is_taught: bool
    ) -> PairBatch:
        """These pictures as the student sees them in this epoch, on its device."""
        ...

    def examine(self, towers: DualTower) -> Exam:
        """Of towers in evaluation mode on the device of the lesson."""
        ...


@final
@dataclass(frozen=True, kw_only=True)
class Alignment:
    """What came of a training; the towers themselves hold the weights of the best epoch.

    Attributes:
        curve: One row per epoch; `val_accuracy` is the mean recall at 1 of both directions.
        seconds: Wall time, that before the checkpoint included.
        is_stopped: Whether it was ended before its last epoch.
        engine: How the steps were computed.
    """

    curve: tuple[EpochLog, ...]
    seconds: float
    is_stopped: bool
    engine: str

    @property
    def val_recall(self) -> float:
        """Of the best epoch."""
        return max(row.val_accuracy for row in self.curve)


def align(
    towers: DualTower,
    lesson: Lesson,
    *,
    losses: Collection[str],
    recipe: Recipe,
    plan: Plan,
    on_epoch: OnEpoch = lambda _: None,
    keeper: Keeper | None = None,
) -> Alignment:
    """Trains a dual tower in place; a training that was cut off goes on as if it never had been.

    Args:
        towers: Trained in place; on the CPU and in evaluation mode afterwards.
        lesson: What is learnt, and how it is examined.
        losses: `contrastive`, `feature`, `interactive`, `relational`; all but the first need a
            teacher.
        recipe: Its optimiser, learning rate and weight decay.
        plan: Epochs, batch, seed, device and engine, of which the number type alone counts: that
            of the checkpoint where there is one, else bfloat16 on a GPU if there is no engine.
        on_epoch: Called after each epoch; ends the training if it gives `False`.
        keeper: Keeps the training after each epoch; where it has kept one, that goes on.

    Returns:
        The curve.
    """
    start = time.perf_counter()
    keep_freed_memory()
    kept = None if keeper is None else keeper.load()
    with torch.random.fork_rng([plan.device] if plan.device.type == "cuda" else []):
        learning = _Learning(towers, lesson, losses=losses, recipe=recipe, plan=plan, kept=kept)
        before = 0.0 if kept is None else kept.seconds
        is_stopped = False
        while len(learning.curve) < plan.epochs and not is_stopped:
            row = learning.train_epoch()
            seconds = before + time.perf_counter() - start
            if keeper is not None:
                keeper.save(learning.checkpoint(seconds=seconds))
            is_stopped = on_epoch(row) is False
    learning.finish()
    return Alignment(
        curve=tuple(learning.curve),
        seconds=before + time.perf_counter() - start,
        is_stopped=is_stopped and len(learning.curve) < plan.epochs,
        engine=str(learning.engine),
    )


class _Learning:
    """Trains epoch after epoch; what is drawn depends on seed and epoch alone."""

    def __init__(
        self,
        towers: DualTower,
        lesson: Lesson,
        *,
        losses: Collection[str],
        recipe: Recipe,
        plan: Plan,
        kept: Checkpoint | None,
    ) -> None:
        self.curve: list[EpochLog] = []
        self._towers, self._lesson, self._losses, self._plan = towers, lesson, losses, plan
        self.engine = _choose_engine(plan, kept=kept)
        self._is_taught = bool(set(losses) - {"contrastive"})
        self._batch_size = min(plan.batch_size, lesson.n_pictures)
        self._n_steps = lesson.n_pictures // self._batch_size
        if kept is not None:
            towers.load_state_dict(kept.weights)
        towers.to(plan.device)
        self._optimiser = build_optimiser(list(towers.parameters()), recipe)
        n_steps = plan.epochs * self._n_steps
        self._schedule = build_schedule(self._optimiser, peak=recipe.learning_rate, n_steps=n_steps)
        self._best = (-1.0, 0.0)
        self._best_weights: dict[str, Tensor] = {}
        if kept is not None:
            self.curve.extend(kept.curve)
            self._best = max(map(_rank, kept.curve))
            self._best_weights = kept.best_weights or copy.deepcopy(towers.state_dict())
            self._optimiser.load_state_dict(kept.optimiser)
            self._schedule.load_state_dict(kept.schedule)

    def train_epoch(self) -> EpochLog:
        """One more epoch.

        Returns:
            The row that it adds to the curve.

        Raises:
            DivergedError: The loss is not finite any more.
        """
        start, epoch, plan = time.perf_counter(), len(self.curve), self._plan
        torch.manual_seed(plan.seed * _SEEDS_APART + epoch)
        self._towers.train()
        total = torch.zeros((), device=plan.device)
        order = torch.randperm(self._lesson.n_pictures)
        for indices in order[: self._n_steps * self._batch_size].split(self._batch_size):
            total += self._step(
                self._lesson.batch(indices, epoch=epoch, seed=plan.seed, is_taught=self._is_taught)
            )
        train_loss = total.item() / self._n_steps
        if not math.isfinite(train_loss):
            raise DivergedError(f"loss is {train_loss} in epoch {epoch + 1} of {plan.epochs}")
        exam = self._lesson.examine(self._towers.eval())
        row = EpochLog(
            epoch=epoch + 1,
            train_loss=train_loss,
            val_loss=exam.loss,
            val_accuracy=exam.retrieval.mean,
            learning_rate=float(self._schedule.get_last_lr()[0]),
            alpha=float(self._is_taught),
            temperature=1 / float(self._towers.scale.detach()),
            seconds=time.perf_counter() - start,
        )
        self.curve.append(row)
        if _rank(row) > self._best:
            self._best = _rank(row)
            self._best_weights = copy.deepcopy(self._towers.state_dict())
        return row

    def _step(self, batch: PairBatch) -> Tensor:
        """One step on these pairs; gives its loss."""
        towers, engine = self._towers, self.engine
        with torch.autocast(engine.device.type, torch.bfloat16, enabled=engine.is_bf16):
            images, texts = towers(batch.pictures, batch.tokens)
        images, texts, scale = images.float(), texts.float(), towers.scale
        positives = batch.meanings[:, None] == batch.meanings[None, :]
        parts: dict[str, Callable[[], Tensor]] = {
            "contrastive": lambda: clip_loss(images, texts, positives=positives, scale=scale)
        }
        if batch.teacher is not None:
            ours, rows = (images, texts), batch.teacher
            theirs = {"teacher_images": rows.images, "teacher_texts": rows.texts}
            parts["feature"] = lambda: (
                (embedding_loss(images, rows.images) + embedding_loss(texts, rows.texts))
                * _FEATURE_WEIGHT
            )
            parts["interactive"] = lambda: interactive_loss(
                *ours, **theirs, positives=positives, scale=scale
            )
            parts["relational"] = lambda: relational_loss(
                *ours, **theirs, scale=scale, teacher_scale=rows.scale
            )
        loss = torch.stack([parts[name]() for name in self._losses]).sum()
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(towers.parameters(), _CLIP_NORM)
        self._optimiser.step()
        self._schedule.step()
        towers.limit_scale()
        return loss.detach()

    def finish(self) -> None:
        """Gives the towers the weights of their best epoch, on the CPU, in evaluation mode."""
        self._towers.load_state_dict(self._best_weights)
        self._towers.to("cpu").eval()

    def checkpoint(self, *, seconds: float) -> Checkpoint:
        """The training as it is now; its tensors are those that are trained.

        Args:
            seconds: That it has taken.

        Returns:
            The checkpoint.
        """
        is_best = _rank(self.curve[-1]) == self._best
        return Checkpoint(
            curve=tuple(self.curve),
            weights=self._towers.state_dict(),
            best_weights={} if is_best else self._best_weights,
            beside=[],
            optimiser=self._optimiser.state_dict(),
            schedule=self._schedule.state_dict(),
            engine=str(self.engine),
            seconds=seconds,
        )


def _choose_engine(plan: Plan, *, kept: Checkpoint | None) -> Engine:
    """The number type of a training, which it keeps to on a device of another kind."""
    is_bf16 = plan.device.type == "cuda" if plan.engine is None else plan.engine.is_bf16
    if kept is not None and kept.engine:
        is_bf16 = Engine.parse(kept.engine).is_bf16
    return Engine(device=plan.device, is_bf16=is_bf16)


def _rank(row: EpochLog) -> tuple[float, float]:
    """The higher, the better the weights of an epoch."""
    return row.val_accuracy, -row.val_loss
