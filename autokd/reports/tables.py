"""The front as a table for the terminal."""

from rich import box
from rich.table import Table

from autokd.reports.points import (
    NOTHING,
    build_accuracy,
    gain_of,
    is_quantized,
    is_tested,
    label_of,
    short_count,
    short_ms,
)
from autokd.types import Front, FrontStudent, TeacherCard

__all__ = ["front_table"]


def front_table(front: Front) -> Table:
    """The front, fastest student first, above the teacher and the plain baseline.

    Args:
        front: What a study has found.

    Returns:
        A table of at most 100 columns.
    """
    is_test = is_tested(front)
    table = Table(
        title=f"Front of {front.study}",
        caption=_caption(front, is_test=is_test),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
        title_style="bold",
        caption_style="dim",
    )
    table.add_column("trial", justify="right", no_wrap=True)
    for name in (
        "test accuracy %" if is_test else "val accuracy %",
        "gain by distillation",
        "latency ms",
        "speed-up",
        "parameters",
        *(["precision"] if (has_precision := is_quantized(front)) else []),
    ):
        longest = max(map(len, name.split()))  # of 80 columns none is too few for its words
        table.add_column(name, justify="right", min_width=longest)
    for student in front.students:
        precision = [student.recipe.precision] if has_precision else []
        table.add_row(f"#{student.trial}", *_cells(student, is_test=is_test), *precision)
    table.add_section()
    table.add_row("teacher", *_teacher_cells(front.teacher, is_test=is_test), style="yellow")
    if front.baseline is not None:
        cells = _cells(front.baseline, is_test=is_test)
        precision = [front.baseline.recipe.precision] if has_precision else []
        table.add_row("baseline", *cells, *precision, style="dim")
    return table


def _cells(student: FrontStudent, *, is_test: bool) -> tuple[str, ...]:
    accuracy = build_accuracy(student, is_test=is_test)
    return (
        NOTHING if accuracy is None else str(accuracy),
        gain_of(student) + (", twin" * student.is_twin),
        short_ms(student.latency_ms),
        f"{student.speed_up:.1f}x",
        short_count(student.n_params),
    )


def _teacher_cells(teacher: TeacherCard, *, is_test: bool) -> tuple[str, ...]:
    """The teacher is only known on the validation split; a table of the other says so."""
    accuracy = f"{100 * teacher.val_accuracy:.1f}" + (" (val)" if is_test else "")
    return accuracy, NOTHING, short_ms(teacher.latency_ms), "1.0x", short_count(teacher.n_params)


def _caption(front: Front, *, is_test: bool) -> str:
    """What the numbers mean."""
    if not front.students:
        return "no student yet"
    lines: list[str] = []
    if is_test:
        n_seeds = min(student.n_seeds for student in front.students)
        between = f"± is half of a 95 % interval over {n_seeds} seeds; " if n_seeds > 1 else ""
        lines.append(f"{between}test split read once")
    if is_quantized(front):
        lines.append(f"int8: quantized, scored and timed in the runtime, {_tell_speed(front)}")
    if any(student.is_twin for student in front.students):
        lines.append("twin: trained without the teacher, better on validation, kept in place of")
        lines.append("the distilled one, whose gain this is")
    if front.baseline is not None:
        is_twin = any(one.architecture == front.baseline.architecture for one in front.students)
        which = "the same" if is_twin and len(front.students) == 1 else "the default"
        lines.append(f"baseline: {which} student, trained without the teacher")
    return "\n".join(lines)


def _tell_speed(front: Front) -> str:
    """How INT8 students compare with their FP32 selves: one alone is shown however slow it is."""
    vain = [label_of(student) for student in front.students if student.is_vain]
    if len(vain) == sum(student.recipe.precision == "int8" for student in front.students):
        return "no faster than its FP32 self"
    return "faster than its FP32 self" + (f" but for {', '.join(vain)}" if vain else "")
