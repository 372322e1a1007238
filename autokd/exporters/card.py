"""The card that lies beside an exported student, for people."""

from collections.abc import Mapping
from typing import Any

__all__ = ["render_card"]

_RUN = """```python
import numpy as np, onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("{file}")
picture = Image.open("picture.png").convert("{mode}").resize(({width}, {height}))
pixels = np.asarray(picture, np.float32).reshape({height}, {width}, {channels}) / 255
(logits,) = session.run(None, {{"image": pixels.transpose(2, 0, 1)[None]}})
print(int(logits.argmax()))
```"""


def render_card(card: Mapping[str, Any]) -> str:
    """Markdown of a card: what the student is, what it can do, how to run it.

    Args:
        card: As in `card.json`.

    Returns:
        The text, with a newline at its end.
    """
    channels, height, width = card["input"]["shape"][1:]
    mode = "L" if channels == 1 else "RGB"
    file = "model.onnx" if card.get("int8_test_accuracy") is None else "model.int8.onnx"
    run = _RUN.format(file=file, mode=mode, channels=channels, height=height, width=width)
    sections = [
        f"# {card.get('study', 'student')}, trial {card.get('trial', '?')}",
        _headline(card),
        "## What it does",
        _table(_figures(card)),
        "## Input",
        f"`image`: float32 (batch, {channels}, {height}, {width}), pixels in [0, 1]; the "
        "normalisation is inside the network. Output: `logits`, one per class.",
        "Classes: " + ", ".join(map(str, card["classes"])),
        "## How to run",
        run,
        "## Architecture",
        _table({key: str(value) for key, value in card.get("architecture", {}).items()}),
        "## Recipe",
        _table({key: str(value) for key, value in card.get("recipe", {}).items()}),
        "## How it was made",
        _table({key: str(value) for key, value in card.get("made_with", {}).items()}),
    ]
    return "\n\n".join(sections) + "\n"


def _headline(card: Mapping[str, Any]) -> str:
    """How the student came to be, in a sentence."""
    if card.get("is_twin"):
        return (
            "A student searched, trained and measured by autokd. It is the twin without the "
            "teacher, which was more accurate on validation than the distilled one."
        )
    return "A student searched, distilled and measured by autokd."


def _figures(card: Mapping[str, Any]) -> dict[str, str]:
    """The figures that are known, with their units."""
    rows: dict[str, str] = {
        "test accuracy, torch": f"{card['test_accuracy']:.2%}",
        "test accuracy, onnxruntime": f"{card['onnx_test_accuracy']:.2%}",
        "top-1 agreement of both": f"{card['top1_agreement']:.2%}",
        "latency, median": f"{card['latency_ms']:.4f} ms",
    }
    for key, label, form in (
        ("int8_test_accuracy", "test accuracy in INT8, onnxruntime", "{:.2%}"),
        ("fp32_latency_ms", "latency in FP32, median", "{:.4f} ms"),
        ("mean_test_accuracy", "test accuracy over seeds", "{:.2%}"),
        ("test_accuracy_ci95", "its 95 % interval, ±", "{:.2%}"),
        ("kd_gain", "gain by distillation", "{:+.2%}"),
        ("kd_gain_ci95", "its 95 % interval, ±", "{:.2%}"),
        ("n_seeds", "seeds", "{}"),
        ("speed_up", "faster than the teacher", "{:.1f} x"),
        ("n_params", "parameters", "{:,}"),
        ("macs", "multiply-accumulates", "{:,}"),
    ):
        if card.get(key) is not None:
            name = f"{label} ({key})" if label in rows else label
            rows[name] = form.format(card[key])
    return rows


def _table(rows: Mapping[str, str]) -> str:
    lines = ["| | |", "|---|---|"]
    return "\n".join([*lines, *(f"| {key} | {value} |" for key, value in rows.items())])
