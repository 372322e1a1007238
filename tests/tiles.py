"""Coloured tiles with captions, and a CLIP that knows colours without having been trained."""

import json
from pathlib import Path

import torch
from PIL import Image
from torch import nn

__all__ = ["COLOURS", "load", "write_open_clip", "write_pairs"]

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 30),
    "blue": (30, 30, 220),
    "yellow": (220, 210, 30),
    "cyan": (30, 210, 210),
    "magenta": (210, 30, 210),
    "grey": (120, 120, 120),
    "white": (240, 240, 240),
}
_WORDS = ["", "a", "photo", "of", ".", "tile", "dark", *COLOURS]
_SIDE, _CONTEXT, _SCALE = 8, 8, 20.0


def write_pairs(folder: Path, *, n: int = 96) -> Path:
    """Tiles, every other one dark, with captions that say so; and a folder a colour."""
    generator = torch.Generator().manual_seed(0)
    lines = ["image,caption"]
    for number in range(n):
        name = list(COLOURS)[number % len(COLOURS)]
        is_dark = (number // len(COLOURS)) % 2 == 1
        noise = torch.randint(-12, 13, (_SIDE, _SIDE, 3), generator=generator)
        pixels = torch.tensor(COLOURS[name]) * (0.5 if is_dark else 1.0) + noise
        image = Image.fromarray(pixels.clamp(0, 255).to(torch.uint8).numpy())
        image.save(folder / f"{number}.png")
        lines.append(f"{number}.png,a {'dark ' if is_dark else ''}{name} tile")
        if not is_dark:
            (folder / "named" / name).mkdir(parents=True, exist_ok=True)
            image.save(folder / "named" / name / f"{number}.png")
    file = folder / "tiles.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


class _Clip(nn.Module):
    """The mean colour of a picture; the sum of what words stand for."""

    def __init__(self):
        super().__init__()
        rows = [
            *([[0.0] * 3] * 6),
            [-0.5] * 3,  # dark
            *([value / 255 - 0.45 for value in colour] for colour in COLOURS.values()),
        ]
        self.words = nn.Embedding.from_pretrained(torch.tensor(rows))
        self.logit_scale = nn.Parameter(torch.tensor(_SCALE).log())
        self.preprocess_cfg = {"size": _SIDE, "mean": [0.45] * 3, "std": [1.0] * 3}

    def encode_image(self, pictures):
        return self._widen(pictures.mean((2, 3)))

    def encode_text(self, tokens):
        return self._widen(self.words(tokens).sum(1))

    def _widen(self, rows):
        """A length beside the direction, so that dark can be told from light."""
        return torch.cat([rows, rows.pow(2).sum(1, keepdim=True), 0.2 + 0 * rows[:, :1]], dim=1)


def _tokenise(texts):
    rows = []
    for text in texts:
        words = text.replace(".", " .").split()
        row = [_WORDS.index(word) if word in _WORDS else 0 for word in words][:_CONTEXT]
        rows.append(row + [0] * (_CONTEXT - len(row)))
    return torch.tensor(rows)


def load():
    """The model and its tokeniser, as `--teacher python:tests.tiles:load` wants them."""
    return _Clip(), _tokenise


_TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def write_open_clip(folder: Path) -> nn.Module:
    """A small model of open_clip that knows nothing, in a folder as its hub has them."""
    import open_clip

    config = {"model_cfg": _TINY, "preprocess_cfg": {"mean": [0.4] * 3, "std": [0.3] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    vision, text = _TINY["vision_cfg"], _TINY["text_cfg"]
    model = open_clip.model.CLIP(
        16, open_clip.CLIPVisionCfg(**vision), open_clip.CLIPTextCfg(**text)
    )
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return model
