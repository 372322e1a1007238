"""The tokeniser of CLIP as one file, for programs that have neither torch nor open_clip."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Int64
from torch import Tensor

__all__ = ["write_tokeniser"]

_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_START, _END = "<start_of_text>", "<end_of_text>"


def write_tokeniser(
    tokeniser: object,
    path: Path,
    *,
    texts: Sequence[str],
    tokens: Int64[Tensor, "texts context"],
    card: Mapping[str, Any],
) -> str:
    """Writes `tokenizer.json`, which the package tokenizers reads, if it does what it should.

    Args:
        tokeniser: CLIP's own, with `encoder` and `bpe_ranks`, or one of the package transformers.
        path: The file.
        texts: Any, to check it with.
        tokens: What must come of them.
        card: Its `context` and `padding`.

    Returns:
        Why there is none; nothing where it was written.
    """
    if find_spec("tokenizers") is None:
        return "the package tokenizers is not installed"
    inner = getattr(getattr(tokeniser, "tokenizer", None), "backend_tokenizer", None)
    if hasattr(tokeniser, "encoder") and hasattr(tokeniser, "bpe_ranks"):
        inner = _convert(tokeniser)
    if inner is None:
        return f"a tokeniser of the kind {type(tokeniser).__name__} is not known"
    inner.no_padding()
    inner.no_truncation()
    found = [fit_tokens(inner.encode(text).ids, **_sizes(card)) for text in texts]
    wrong = (torch.tensor(found) != tokens).any(1).nonzero().flatten().tolist()
    if wrong:
        return (
            f"tokenizer.json would read {len(wrong)} of {len(texts)} texts in another way, "
            f"the first being {texts[wrong[0]]!r}"
        )
    inner.save(str(path))
    return ""


def _sizes(card: Mapping[str, Any]) -> dict[str, int]:
    return {"context": int(card["context"]), "padding": int(card["padding"])}


def fit_tokens(row: list[int], *, context: int, padding: int) -> list[int]:
    """Tokens in a context: filled up, or cut with the last one kept.

    Args:
        row: Of a text.
        context: How many there are to be.
        padding: The token that fills up.

    Returns:
        `context` of them.
    """
    if len(row) > context:
        return [*row[: context - 1], row[-1]]
    return row + [padding] * (context - len(row))


def _convert(tokeniser: object) -> Any:  # noqa: ANN401 - of the package tokenizers
    """CLIP's byte pairs, in the form that the package tokenizers has for them."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    own = cast(Any, tokeniser)
    vocabulary: dict[str, int] = own.encoder
    start, end = (
        next(name for name in names if name in vocabulary)
        for names in ((_START, "<|startoftext|>"), (_END, "<|endoftext|>"))
    )
    inner = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=list(own.bpe_ranks),
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            unk_token=end,
        )
    )
    inner.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
            normalizers.Lowercase(),
        ]
    )
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        special_tokens=[(start, vocabulary[start]), (end, vocabulary[end])],
    )
    return inner
