"""The program that lies beside an exported student and runs it, without autokd or torch."""

from pathlib import Path

from autokd.types import pin_packages

__all__ = ["write_runner"]

_PROGRAM = '''"""What is on a picture: python run.py picture.png [MODEL]"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
    sys.exit(__doc__)
model = sys.argv[2] if len(sys.argv) > 2 else Path(__file__).with_name("MODEL")
session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
_, channels, height, width = session.get_inputs()[0].shape

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
picture = picture.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
if picture.size != (width, height):
    picture = ImageOps.fit(picture, (width, height), method=Image.Resampling.BILINEAR)
pixels = np.asarray(picture, np.float32).reshape(height, width, channels) / 255

(logits,) = session.run(None, {"image": pixels.transpose(2, 0, 1)[None]})
odds = np.exp(logits[0] - logits[0].max())
odds /= odds.sum()
best = int(odds.argmax())
print(f"{classes[best]} {odds[best]:.4f}")
'''

_PACKAGES = ("onnxruntime", "numpy", "pillow")


def write_runner(folder: Path, *, model: str = "model.onnx") -> tuple[Path, Path]:
    """Writes `run.py`, which classifies a picture, and what it needs.

    Args:
        folder: Of the exported student.
        model: Name of the file beside it that is run, unless another is named.

    Returns:
        `run.py` and its `requirements.txt`.
    """
    program, needs = folder / "run.py", folder / "requirements.txt"
    program.write_text(_PROGRAM.replace("MODEL", model), encoding="utf-8")
    needs.write_text("\n".join(pin_packages(_PACKAGES)) + "\n", encoding="utf-8")
    return program, needs
