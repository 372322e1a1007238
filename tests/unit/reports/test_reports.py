"""What is drawn and printed of a front."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from matplotlib.text import Text
from PIL import Image
from rich.console import Console

from autokd.reports import draw_curves, draw_front, front_table
from autokd.reports.pictures import build_axes, place_labels
from autokd.reports.points import label_of, short_count, short_ms, signed_points
from autokd.types import Recipe
from tests.unit.reports.fake_study import build_front, build_results


@pytest.fixture
def front():
    return build_front()


@pytest.fixture
def results(front):
    return build_results(front)


def printed(front, width=100):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(front_table(front))
    return console.export_text()


def row(text, name):
    (line,) = [line for line in text.splitlines() if line.split()[:1] == [name]]
    return line.split()


def test_the_picture_is_sixteen_to_ten_at_150_dpi(front, results, tmp_path):
    png, page = draw_front(front, results=results, folder=tmp_path / "new")
    assert (png.name, page.name) == ("front.png", "front.html")
    with Image.open(png) as image:
        assert image.size == (1440, 900)
        assert round(image.info["dpi"][0]) == 150
        assert len(image.convert("RGB").getcolors(1 << 20)) > 50


def test_a_picture_can_be_drawn_of_nothing(front, tmp_path):
    empty = replace(front, students=(), baseline=None)
    for file in draw_front(empty, results=[], folder=tmp_path):
        assert file.stat().st_size > 1000
    assert draw_curves([], folder=tmp_path).stat().st_size > 1000


def test_the_page_needs_no_network_and_tells_all_of_a_student(front, results, tmp_path):
    _, page = draw_front(front, results=results, folder=tmp_path)
    text = page.read_text()
    assert not re.search(r"<script[^>]+src=", text)
    for fact in (
        "trial 45",
        "gain by distillation +1.2",
        "4.7x",
        "1.02M parameters",
        "depth 3",
        "alpha 0.7",
        "act relu&lt;6&gt;",
        "Test accuracy in %",
    ):
        assert fact in text, fact


def test_the_page_of_a_search_without_refit_shows_validation(results, tmp_path):
    _, page = draw_front(build_front(is_refitted=False), results=results, folder=tmp_path)
    assert "Validation accuracy in %" in page.read_text()


def test_drawing_leaves_no_figure_in_pyplot(front, results, tmp_path):
    from matplotlib import pyplot as plt

    draw_front(front, results=results, folder=tmp_path)
    draw_curves(results, folder=tmp_path, front=front)
    assert plt.get_fignums() == []


def test_the_curves_are_drawn(front, results, tmp_path):
    with Image.open(draw_curves(results, folder=tmp_path, front=front)) as image:
        assert image.size == (1440, 900)


def test_labels_of_close_points_do_not_overlap():
    figure, axes = build_axes("t")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    figure.draw_without_rendering()
    points = [(0.5, 0.5, "#1"), (0.505, 0.505, "#22"), (0.51, 0.51, "#333")]
    place_labels(axes, labels=points, color="black")
    figure.draw_without_rendering()
    texts = [text for text in axes.texts if text.get_text().startswith("#")]
    boxes = [Text.get_window_extent(text) for text in texts]  # without the leaders
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])


def test_the_table_fits_a_hundred_columns(front):
    lines = printed(front).splitlines()
    assert max(map(len, lines)) <= 100
    shown = " ".join(row(printed(front), "#3")[1:])
    assert shown == "73.6 ± 0.5 +1.2 ± 0.5 0.113 60.2x 79.1k"


def test_teacher_and_baseline_stand_below_the_front(front):
    text = printed(front)
    assert text.index("#45") < text.index("teacher ") < text.index("baseline ")
    assert row(text, "teacher")[1:3] == ["94.1", "(val)"]
    assert "over 3 seeds" in text


def test_the_table_of_a_search_without_refit_says_validation():
    text = printed(build_front(is_refitted=False))
    assert "val accuracy %" in text
    assert row(text, "#3")[1:3] == ["74.2", "–"]  # noqa: RUF001
    assert "(val)" not in text


def test_an_empty_front_says_so(front):
    assert "no student yet" in printed(replace(front, students=(), baseline=None))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (950, "950"),
        (999_499, "999k"),
        (999_500, "1M"),
        (12_345, "12.3k"),
        (4_560_000, "4.56M"),
        (7_000_000_000, "7G"),
        (None, "–"),  # noqa: RUF001
    ],
)
def test_counts_are_short(number, text):
    assert short_count(number) == text


def test_latencies_and_gains_are_short():
    shown = [short_ms(ms) for ms in (0.1134, 1.4, 12.0, 120.4, 1234.0)]
    assert shown == ["0.113", "1.40", "12.0", "120", "1234"]
    assert signed_points(-0.0123, ci95=0.004) == "-1.2 ± 0.4"
    assert signed_points(None, ci95=None) == "–"  # noqa: RUF001


def test_importing_the_room_does_not_import_the_drawing_libraries():
    code = "import sys, autokd.reports; sys.exit(bool({'matplotlib', 'plotly'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_twin_that_was_kept_is_called_one():
    front = build_front()
    twin = replace(front.students[2], is_twin=True, kd_gain=-0.013)
    text = printed(replace(front, students=(*front.students[:2], twin, *front.students[3:])))
    assert "-1.3 ± 0.5, twin" in text
    assert "better on validation, kept in place of" in text
    assert "twin" not in printed(front)


def test_who_was_not_distilled_has_no_gain():
    front = build_front()
    plain = replace(front.students[2], recipe=Recipe(alpha=0.0, alpha_end=0.0), kd_gain=0.0)
    text = printed(replace(front, students=(*front.students[:2], plain, *front.students[3:])))
    assert "+0.0" not in text
    assert "gain by distillation" in text


def test_precision_is_told_where_a_student_is_in_int8():
    front = build_front()
    student = front.students[2]
    quantized = replace(
        student, recipe=replace(student.recipe, precision="int8"), fp32_latency_ms=0.2
    )
    text = printed(replace(front, students=(*front.students[:2], quantized, *front.students[3:])))
    assert max(map(len, text.splitlines())) <= 100
    assert row(text, f"#{student.trial}")[-1] == "int8"
    assert row(text, "#3")[-1] == row(text, "baseline")[-1] == "fp32"
    assert "faster than its FP32 self" in text
    narrow = printed(replace(front, students=(*front.students[:2], quantized)), width=80)
    assert max(map(len, narrow.splitlines())) <= 80
    assert "…" not in narrow
    assert "distillation  latency ms  speed-up  parameters  precision" in narrow
    assert "but for" not in text
    vain = replace(quantized, fp32_latency_ms=quantized.latency_ms)
    assert "runtime, no faster than its FP32 self" in printed(replace(front, students=(vain,)))
    other = replace(quantized, trial=16)
    text = printed(replace(front, students=(vain, other)))
    assert "runtime, faster than its FP32 self but for #15 int8" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100
    assert "precision" not in printed(front)
    assert (label_of(quantized), label_of(student)) == ("#15 int8", "#15")
