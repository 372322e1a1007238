"""The front as a page to point at."""

import html
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autokd.reports.pictures import BASELINE, FRONT, QUIET, TEACHER
from autokd.reports.points import (
    NOTHING,
    Point,
    build_accuracy,
    gain_of,
    is_tested,
    label_of,
    latency_errors,
    of_validation,
    short_count,
    short_ms,
    shown_students,
    split_name,
    summary,
)
from autokd.types import Front, FrontStudent

__all__ = ["draw_page"]


def draw_page(front: Front, *, trials: Mapping[int, Point], file: Path) -> Path:
    """Write the front as a page that needs no network and tells all of a student.

    Args:
        front: What a study has found.
        trials: Number of a trial to its latency in ms and its accuracy in per cent.
        file: Where it goes.

    Returns:
        The file.
    """
    from plotly.graph_objects import Figure

    traces = [_trials_trace(front, trials=trials), _front_trace(front), _teacher_trace(front)]
    if front.baseline is not None:
        traces.append(_baseline_trace(front, baseline=front.baseline))
    page: Any = Figure(traces)
    page.update_layout(
        title={"text": f"Front of {front.study}", "subtitle": {"text": summary(front)}},
        template="plotly_white",
        legend={"orientation": "h", "y": -0.18},
        hoverlabel={"align": "left"},
        xaxis={"title": "Latency of one forward pass in ms", "type": "log"},
        yaxis={"title": f"{split_name(front)} accuracy in %"},
    )
    page.update_xaxes(tickvals=_plain_ticks(), ticktext=[f"{tick:g}" for tick in _plain_ticks()])
    page.write_html(str(file), include_plotlyjs=True, full_html=True)
    return file


def _plain_ticks() -> list[float]:
    """One, two and five of each decade from a microsecond to a quarter of an hour, in ms."""
    return [round(step * 10.0**decade, 9) for decade in range(-3, 6) for step in (1, 2, 5)]


def _trials_trace(front: Front, *, trials: Mapping[int, Point]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"trials{of_validation(front)}",
        "x": [latency for latency, _ in trials.values()],
        "y": [accuracy for _, accuracy in trials.values()],
        "hovertext": [
            f"trial {trial}<br>validation accuracy {accuracy:.1f} %<br>{short_ms(latency)} ms"
            for trial, (latency, accuracy) in trials.items()
        ],
        "hoverinfo": "text",
        "marker": {"color": QUIET, "size": 6},
    }


def _front_trace(front: Front) -> dict[str, Any]:
    shown = shown_students(front)
    below, above = latency_errors([student for student, _ in shown])
    return {
        "type": "scatter",
        "mode": "lines+markers+text",
        "name": "front",
        "x": [student.latency_ms for student, _ in shown],
        "y": [accuracy.percent for _, accuracy in shown],
        "error_y": {"type": "data", "array": [accuracy.ci95 or 0.0 for _, accuracy in shown]},
        "error_x": {"type": "data", "symmetric": False, "array": above, "arrayminus": below},
        "text": [label_of(student) for student, _ in shown],
        "textposition": "top left",
        "hovertext": [_hover(front, student=student) for student, _ in shown],
        "hoverinfo": "text",
        "line": {"color": FRONT},
        "marker": {"size": 10},
    }


def _teacher_trace(front: Front) -> dict[str, Any]:
    teacher = front.teacher
    facts = (
        f"<b>teacher {html.escape(teacher.name)}</b>",
        f"validation accuracy {100 * teacher.val_accuracy:.1f} %",
        f"{short_ms(teacher.latency_ms)} ms, {short_count(teacher.n_params)} parameters",
    )
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"teacher{of_validation(front)}",
        "x": [teacher.latency_ms],
        "y": [100 * teacher.val_accuracy],
        "hovertext": ["<br>".join(facts)],
        "hoverinfo": "text",
        "marker": {"symbol": "star", "size": 18, "color": TEACHER},
    }


def _baseline_trace(front: Front, *, baseline: FrontStudent) -> dict[str, Any]:
    accuracy = build_accuracy(baseline, is_test=is_tested(front))
    below, above = latency_errors([baseline])
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "no distillation",
        "x": [baseline.latency_ms],
        "y": [100 * baseline.val_accuracy if accuracy is None else accuracy.percent],
        "error_y": {"type": "data", "array": [(accuracy and accuracy.ci95) or 0.0]},
        "error_x": {"type": "data", "symmetric": False, "array": above, "arrayminus": below},
        "hovertext": [_hover(front, student=baseline)],
        "hoverinfo": "text",
        "marker": {"symbol": "square-open", "size": 12, "color": BASELINE, "line": {"width": 2}},
    }


def _hover(front: Front, *, student: FrontStudent) -> str:
    """All that is known of a student, in a dozen lines."""
    accuracy = build_accuracy(student, is_test=is_tested(front))
    low, high = (short_ms(end) for end in student.latency_ci95_ms)
    lines = [f"<b>trial {student.trial}</b>"]
    if accuracy is not None:
        lines.append(f"{split_name(front).lower()} accuracy {accuracy} %")
    if (gain := gain_of(student)) != NOTHING:
        kept = ": the twin without it was kept" if student.is_twin else ""
        lines.append(f"gain by distillation {gain} points{kept}")
    lines += [
        f"{short_ms(student.latency_ms)} ms [{low}, {high}], {student.speed_up:.1f}x",
        *(
            [f"in INT8; in FP32 {short_ms(student.fp32_latency_ms)} ms"]
            if student.fp32_latency_ms is not None
            else []
        ),
        f"{short_count(student.n_params)} parameters, {short_count(student.macs)} MACs",
        "",
        "<b>architecture</b>",
        *_facts(student.architecture),
        "<b>recipe</b>",
        *_facts(asdict(student.recipe)),
    ]
    return "<br>".join(lines)


def _facts(values: dict[str, Any]) -> list[str]:
    """Three to a line; a large space is cut short, a page's box is only so high."""
    facts = [html.escape(f"{name} {_short(value)}") for name, value in list(values.items())[:36]]
    facts += ["…"] if len(values) > 36 else []
    return [", ".join(facts[start : start + 3]) for start in range(0, len(facts), 3)]


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
