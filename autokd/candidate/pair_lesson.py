"""What a dual tower learns: views of pictures, captions, and what the teacher makes of both."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from autokd.config import TowerConfig, find_cache
from autokd.data import NamedPictures, Pairs, as_view, build_viewer
from autokd.distillation import (
    DualTower,
    Exam,
    PairBatch,
    Retrieval,
    TeacherRows,
    clip_loss,
    measure_retrieval,
    measure_zero_shot,
)
from autokd.teachers import ClipTeacher, KnowledgeBank, Tokenise
from autokd.types import Recipe

__all__ = ["PairLesson", "embed_pictures", "embed_texts"]

_BATCH = 256
_MOST = 1024  # pictures that the contrastive loss of a split is computed on
_VIEWS_APART = 1_000_003  # a prime, so that seeds begin at different views


def embed_pictures(
    tower: nn.Module, images: UInt8[Tensor, "n c h w"], *, device: torch.device
) -> Float[Tensor, "n dims"]:
    """Embeddings of pictures, on the CPU.

    Args:
        tower: In evaluation mode, on the device.
        images: Pixels in 0..255.
        device: Where they are computed.

    Returns:
        Rows of length 1.
    """
    with torch.no_grad():
        return torch.cat(
            [tower(as_view(part.to(device))).float().cpu() for part in images.split(_BATCH)]
        )


def embed_texts(
    tower: nn.Module, tokens: Int64[Tensor, "n context"], *, device: torch.device
) -> Float[Tensor, "n dims"]:
    """Embeddings of texts, on the CPU.

    Args:
        tower: In evaluation mode, on the device.
        tokens: Of the texts.
        device: Where they are computed.

    Returns:
        Rows of length 1.
    """
    with torch.no_grad():
        return torch.cat([tower(part.to(device)).float().cpu() for part in tokens.split(_BATCH)])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Captions:
    """The captions of some pictures, one after the other.

    Attributes:
        texts: All of them.
        owners: Which picture of the split each belongs to.
        first: Of each picture: number of its first caption.
        counts: Of each picture: how many it has.
        tokens: The teacher's, of all of them.
        meanings: Equal for texts of equal tokens.
    """

    texts: tuple[str, ...]
    owners: Int64[Tensor, " texts"]
    first: Int64[Tensor, " pictures"]
    counts: Int64[Tensor, " pictures"]
    tokens: Int64[Tensor, "texts context"]
    meanings: Int64[Tensor, " texts"]

    @classmethod
    def of(cls, captions: Sequence[Sequence[str]], *, tokenise: Tokenise) -> "_Captions":
        texts = tuple(text for some in captions for text in some)
        counts = torch.tensor([len(some) for some in captions])
        tokens = tokenise(texts)
        return cls(
            texts=texts,
            owners=torch.arange(len(counts)).repeat_interleave(counts),
            first=counts.cumsum(0) - counts,
            counts=counts,
            tokens=tokens,
            meanings=tokens.unique(dim=0, return_inverse=True)[1],
        )


@final
class PairLesson:
    """A `distillation.Lesson` out of pairs and a teacher, who is asked about each thing once.

    Attributes:
        context: Tokens of a text, as the student takes them.
    """

    def __init__(
        self,
        pairs: Pairs,
        teacher: ClipTeacher,
        *,
        config: TowerConfig,
        device: torch.device,
        names: Sequence[str] = (),
    ) -> None:
        """Decodes the training pictures; nobody is asked yet.

        Args:
            pairs: Pictures and captions.
            teacher: On the device.
            config: Size of the student's pictures, augmentation, views, context.
            device: Where the student is trained.
            names: Texts beside the captions that the student must be able to read whole.
        """
        self._pairs, self._teacher, self._device = pairs, teacher, device
        self._side = config.image_size or teacher.side
        self._captions, self._val_captions, self._test_captions = (
            self._captions_of(split) for split in (pairs.train, pairs.val, pairs.test)
        )
        read = [self._captions, self._val_captions, self._test_captions]
        tokens = torch.cat([*(one.tokens for one in read), teacher.tokenise(["", *names])])
        longest = int(teacher.count_tokens(tokens).max())
        self.context = min(config.context or longest, tokens.shape[1])
        self._tokens, self._val_tokens, self._test_tokens = (self._cut(one.tokens) for one in read)
        self._images = pairs.read(pairs.train, side=teacher.side)
        self._val_images = pairs.read(pairs.val, side=self._side)
        self._examples = pairs.read(pairs.test, side=self._side)[:_BATCH]  # can all be read
        recipe = Recipe(augmentation=config.augmentation, magnitude=_magnitude(config))
        self._viewer = build_viewer(recipe, n_pictures=len(self._images), n_views=config.views)
        words = hashlib.sha256(self._captions.tokens.numpy().tobytes()).hexdigest()
        bank = partial(KnowledgeBank, cache=find_cache(), device_type=device.type)
        self._image_bank = bank(
            teacher.image,
            teacher_digest=f"{teacher.digest} image",
            data_digest=f"{pairs.digest} {teacher.side}",
        )
        self._text_bank = bank(
            teacher.text, teacher_digest=f"{teacher.digest} text", data_digest=words
        )
        self._view, self._is_checked = -1, False
        self._kept = torch.empty(0)

    @property
    def n_pictures(self) -> int:
        """Of the training split."""
        return len(self._images)

    @cached_property
    def _teacher_texts(self) -> Tensor:
        """The teacher's embeddings of all captions, on the device."""
        kept = self._text_bank.remember(
            "captions",
            view=0,
            n_pictures=len(self._captions.texts),
            render=lambda indices: self._captions.tokens[indices].to(self._device),
            answer=lambda tokens: _ask(self._teacher.text, tokens),
        )
        some = slice(0, _BATCH)  # code may have changed where weights have not
        self._text_bank.check(kept[some], self._captions.tokens[some].to(self._device))
        return kept.to(self._device).float()

    def tokenise(self, texts: Sequence[str]) -> Int64[Tensor, "texts context"]:
        """Tokens of texts as the student takes them; of a longer one the end is cut out.

        Args:
            texts: Any.

        Returns:
            The teacher's tokens, the last one kept, in the student's context.
        """
        return self._cut(self._teacher.tokenise(texts))

    def _cut(self, tokens: Int64[Tensor, "texts full"]) -> Int64[Tensor, "texts context"]:
        """Tokens of the teacher in the student's context."""
        last = self._teacher.count_tokens(tokens) - 1
        ends = tokens.gather(1, last[:, None])[:, 0]
        cut = tokens[:, : self.context].clone()
        cut[last >= self.context, -1] = ends[last >= self.context]
        return cut

    def batch(
        self, indices: Int64[Tensor, " b"], *, epoch: int, seed: int, is_taught: bool
    ) -> PairBatch:
        """These pictures, one caption of each, and the teacher's embeddings of the same.

        Args:
            indices: Of the training split, on the CPU.
            epoch: From 0; each has its own view of a picture.
            seed: Of the order of the views; captions are drawn by torch's generator.
            is_taught: Whether the teacher is listened to.

        Returns:
            On the device.
        """
        view = (_VIEWS_APART * seed + epoch) % self._viewer.n_views
        views = self._render(view, indices)
        chosen = (torch.rand(len(indices)) * self._captions.counts[indices]).long()
        texts = self._captions.first[indices] + chosen
        teacher = None
        if is_taught:
            teacher = TeacherRows(
                images=self._recall(view, indices, views=views),
                texts=self._teacher_texts[texts.to(self._device)],
                scale=self._teacher.scale,
            )
        return PairBatch(
            pictures=self._fit(views),
            tokens=self._tokens[texts].to(self._device),
            meanings=self._captions.meanings[texts].to(self._device),
            teacher=teacher,
        )

    def _render(self, view: int, indices: Tensor) -> Tensor:
        images = self._images[indices].to(self._device)
        with torch.autocast(self._device.type, enabled=False):
            return self._viewer(images, indices, view=view)

    def _fit(self, views: Tensor) -> Tensor:
        """Views in the size of the student's pictures."""
        if views.shape[-1] == self._side:
            return views
        size = [self._side, self._side]
        return F.interpolate(views, size=size, mode="bilinear", antialias=True)

    def _recall(self, view: int, indices: Tensor, *, views: Tensor) -> Tensor:
        """The teacher's embeddings of a view of these pictures."""
        if view != self._view:
            self._kept, self._view = self._remember(view), view
        rows = self._kept[indices].to(self._device).float()
        if not self._is_checked:
            self._image_bank.check(rows, views)
            self._is_checked = True
        return rows

    def _remember(self, view: int) -> Tensor:
        return self._image_bank.remember(
            f"{self._viewer} towers",
            view=view,
            n_pictures=self.n_pictures,
            render=partial(self._render, view),
            answer=lambda views: _ask(self._teacher.image, views),
        )

    def examine(self, towers: DualTower) -> Exam:
        """Recalls and loss on the validation split.

        Args:
            towers: In evaluation mode, on the device.

        Returns:
            Both.
        """
        images = embed_pictures(towers.image, self._val_images, device=self._device)
        texts = embed_texts(towers.text, self._val_tokens, device=self._device)
        captions = self._val_captions
        first = captions.first[:_MOST]
        meanings = captions.meanings[first]
        loss = clip_loss(
            images[:_MOST],
            texts[first],
            positives=meanings[:, None] == meanings[None, :],
            scale=towers.scale.detach().cpu(),
        )
        found = measure_retrieval(images, texts, owners=captions.owners, meanings=captions.meanings)
        return Exam(retrieval=found, loss=float(loss))

    def report(self, towers: DualTower | None) -> Retrieval:
        """Recalls on the test split.

        Args:
            towers: In evaluation mode, on the CPU; the teacher if none.

        Returns:
            The recalls.
        """
        return self._try(towers, self._pairs.test, self._test_captions)

    def examine_teacher(self) -> Retrieval:
        """The teacher's recalls on the validation split."""
        return self._try(None, self._pairs.val, self._val_captions)

    def _try(
        self, towers: DualTower | None, split: NDArray[np.int64], captions: _Captions
    ) -> Retrieval:
        image, text = self._embedders(towers)
        return measure_retrieval(
            image(self._pairs.read(split, side=self._side_of(towers))),
            text(captions.texts),
            owners=captions.owners,
            meanings=captions.meanings,
        )

    def _side_of(self, towers: DualTower | None) -> int:
        return self._teacher.side if towers is None else self._side

    def _embedders(
        self, towers: DualTower | None
    ) -> tuple[Callable[[Tensor], Tensor], Callable[[Sequence[str]], Tensor]]:
        """What embeds pictures and texts: the towers, or the teacher if none."""
        if towers is None:
            device, image, text = self._device, self._teacher.image, self._teacher.text
            tokenise = self._teacher.tokenise
        else:
            device, image, text = torch.device("cpu"), towers.image, towers.text
            tokenise = self.tokenise
        return (
            partial(embed_pictures, image, device=device),
            lambda texts: embed_texts(text, tokenise(texts), device=device),
        )

    def tell_classes(
        self, pictures: NamedPictures, *, names: Sequence[str], towers: DualTower | None
    ) -> float:
        """Zero-shot accuracy on pictures of named classes.

        Args:
            pictures: Never trained on.
            names: What a picture of each class is called.
            towers: On the CPU; the teacher if none.

        Returns:
            Top-1, in [0, 1].
        """
        image, text = self._embedders(towers)
        return measure_zero_shot(
            image(pictures.read(side=self._side_of(towers))),
            text(names),
            torch.from_numpy(pictures.labels),
        )

    def examples(
        self,
    ) -> tuple[UInt8[Tensor, "n c h w"], Int64[Tensor, "m context"], tuple[str, ...]]:
        """Pictures of the test split in the student's size; all captions as tokens and texts."""
        parts = [self._captions, self._val_captions, self._test_captions]
        tokens = torch.cat([self._tokens, self._val_tokens, self._test_tokens])
        return self._examples, tokens, tuple(text for one in parts for text in one.texts)

    def _captions_of(self, indices: NDArray[np.int64]) -> _Captions:
        said = [self._pairs.captions[index] for index in indices.tolist()]
        return _Captions.of(said, tokenise=self._teacher.tokenise)


def _ask(tower: nn.Module, rows: Tensor) -> Tensor:
    with torch.no_grad():
        return tower(rows).half()


def _magnitude(config: TowerConfig) -> int:
    return 9 if config.augmentation == "randaugment" else 0
