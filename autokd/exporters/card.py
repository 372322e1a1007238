"""The card that lies beside an exported student, for people."""

from collections.abc import Mapping
from typing import Any

__all__ = ["render_card"]

_RUN = """```python
import numpy as np, onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("{file}")
picture = Image.open("picture.png").convert("{mode}")
picture = ImageOps.fit(picture, ({width}, {height}), method=Image.Resampling.BILINEAR)
pixels = np.asarray(picture, np.float32).reshape({height}, {width}, {channels}) / 255
(logits,) = session.run(None, {{"image": pixels.transpose(2, 0, 1)[None]}})
print(int(logits.argmax()))
```

`run.py` beside this card does the same, for pictures of 16 bits and transparent ones, too."""


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
        f"# {card.get('study', 'student')}, {_which(card)}",
        _headline(card),
        "## What it does",
        _table(_figures(card)),
        *(f"Beware: {card[key]}." for key in ("elsewhere", "vain") if card.get(key)),
        *(f"`{name}` is left out: {why}." for name, why in card.get("left_out", {}).items()),
        *_pictured(card),
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
        *_making(card),
        "Exported with (a search tags its run in MLflow with what it trained with):",
        _table({key: str(value) for key, value in card.get("made_with", {}).items()}),
    ]
    return "\n\n".join(sections) + "\n"


_ALTS = {
    "front": "accuracy against latency of the study's students",
    "curves": "learning curves of the study's trials",
    "coordinates": "the trials of the study through all their dimensions to their objectives",
    "importance": "share of each dimension in the variance of accuracy and of latency",
    "looks": "Grad-CAM of teacher and student on validation pictures",
    "calibration": "reliability diagram",
    "confusion": "confusion matrix",
}


def _pictured(card: Mapping[str, Any]) -> list[str]:
    """What the pictures beside the card show; what there is no picture of, and why."""
    pictures, missing = card.get("pictures", {}), card.get("missing", {})
    sections: list[str] = []
    for title, whats, text in (
        ("Where it stands", ("front", "curves"), ""),
        ("What was searched", ("coordinates", "importance"), ""),
        ("Where it looks", ("looks",), _tell_looks(card)),
        ("How sure it is", ("calibration",), _tell_calibration(card)),
        ("What it mixes up", ("confusion",), _tell_confusions(card)),
    ):
        shown = [f"![{_ALTS[what]}]({pictures[what]})" for what in whats if what in pictures]
        lacking = [f"No picture: {missing[what]}." for what in whats if what in missing]
        if shown or lacking:
            told = [text] if shown and text else []
            sections += [f"## {title}", *told, *shown, *dict.fromkeys(lacking)]
    return sections


def _tell_looks(card: Mapping[str, Any]) -> str:
    """How alike student and teacher look."""
    mean, ends = card.get("cam_similarity"), card.get("cam_similarity_ci95")
    if mean is None:
        return ""
    between = "" if ends is None else f" (95 % interval {ends[0]:.2f} to {ends[1]:.2f})"
    shuffled = card.get("cam_similarity_shuffled")
    control = "" if shuffled is None else f"; of maps of different pictures it is {shuffled:.2f}"
    is_int8 = card.get("int8_test_accuracy") is not None
    whose = " The student's maps are those of its FP32 self." if is_int8 else ""
    return (
        "What in a picture speaks for the class that each of both chooses, by Grad-CAM "
        "([Selvaraju et al., 2017](https://arxiv.org/abs/1610.02391)), in validation pictures. "
        f"The correlation of the teacher's and the student's map is {mean:.2f}{between} over "
        f"{card['cam_similarity_n']} of them{control}.{whose}"
    )


def _tell_calibration(card: Mapping[str, Any]) -> str:
    """What its confidence is worth."""
    if card.get("ece") is None:
        return ""
    return (
        f"Its confidence and its accuracy are {card['ece']:.2%} apart (expected calibration error, "
        "[Guo et al., 2017](https://arxiv.org/abs/1706.04599)) on the test pictures."
    )


def _tell_confusions(card: Mapping[str, Any]) -> str:
    """The worst of them, as a list."""
    found = card.get("confusions", [])
    if not found:
        return "It mixes up none of the test pictures."
    lines = [
        f"- {one['class']} taken for {one['taken_for']}: {one['n']} test pictures, "
        f"{one['share']:.1%} of that class"
        for one in found
    ]
    return "\n".join(lines)


def _making(card: Mapping[str, Any]) -> list[str]:
    """The command, and what tells whether data and teacher are the same."""
    again = dict(card.get("made_again", {}))
    if not again:
        return []
    commands = [again.pop("command"), again.pop("export", None)]
    block = "\n".join(command for command in commands if command)
    labels = {"seed_of_weights": "seed of these weights"}
    rows: dict[str, str] = {
        labels.get(key) or key.replace("_", " "): str(value) for key, value in again.items()
    }
    return [f"```\n{block}\n```", _table(rows)]


def _which(card: Mapping[str, Any]) -> str:
    """The student among those of its study."""
    return f"site {card['site']}" if "site" in card else f"trial {card.get('trial', '?')}"


def _headline(card: Mapping[str, Any]) -> str:
    """How the student came to be, in a sentence."""
    if "site" in card:
        return (
            f"A student that site {card['site']} has trained on its own pictures and on what "
            f"{card['n_sites']} sites say of public ones, measured by autokd."
        )
    if card.get("is_twin"):
        return (
            "A student searched, trained and measured by autokd. It is the twin without the "
            "teacher, which was more accurate on validation than the distilled one."
        )
    how = "searched, " if card.get("is_searched", True) else ""
    how += "distilled" if card.get("is_distilled", True) else "trained without its teacher"
    return f"A student {how} and measured by autokd."


def _figures(card: Mapping[str, Any]) -> dict[str, str]:
    """The figures that are known, with their units; those of the file that is run come first."""
    int8, of_file, of_seeds = card.get("int8_test_accuracy"), "", ""
    first: dict[str, str] = {}
    if int8 is not None:
        of_file, of_seeds = ", of `model.onnx` in FP32", ", in INT8"
        first["test accuracy in INT8, onnxruntime"] = f"{int8:.2%}"
    is_gain_of_another = bool(card.get("is_twin"))
    has_gain = is_gain_of_another or card.get("is_distilled", True)
    rows: dict[str, str] = {
        **first,
        f"test accuracy, torch{of_file}": f"{card['test_accuracy']:.2%}",
        f"test accuracy, onnxruntime{of_file}": f"{card['onnx_test_accuracy']:.2%}",
        "top-1 agreement of both": f"{card['top1_agreement']:.2%}",
        f"latency of one forward pass{_tell_target(card)}": f"{card['latency_ms']:.4f} ms",
        **_tell_interval(card),
        **_tell_quantization(card),
    }
    for key, label, form in (
        ("fp32_latency_ms", "latency in FP32", "{:.4f} ms"),
        ("protocol", "how it was measured", "{}"),
        ("mean_test_accuracy", f"test accuracy over seeds{of_seeds}", "{:.2%}"),
        ("test_accuracy_ci95", "its 95 % interval, ±", "{:.2%}"),
        ("kd_gain", f"gain by distillation{', of the other one' * is_gain_of_another}", "{:+.2%}"),
        ("kd_gain_ci95", "its 95 % interval, ±", "{:.2%}"),
        ("alone_test_accuracy", "test accuracy, trained alone", "{:.2%}"),
        ("federated_gain", "gain by the other sites", "{:+.2%}"),
        ("n_seeds", "seeds", "{}"),
        ("searched_latency_ms", "latency in the study", "{:.4f} ms"),
        ("searched_speed_up", "faster than the teacher, in the study", "{:.1f} x"),
        ("n_params", "parameters", "{:,}"),
        ("macs", "multiply-accumulates", "{:,}"),
        ("teacher_agreement", "agreement with the teacher, test", "{:.2%}"),
        ("teacher_agreement_n", "over so many pictures", "{:,}"),
        ("teacher_test_accuracy", "the teacher's accuracy on them", "{:.2%}"),
        ("ece", "expected calibration error", "{:.2%}"),
        ("cam_similarity", "looks where the teacher looks, r", "{:.2f}"),
    ):
        if card.get(key) is not None and (has_gain or not key.startswith("kd_gain")):
            name = f"{label} ({key})" if label in rows else label
            rows[name] = form.format(card[key])
    return rows


def _tell_interval(card: Mapping[str, Any]) -> dict[str, str]:
    """How well the latency is known."""
    if "latency_ci95_ms" not in card:
        return {}
    low, high = card["latency_ci95_ms"]
    noisy = "; the machine was too noisy" if card.get("is_noisy") else ""
    return {"95 % interval of the latency": f"{low:.4f} to {high:.4f} ms{noisy}"}


def _tell_quantization(card: Mapping[str, Any]) -> dict[str, str]:
    """How the INT8 file came about; nothing where there is none."""
    if "is_aware" not in card:
        return {}
    layers = card["float_layers"]
    shown = f", {', '.join(layers)} left in FP32" if layers else ", no layer left in FP32"
    how = "trained on to bear it" if card["is_aware"] else "static, from training pictures"
    return {"how it was quantized": f"{how}{shown}"}


def _tell_target(card: Mapping[str, Any]) -> str:
    """Which of several targets a latency is of."""
    return f", on `{card['target']}`" if card.get("target") else ""


def _table(rows: Mapping[str, str]) -> str:
    lines = ["| | |", "|---|---|"]
    cells = ([cell.replace("|", "\\|") for cell in row] for row in rows.items())
    return "\n".join([*lines, *(f"| {key} | {value} |" for key, value in cells)])
