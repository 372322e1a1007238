"""Candidates on devices that fail, on tables, and on several devices at once."""

import csv
import dataclasses
import sys

import pytest
import torch

from autokd.candidate import (
    CheckpointFolder,
    KnownTeacher,
    StudentSurveyor,
    Workshop,
    prepare_candidate,
    screen_candidate,
    settle_latency,
)
from autokd.config import Config
from autokd.data import load_data
from autokd.distillation import Plan
from autokd.errors import ExportError, MeasureError, TargetError
from autokd.latency import CommandTarget, StrictTarget, load_table
from autokd.spaces import build_space
from autokd.testing import FakeTarget

TINY = {"depth_1": 1, "depth_2": 1, "depth_3": 1, "width_1": 8, "width_2": 16, "width_3": 32,
        "alpha": 0.0}  # fmt: skip
INT8 = {**TINY, "precision": "int8"}


class NamedTarget:
    """A device that knows an INT8 file by its name."""

    needs_program = False

    def __init__(self, fp32_ms, int8_ms, device="fake"):
        self.times, self.device, self.measured = (fp32_ms, int8_ms), device, []

    def measure(self, model):
        return self.measure_together([model])[0]

    def measure_together(self, models):
        self.measured.append([model.name for model in models])
        return [
            dataclasses.replace(
                FakeTarget().measure(model), median_ms=self.times["int8" in model.name],
                device=self.device,
            )
            for model in models
        ]  # fmt: skip


class Broken(NamedTarget):
    """A device that runs nothing in INT8."""

    def measure_together(self, models):
        if any("int8" in model.name for model in models):
            raise MeasureError("no such operator: DequantizeLinear")
        return super().measure_together(models)


class Unplugged(NamedTarget):
    """A device that runs nothing any more."""

    def measure(self, model):
        raise MeasureError(f"nobody answers about {model.name}")

    def measure_together(self, models):
        return [self.measure(model) for model in models]


@pytest.fixture(scope="module")
def data():
    return load_data(Config(train_limit=400))


@pytest.fixture(scope="module")
def space():
    return build_space(
        "mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10, precision="both"
    )


@pytest.fixture
def open_workshop(data, space, tmp_path):
    def open_workshop(target, **others):
        return Workshop(
            space=space,
            data=data,
            teachers={"teacher": KnownTeacher(network=torch.nn.Identity())},
            target=target,
            others=others,
            plan=Plan(epochs=1, batch_size=32, seed=0, device=torch.device("cpu")),
            max_latency_ms=None,
            weights=tmp_path / "weights",
            checkpoints=CheckpointFolder(tmp_path / "checkpoints", limit_bytes=2**30),
        )

    return open_workshop


# ---------------------------------------------------------------------- several devices


def test_each_further_target_times_the_file(open_workshop):
    board = NamedTarget(7.0, 0.0, device="board")
    result = screen_candidate(
        TINY, open_workshop(NamedTarget(1.0, 0.0), board=board), trial=0, known={}
    )
    assert (result.state, result.latency.median_ms) == ("measured", 1.0)
    assert result.latencies["board"].median_ms == 7.0
    assert result.latencies["board"].device == "board"
    assert result.fp32_latencies == {}


def test_int8_is_timed_by_turns_with_its_fp32_self_on_each_further_target(open_workshop):
    board = NamedTarget(4.0, 5.0)
    workshop = open_workshop(NamedTarget(1.0, 0.5), board=board)
    result = screen_candidate(INT8, workshop, trial=0, known={})
    assert result.state == "measured", "it is faster where it is searched for"
    assert (result.latency.median_ms, result.fp32_latency.median_ms) == (0.5, 1.0)
    assert result.latencies["board"].median_ms == 5.0
    assert result.fp32_latencies["board"].median_ms == 4.0
    assert board.measured == [["model.int8.onnx", "model.onnx"]]


def test_what_runs_programs_is_not_asked_about_int8_files(open_workshop, caplog):
    board = NamedTarget(4.0, 5.0)
    board.needs_program = True
    workshop = open_workshop(NamedTarget(1.0, 0.5), board=board)
    result = screen_candidate(INT8, workshop, trial=0, known={})
    assert (result.latencies, board.measured, list(workshop.others)) == ({}, [], ["board"])
    assert "not on the front of the target board: it runs no INT8 file" in caplog.text


def test_a_further_target_that_cannot_run_the_file_costs_its_front_alone(open_workshop, caplog):
    workshop = open_workshop(NamedTarget(1.0, 0.5), a=Broken(1.0, 1.0), b=NamedTarget(2.0, 1.0))
    result = screen_candidate(INT8, workshop, trial=0, known={})
    assert (result.state, set(result.latencies), set(result.fp32_latencies)) == (
        "measured", {"b"}, {"b"},
    )  # fmt: skip
    assert "not on the front of the target a: no such operator" in caplog.text
    assert set(prepare_candidate(TINY, workshop).latencies) == {"a", "b"}


class Programmed(NamedTarget):
    """A device that runs programs of torch.export."""

    needs_program = True

    def measure_together(self, models):
        assert all(model.with_suffix(".pt2").exists() for model in models)
        return super().measure_together(models)


def test_a_student_that_torch_cannot_export_costs_the_fronts_of_torch_alone(
    open_workshop, monkeypatch, caplog
):
    workshop = open_workshop(NamedTarget(1.0, 0.5), a=Programmed(2.0, 1.0), b=NamedTarget(3.0, 1.0))
    assert set(screen_candidate(TINY, workshop, trial=0, known={}).latencies) == {"a", "b"}

    def refuse(*_, **__):
        raise ExportError("student must be exportable by torch.export, got a loop")

    monkeypatch.setattr("autokd.candidate.artefacts.export_program", refuse)
    other = {**TINY, "width_1": 24}
    result = screen_candidate(other, workshop, trial=1, known={})
    assert (result.state, set(result.latencies)) == ("measured", {"b"})
    assert "not on the front of the target a: student must be exportable" in caplog.text
    failed = screen_candidate(
        {**TINY, "width_1": 16}, open_workshop(Programmed(1.0, 1.0)), trial=2, known={}
    )
    assert (failed.state, failed.reason) == (
        "failed", "student must be exportable by torch.export, got a loop",
    )  # fmt: skip


def test_a_further_target_that_fails_three_times_does_not_stop_the_search(open_workshop, caplog):
    workshop = open_workshop(FakeTarget(), board=StrictTarget(Unplugged(1.0, 1.0)))
    workshop = dataclasses.replace(workshop, target=NamedTarget(1.0, 0.5))
    for trial, width in enumerate((8, 24, 16)):
        result = screen_candidate({**INT8, "width_1": width}, workshop, trial=trial, known={})
        assert (result.state, result.latencies) == ("measured", {})
    assert "no more for the front of the target board: the target failed 3 times" in caplog.text
    assert workshop.others == {}, "it is not asked again, which would take its whole patience"


def test_layers_left_in_float_are_timed_again_everywhere(open_workshop):
    board = NamedTarget(4.0, 3.0)
    workshop = open_workshop(NamedTarget(1.0, 0.5), board=board)
    result = screen_candidate(INT8, workshop, trial=0, known={})
    trained = dataclasses.replace(
        result, state="complete", float_layers=("/network/stem/stem.0/Conv",)
    )
    board.times = (4.0, 4.5)
    again = settle_latency(trained, workshop)
    assert again.state == "complete"
    assert again.latencies["board"].median_ms == 4.5
    assert again.fp32_latencies["board"].median_ms == 4.0


# ---------------------------------------------------------------------- a device that fails


def command(folder, code, **options):
    program = folder / "board.py"
    program.write_text(code)
    return StrictTarget(CommandTarget(command=f"{sys.executable} {program} {{model}}", **options))


@pytest.mark.parametrize(
    ("code", "timeout_s", "reason"),
    [
        ("import time; time.sleep(60)", 0.5, "within 0.5 s, got no result"),
        ("print('1.5 ms')", 60.0, "got 1.5 ms"),
        ("import sys; sys.exit('unplugged')", 60.0, "exit code 1: unplugged"),
    ],
    ids=["hangs", "rubbish", "exit code"],
)
def test_a_board_that_fails_is_the_trials_and_after_three_the_searchs(
    open_workshop, tmp_path, code, timeout_s, reason
):
    workshop = open_workshop(command(tmp_path, code, timeout_s=timeout_s))
    for trial, width in enumerate((8, 24)):
        result = screen_candidate({**TINY, "width_1": width}, workshop, trial=trial, known={})
        assert (result.state, result.latency) == ("failed", None)
        assert reason in result.reason
    with pytest.raises(TargetError, match="failed 3 times in a row, the last time: ") as caught:
        screen_candidate({**TINY, "width_1": 16}, workshop, trial=2, known={})
    assert reason in str(caught.value)


def test_looking_ahead_counts_failures_too(open_workshop, tmp_path):
    workshop = open_workshop(command(tmp_path, "import sys; sys.exit('unplugged')"))
    surveyor = StudentSurveyor(workshop)
    for width in (8, 24):
        assert surveyor.survey([{**TINY, "width_1": width}]) == [None]
    with pytest.raises(TargetError, match="unplugged"):
        surveyor.survey([{**TINY, "width_1": 16}])


# ---------------------------------------------------------------------- a table


@pytest.fixture
def write_table(space, tmp_path):
    """A table by the width of the first stage; all else is left open."""

    def write_table(times, *, target=None):
        labels = sorted(space.architecture_of(space.complete(TINY)))
        path = tmp_path / "table.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*labels, "ms"], restval="")
            writer.writeheader()
            writer.writerows({"width_1": width, "ms": ms} for width, ms in times.items())
        return load_table(path, target=target)

    return write_table


def test_candidates_have_the_latencies_of_a_table(open_workshop, space, write_table):
    workshop = open_workshop(write_table({8: 1.25, 16: 2.5}))
    for width, ms in ((8, 1.25), (16, 2.5)):
        sample = space.complete({**TINY, "width_1": width})
        result = screen_candidate(sample, workshop, trial=0, known={})
        assert (result.state, result.latency.median_ms) == ("measured", ms)
        (prospect,) = StudentSurveyor(workshop).survey([sample])
        assert prospect.latency_ms == ms


def test_what_a_table_lacks_is_measured_or_a_failed_trial(open_workshop, space, write_table):
    sample = space.complete({**TINY, "width_1": 24})
    result = screen_candidate(sample, open_workshop(write_table({8: 1.25})), trial=0, known={})
    assert result.state == "failed"
    assert "must be in the table table.csv, got the network " in result.reason
    target = NamedTarget(9.0, 0.0)
    workshop = open_workshop(write_table({8: 1.25}, target=target))
    assert screen_candidate(sample, workshop, trial=0, known={}).latency.median_ms == 9.0
