"""The folder of a dual tower: two ONNX files, a tokeniser, a program, a card; all of it checked."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from autokd.errors import ConfigError, ExportError
from autokd.exporters.onnx_file import OnnxNetwork, annotate_onnx, export_onnx, export_onnx_text
from autokd.exporters.tokeniser_file import write_tokeniser
from autokd.exporters.weights_file import dump_weights
from autokd.types import pin_packages

__all__ = ["export_towers", "write_tower_files"]

_LEAST_COSINE = 0.9999  # of the embedding in torch and that in the runtime

_SOME = 256  # texts that are embedded in the runtime, too
_NAMES = ("student", "twin", "teacher")

_PROGRAM = '''"""Which text fits a picture: python run.py picture.png "a dog" "a cat" """

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps
from tokenizers import Tokenizer

if len(sys.argv) < 3:
    sys.exit(__doc__)
here = Path(__file__).parent
image, text = (
    onnxruntime.InferenceSession(str(here / name), providers=["CPUExecutionProvider"])
    for name in ("image.onnx", "text.onnx")
)
side = image.get_inputs()[0].shape[2]
facts = image.get_modelmeta().custom_metadata_map
context, padding = int(facts["context"]), int(facts["padding"])

try:
    picture = ImageOps.exif_transpose(Image.open(sys.argv[1]))  # upright
except OSError as error:
    sys.exit(f"picture must be a file that Pillow reads, got {error}")
if picture.mode.startswith("I"):  # 16 bits
    picture = Image.fromarray((np.asarray(picture).clip(0, 65535) // 256).astype(np.uint8))
elif picture.mode == "F":  # in [0, 1] or in 0..255
    light = np.nan_to_num(np.asarray(picture))
    light = light * 255 if light.max() <= 1 else light
    picture = Image.fromarray(light.clip(0, 255).round().astype(np.uint8))
if picture.has_transparency_data:  # upon white
    white = Image.new("RGBA", picture.size, "white")
    picture = Image.alpha_composite(white, picture.convert("RGBA"))
picture = ImageOps.fit(picture.convert("RGB"), (side, side), method=Image.Resampling.BILINEAR)
pixels = np.asarray(picture, np.float32).transpose(2, 0, 1)[None] / 255

tokeniser = Tokenizer.from_file(str(here / "tokenizer.json"))
texts = sys.argv[2:]
rows = [tokeniser.encode(each).ids for each in texts]
rows = [row if len(row) <= context else [*row[: context - 1], row[-1]] for row in rows]
tokens = np.array([row + [padding] * (context - len(row)) for row in rows], np.int64)

(pictures,), (words,) = image.run(None, {"image": pixels}), text.run(None, {"tokens": tokens})
logits = float(facts["scale"]) * (words @ pictures[0])
odds = np.exp(logits - logits.max())
odds /= odds.sum()
for place in np.argsort(-odds):
    print(f"{odds[place]:.4f} {texts[place]}")
'''


def write_tower_files(
    image: nn.Module, text: nn.Module, folder: Path, *, side: int, context: int
) -> tuple[Path, Path]:
    """Both towers as ONNX, for timing or for good.

    Args:
        image: Pictures in [0, 1] to embeddings; left in evaluation mode, on the CPU.
        text: Tokens to embeddings; likewise.
        folder: Where `image.onnx` and `text.onnx` go.
        side: Of the pictures, in pixels.
        context: Tokens of a text.

    Returns:
        Both files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    image_file = export_onnx(
        image, folder / "image.onnx", shape=(3, side, side), output="embedding"
    )
    return image_file, export_onnx_text(text, folder / "text.onnx", context=context)


def export_towers(
    towers: nn.Module,
    out: Path,
    *,
    card: Mapping[str, Any],
    examples: tuple[UInt8[Tensor, "n c h w"], Int64[Tensor, "m context"], Sequence[str]],
    tokeniser: object,
    extras: Sequence[Path] = (),
) -> tuple[Path, ...]:
    """Writes `image.onnx`, `text.onnx`, `tokenizer.json`, `run.py` and cards, and checks them.

    Everything is written beside the folder first and moved when it has passed.

    Args:
        towers: With `image`, `text` and `scale`.
        out: The folder; made if missing.
        card: What the card tells; its `side`, `context`, `padding` and `scale` are needed to run.
        examples: Pictures, tokens, and the texts that the tokens are of.
        tokeniser: The teacher's; one that is not known leaves `tokenizer.json` and `run.py` out.
        extras: Files that lie beside them.

    Returns:
        The files.

    Raises:
        ConfigError: The folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".export-", dir=out))
    except OSError as error:
        raise ConfigError(f"`--out` must be a folder to write to, got {out}: {error}") from error
    image: Any = towers.image
    text: Any = towers.text
    try:
        write_tower_files(image, text, scratch, side=card["side"], context=card["context"])
        facts = {key: str(card[key]) for key in ("context", "padding", "scale")}
        for name in ("image.onnx", "text.onnx"):
            annotate_onnx(scratch / name, scratch / name, metadata=facts)
        pictures, tokens, texts = examples
        found = _check(image, text, scratch, pictures=pictures, tokens=tokens[:_SOME])
        (scratch / "model.safetensors").write_bytes(dump_weights(towers))
        left_out = write_tokeniser(
            tokeniser, scratch / "tokenizer.json", texts=texts, tokens=tokens, card=card
        )
        if not left_out:
            (scratch / "run.py").write_text(_PROGRAM, encoding="utf-8")
            (scratch / "requirements.txt").write_text(_requirements(), encoding="utf-8")
        for file in extras:
            shutil.copy(file, scratch)
        full = {**card, **found, "left_out": left_out}
        (scratch / "card.json").write_text(json.dumps(full, indent=2, default=str) + "\n")
        (scratch / "card.md").write_text(_render(full, extras=extras), encoding="utf-8")
        names = sorted(path.name for path in scratch.iterdir())
        for name in names:
            (scratch / name).replace(out / name)
        for name in {"tokenizer.json", "run.py", "requirements.txt"}.difference(names):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"`--out` must have room for the towers, got {out}: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return tuple(out / name for name in names)


def _check(
    image: nn.Module, text: nn.Module, folder: Path, *, pictures: Tensor, tokens: Tensor
) -> dict[str, float]:
    """How far the files are from the towers, as cosines.

    Args:
        image: The tower.
        text: The tower.
        folder: Of the files.
        pictures: Pixels in 0..255.
        tokens: Of texts.

    Returns:
        The lowest cosine of each.

    Raises:
        ExportError: One of them is too low.
    """
    with torch.no_grad():
        ours = {"image": image(pictures.float() / 255), "text": text(tokens)}
    theirs = {
        "image": OnnxNetwork(folder / "image.onnx").predict(pictures),
        "text": OnnxNetwork(folder / "text.onnx").embed(tokens),
    }
    found = {f"{name}_cosine": float((ours[name] * theirs[name]).sum(1).min()) for name in ours}
    for name, cosine in found.items():
        if not cosine >= _LEAST_COSINE:
            raise ExportError(
                f"{name.removesuffix('_cosine')}.onnx must embed as the tower does, to a cosine of "
                f"{_LEAST_COSINE}, got {cosine:.5f}; nothing was written"
            )
    return found


def _requirements() -> str:
    lines = pin_packages(("onnxruntime", "numpy", "pillow", "tokenizers"))
    return "\n".join(lines) + "\n"


def _render(card: Mapping[str, Any], *, extras: Sequence[Path]) -> str:
    """Markdown of the card."""
    program = (
        '`python run.py picture.png "a dog" "a cat"` says which text fits; it needs what stands '
        "in `requirements.txt`."
        if not card["left_out"]
        else f"No `run.py`: {card['left_out']}."
    )
    sections = [
        f"# {card['study']}: a dual tower taught by {card['teacher']}",
        "Both towers give embeddings of length 1: the dot product is the cosine, and times "
        f"{card['scale']:.4g} the logit.",
        f"## What it does\n\n{_tabulate(card['figures'])}",
        *(f"![{file.stem}]({file.name})" for file in extras if file.suffix == ".png"),
        f"## Input\n\n`image.onnx`: `image`, float32 (batch, 3, {card['side']}, {card['side']}), "
        "pixels in [0, 1]; the normalisation is inside. `text.onnx`: `tokens`, int64 (batch, "
        f"{card['context']}), filled up with {card['padding']}.",
        f"## How to run\n\n{program}",
        "## How it was made\n\n```json\n"
        + json.dumps(card["settings"], indent=1, default=str)
        + "\n```",
    ]
    return "\n\n".join(sections) + "\n"


def _tabulate(figures: Mapping[str, float]) -> str:
    """A column for each of student, twin and teacher, and what is left below."""
    names = [name for name in _NAMES if any(key.startswith(f"{name}_") for key in figures)]
    kinds = [key.removeprefix("student_") for key in figures if key.startswith("student_")]
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for kind in kinds:
        cells = [_show(figures.get(f"{name}_{kind}")) for name in names]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    rest = [key for key in figures if not key.startswith(tuple(f"{name}_" for name in _NAMES))]
    return "\n".join([*lines, "", *(f"{key}: {_show(figures[key])}  " for key in rest)])


def _show(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
