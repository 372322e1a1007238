"""Teachers with two towers: CLIP models of open_clip, or what the user's own Python builds."""

import difflib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast, final

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from autokd.errors import TeacherError
from autokd.teachers.preprocessing import PreparedViews, Preprocessing
from autokd.teachers.probing import shorten
from autokd.teachers.python_teacher import call_python
from autokd.teachers.teacher import digest_weights

__all__ = ["ClipTeacher", "Tokenise", "load_clip"]

Tokenise = Callable[[Sequence[str]], Tensor]
"""Texts to int64 [texts context]; shorter ones are filled up."""

_PREPROCESSING = ("size", "mean", "std")
_FORMS = "clip:NAME or python:module:function"


@final
class _ImageTower(nn.Module):
    """Pictures in [0, 1] to embeddings of length 1."""

    def __init__(self, model: nn.Module, prepare: PreparedViews) -> None:
        super().__init__()
        self.prepare, self.model = prepare, model

    def forward(self, pictures: Tensor) -> Tensor:
        """Unchecked annotations: a shape check inside an ONNX trace warns."""
        features = cast(Any, self.model).encode_image(self.prepare(pictures))
        return nn.functional.normalize(features.float(), dim=-1)


@final
class _TextTower(nn.Module):
    """Tokens to embeddings of length 1."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        """Unchecked annotations: a shape check inside an ONNX trace warns."""
        features = cast(Any, self.model).encode_text(tokens)
        return nn.functional.normalize(features.float(), dim=-1)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class ClipTeacher:
    """Two frozen towers that embed pictures and texts in one space.

    Attributes:
        name: As the user gave it.
        image: Pictures in [0, 1], [batch 3 side side], to embeddings of length 1.
        text: Tokens, [batch context], to embeddings of length 1.
        tokenise: Texts to tokens of the teacher's own context.
        tokeniser: What does that.
        scale: Factor of the cosines in the teacher's own softmax: one over its temperature.
        preprocessing: Of its pictures, which are square.
        n_dims: Of an embedding.
        n_tokens: In the vocabulary.
        digest: SHA-256 of weights and preprocessing.
    """

    name: str
    image: nn.Module
    text: nn.Module
    tokenise: Tokenise
    tokeniser: object
    scale: float
    preprocessing: Preprocessing
    n_dims: int
    n_tokens: int
    digest: str

    @property
    def side(self) -> int:
        """Of its pictures, in pixels."""
        return self.preprocessing.shape[1]

    @cached_property
    def padding(self) -> int:
        """The token that fills texts up."""
        return int(self.tokenise([""])[0, -1])

    def count_tokens(self, tokens: Int64[Tensor, "texts context"]) -> Int64[Tensor, " texts"]:
        """How long texts are without what fills them up, their end included.

        Args:
            tokens: As `tokenise` gives them.

        Returns:
            One at the least.
        """
        places = torch.arange(1, tokens.shape[1] + 1)
        inner = getattr(self.tokeniser, "tokenizer", None)  # of the package transformers
        is_end = int(getattr(inner, "eos_token_id", None) == self.padding)
        lengths = ((tokens != self.padding) * places).max(1).values + is_end
        return lengths.clamp(1, tokens.shape[1])

    def to(self, device: torch.device) -> "ClipTeacher":
        """Itself, on a device."""
        self.image.to(device)
        self.text.to(device)
        return self


def load_clip(name: str, *, weights: Path | None, pretrained: str | None) -> ClipTeacher:
    """A CLIP model, frozen.

    Args:
        name: `clip:NAME` of open_clip, or `python:module:function`, which returns a model and its
            tokeniser. Such a model has `encode_image`, `encode_text` and `logit_scale`; its
            `preprocess_cfg` says `size`, `mean` and `std`.
        weights: A checkpoint for `clip:NAME`.
        pretrained: A tag of weights that open_clip fetches for it.

    Returns:
        The teacher on the CPU.

    Raises:
        TeacherError: There is no such model, or it has no weights, or is not like CLIP.
    """
    kind, _, rest = name.partition(":")
    if kind == "clip" and rest:
        model, tokeniser = _load_open_clip(rest, weights=weights, pretrained=pretrained)
    elif kind == "python" and rest:
        if weights is not None or pretrained is not None:
            raise TeacherError(
                f"`--teacher-weights` must be left to {name}, which loads its own; leave it out"
            )
        model, tokeniser = _call(rest)
    else:
        raise TeacherError(f"`--teacher` must be {_FORMS}, got {name}")
    try:
        return _build(name, model, tokeniser)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise TeacherError(
            "`--teacher` must have two towers, encode_image and encode_text, logit_scale and "
            f"preprocess_cfg with size, mean and std, got {shorten(error)} from {name}"
        ) from error


def _load_open_clip(
    name: str, *, weights: Path | None, pretrained: str | None
) -> tuple[nn.Module, object]:
    """A model of open_clip with weights, and its tokeniser."""
    if find_spec("open_clip") is None:
        raise TeacherError(
            f"`--teacher` must be loadable, got clip:{name} without open_clip; install autokd[clip]"
        )
    import open_clip

    if weights is not None and not weights.is_file():
        raise TeacherError(f"`--teacher-weights` must be a file, got {weights}; there is none")
    if ":" not in name:
        _check_known(name, tag=pretrained, has_weights=weights is not None)
    elif weights is not None or pretrained is not None:
        raise TeacherError(
            f"`--teacher-weights` must be left out beside clip:{name}, which brings its own, got "
            f"{weights or pretrained}"
        )
    tag = {} if pretrained is None else open_clip.get_pretrained_cfg(name, pretrained) or {}
    try:
        model = open_clip.create_model(
            name,
            pretrained=pretrained if weights is None else str(weights),
            # Weights of OpenAI want another activation, of which open_clip only warns.
            force_quick_gelu=bool(tag.get("quick_gelu")),
            require_pretrained=True,
        )
        tokeniser = open_clip.get_tokenizer(name)
        size, mean, std = (open_clip.get_model_preprocess_cfg(model)[key] for key in _PREPROCESSING)
    except Exception as error:
        # Of the hub, of a checkpoint that does not fit, of a configuration.
        raise TeacherError(
            f"`--teacher` must be loadable, got {shorten(error)} from clip:{name}; pass "
            "--teacher-weights FILE where there is no network"
        ) from error
    cast(Any, model).preprocess_cfg = {"size": size, "mean": mean, "std": std}
    return model, tokeniser


def _check_known(name: str, *, tag: str | None, has_weights: bool) -> None:
    """A name and a tag of open_clip; a teacher without weights knows nothing."""
    import open_clip

    known = open_clip.list_models()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        remedy = f"did you mean {', '.join(near)}?" if near else "see open_clip.list_models()"
        raise TeacherError(f"`--teacher clip:{name}` must be a model of open_clip; {remedy}")
    tags = open_clip.list_pretrained_tags_by_model(name)
    shown = ", ".join(tags[:5]) or "none"
    if tag is not None and tag not in tags:
        raise TeacherError(f"`--teacher-pretrained` must be one of {shown}, got {tag}")
    if tag is None and not has_weights:
        raise TeacherError(
            f"`--teacher clip:{name}` must have weights, got none; pass --teacher-weights FILE or "
            f"--teacher-pretrained TAG ({shown})"
        )


def _call(name: str) -> tuple[nn.Module, object]:
    """What the user's function returns."""
    made = call_python(name)
    if not (isinstance(made, Sequence) and len(made) == 2 and isinstance(made[0], nn.Module)):
        raise TeacherError(
            f"`--teacher` must return a torch.nn.Module and its tokeniser, got "
            f"{type(made).__name__} from python:{name}"
        )
    return made[0], made[1]


def _build(name: str, model: nn.Module, tokeniser: object) -> ClipTeacher:
    """The teacher, once both towers have been tried."""
    prepared = _read_preprocessing(cast(Any, model).preprocess_cfg)
    model = model.cpu().float().eval().requires_grad_(requires_grad=False)
    image = _ImageTower(model, PreparedViews(prepared, view_shape=prepared.shape)).eval()
    text = _TextTower(model).eval()

    def tokenise(texts: Sequence[str]) -> Int64[Tensor, "texts context"]:
        return cast(Callable[[list[str]], Tensor], tokeniser)(list(texts)).long()

    with torch.no_grad():
        tokens = tokenise(["", "a picture"])
        pictures, texts = image(torch.zeros(2, *prepared.shape)), text(tokens)
    if pictures.ndim != 2 or pictures.shape != texts.shape:
        raise ValueError(f"embeddings of {tuple(pictures.shape)} and {tuple(texts.shape)}")
    parts = json.dumps([name, digest_weights(model), asdict(prepared), tokens.tolist()])
    return ClipTeacher(
        name=name,
        image=image,
        text=text,
        tokenise=tokenise,
        tokeniser=tokeniser,
        scale=float(torch.as_tensor(cast(Any, model).logit_scale).float().exp()),
        preprocessing=prepared,
        n_dims=pictures.shape[1],
        n_tokens=_count_tokens(model, tokeniser),
        digest=hashlib.sha256(parts.encode()).hexdigest(),
    )


def _read_preprocessing(own: Mapping[str, Any]) -> Preprocessing:
    """What is done to pictures, as open_clip says it."""
    size = own["size"]
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if sides[0] != sides[1]:
        raise ValueError(f"pictures that are not square: {sides}")
    return Preprocessing(
        shape=(3, int(sides[0]), int(sides[1])),
        mean=tuple(map(float, own["mean"])),
        std=tuple(map(float, own["std"])),
    )


def _count_tokens(model: nn.Module, tokeniser: object) -> int:
    """Entries of the vocabulary, as the tokeniser says, or else the largest embedding of words."""
    own = getattr(tokeniser, "vocab_size", None) or getattr(model, "vocab_size", None)
    if isinstance(own, int):
        return own
    tables = [m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)]
    return max(tables)
