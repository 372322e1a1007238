"""Fronts of further targets: whose latencies they show, which INT8 students they offer."""

import dataclasses

import pytest

from autokd.config import Config
from autokd.errors import ConfigError, MeasureError, StudyError
from autokd.exporters import export_onnx
from autokd.latency import SCREENING
from autokd.spaces import build_space
from autokd.study.figures import draw_study
from autokd.study.folder import StudyFolder
from autokd.study.other_fronts import OtherFronts, judge_elsewhere
from autokd.study.targets import build_others, build_target
from autokd.study.teaching import Faculty
from autokd.testing import FakeTarget
from autokd.types import DataCard, Footprint, Latency, Recipe, TeacherCard, TrialResult

DATA = DataCard(
    name="d", digest="d", shape=(1, 8, 8), classes=tuple("0123456789"), mean=(0.5,), std=(0.2,),
    n_train=100, n_val=400, n_test=100,
)  # fmt: skip
TEACHER = TeacherCard(name="t", digest="t", n_params=9, val_accuracy=0.95, latency_ms=1.0)
PLAIN = Recipe(alpha=0.0, alpha_end=0.0)
INT8 = dataclasses.replace(PLAIN, precision="int8")
BOARD = "command:./time_on_board.sh {model}"


def latency(ms, device="board"):
    return Latency(
        median_ms=ms, ci95_low_ms=ms, ci95_high_ms=ms, p10_ms=ms, p90_ms=ms, n_runs=100, batch=1,
        threads=1, runtime="r", device=device, drift=1.0,
    )  # fmt: skip


def result(trial, accuracy, ms, *, there=None, own_ms=None, own_there=None, state="complete"):
    """Of the search, `ms` on the first target and `there` on the board; in INT8 with `own_ms`."""
    return TrialResult(
        trial=trial, state=state, sample={}, network=str(trial), val_accuracy=accuracy,
        recipe=PLAIN if own_ms is None else INT8, latency=latency(ms, "here"),
        footprint=Footprint(n_params=1, macs=1, size_bytes=1),
        fp32_latency=None if own_ms is None else latency(own_ms, "here"),
        latencies={} if there is None else {BOARD: latency(there)},
        fp32_latencies={} if own_there is None else {BOARD: latency(own_there)},
    )  # fmt: skip


class NamedTarget:
    """A device that takes as long for everything as it is told."""

    needs_program = False

    def __init__(self, ms, device="board"):
        self.latency, self.n_measured = latency(ms, device), 0

    def measure(self, model):  # noqa: ARG002 - the same for all
        self.n_measured += 1
        return self.latency

    def measure_together(self, models):
        return [self.measure(model) for model in models]


@pytest.fixture(scope="module")
def space():
    return build_space("mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10)


@pytest.fixture
def folder(tmp_path):
    folder = StudyFolder(tmp_path / "mlruns/studies/s")
    folder.path.mkdir(parents=True)
    return folder


@pytest.fixture
def open_fronts(tmp_path, space, folder):
    def open_fronts(target, **options):
        config = Config(study="s", target=("onnxruntime", BOARD), runs_dir=tmp_path / "mlruns")
        config = config.model_copy(update=options)
        folder.keep_settings(config, dimensions=space.dimensions, digests={})
        faculty = Faculty(
            teachers={}, card=TEACHER, models=(tmp_path / "t.onnx", tmp_path / "u.onnx"),
            training_s=0.0, accuracies={}, trained=(), latency_device="here",
        )  # fmt: skip
        return OtherFronts(
            config, space=space, data=DATA, faculty=faculty, folder=folder, targets={BOARD: target}
        )

    return open_fronts


def test_a_front_has_the_latencies_of_its_own_device(open_fronts, folder):
    small, large = result(0, 0.8, 0.1, there=4.0), result(1, 0.9, 0.5, there=2.0)
    open_fronts(NamedTarget(3.0)).save([small, large])
    front = folder.load_front(target=BOARD)
    assert front.teacher.latency_ms == 6.0, "of both files of the teacher"
    assert [(one.trial, one.latency_ms, one.speed_up) for one in front.students] == [(1, 2.0, 3.0)]


def test_what_could_not_run_there_is_not_on_that_front(open_fronts, folder):
    open_fronts(NamedTarget(3.0)).save([result(0, 0.9, 0.1), result(1, 0.8, 0.5, there=2.0)])
    assert [one.trial for one in folder.load_front(target=BOARD).students] == [1]


def test_the_limit_of_the_first_target_is_none_of_the_others(open_fronts, folder):
    fronts = open_fronts(NamedTarget(3.0), max_latency_ms=1.0)
    fronts.save([result(0, 0.9, 0.1, there=5.0)])
    assert [one.latency_ms for one in folder.load_front(target=BOARD).students] == [5.0]


def test_int8_is_offered_where_it_is_faster_and_only_there(open_fronts, folder):
    slower = result(1, 0.9, 0.3, own_ms=0.5, there=2.5, own_there=2.0)
    faster = result(2, 0.85, 0.3, own_ms=0.5, there=1.5, own_there=2.0)
    open_fronts(NamedTarget(3.0)).save([result(0, 0.8, 0.5, there=2.0), slower, faster])
    front = folder.load_front(target=BOARD)
    assert [one.trial for one in front.students] == [2]
    assert front.students[0].fp32_latency_ms == 2.0
    assert front.n_pruned == 1
    there = judge_elsewhere(slower, target=BOARD)
    assert (there.state, there.latency.median_ms) == ("pruned", 2.5)
    assert there.reason == "INT8 takes 2.5 ms, no less than FP32 with 2 ms"
    assert slower.state == "complete", "on the target that is searched for"


def test_int8_of_a_study_that_did_not_compare_there_stays_as_it_was():
    before = result(1, 0.9, 0.3, own_ms=0.5, there=2.5)
    there = judge_elsewhere(before, target=BOARD)
    assert (there.state, there.latency.median_ms, there.fp32_latency) == ("complete", 2.5, None)


@pytest.mark.parametrize("state", ["failed", "pruned", "stopped"])
def test_what_was_not_trained_stays_what_it_was(state):
    before = result(1, None, 0.3, own_ms=0.5, there=2.5, own_there=2.0, state=state)
    assert judge_elsewhere(before, target=BOARD).state == state


def test_a_front_does_not_go_on_with_another_board(open_fronts, folder):
    folder.hold_to_device("here")
    open_fronts(NamedTarget(3.0, device="old board"))
    open_fronts(NamedTarget(3.1, device="old board"))
    with pytest.raises(StudyError, match="must go on with latencies of old board, got new board"):
        open_fronts(NamedTarget(3.0, device="new board"))
    assert (folder.find_device(), folder.find_device(BOARD)) == ("here", "old board")


def test_the_pictures_of_a_target_are_those_of_its_front(open_fronts, folder, tmp_path):
    open_fronts(NamedTarget(3.0)).save([result(0, 0.8, 0.1, there=4.0)])
    files = draw_study(
        "s", folder=folder.report_of(BOARD), runs_dir=tmp_path / "mlruns", target=BOARD
    )
    assert folder.report_of(BOARD) != folder.report_of("") == folder.report
    assert {file.name for file in files} == {"front.png", "front.html"}, "without trials"


# ---------------------------------------------------------------------- the targets themselves


@pytest.fixture
def board(tmp_path):
    """A program that times a file by its size, and counts how often."""
    program = tmp_path / "board.sh"
    program.write_text(
        f'#!/bin/sh\necho x >> {tmp_path}/calls\necho "{{\\"median_ms\\": $(wc -c < $1)}}"\n'
    )
    program.chmod(0o755)
    return f"command:{program} {{model}}"


def test_further_targets_measure_and_remember(tmp_path, board):
    from torch import nn

    config = Config(target=("onnxruntime", board), runs_dir=tmp_path / "mlruns")
    assert list(build_others(config, cluster=None)) == [board]
    model = export_onnx(nn.Flatten(), tmp_path / "m.onnx", shape=(1, 8, 8))
    target = build_others(config, cluster=None)[board]
    assert target.measure(model).median_ms == model.stat().st_size
    assert build_target(config, form=SCREENING, cluster=None, name=board).measure(model)
    n_calls = len((tmp_path / "calls").read_text().splitlines())
    assert target.measure(model) == target.measure(model)
    assert len((tmp_path / "calls").read_text().splitlines()) == n_calls
    assert build_others(Config(target="onnxruntime"), cluster=None) == {}


def test_a_further_target_that_cannot_be_is_refused(tmp_path):
    config = Config(target=("onnxruntime", "phone"), runs_dir=tmp_path / "mlruns")
    with pytest.raises(ConfigError, match=r"must be one of onnxruntime, .* got phone"):
        build_others(config, cluster=None)


class Unplugged(FakeTarget):
    def measure(self, model):
        raise MeasureError(f"board must run {model.name}")


def test_a_teacher_that_a_further_target_cannot_run_ends_the_first_session(open_fronts):
    with pytest.raises(MeasureError, match=r"board must run t\.onnx"):
        open_fronts(Unplugged())


def test_a_board_that_is_away_later_on_costs_its_front_alone(open_fronts, folder, caplog):
    one = result(0, 0.8, 0.1, there=4.0)
    open_fronts(NamedTarget(3.0)).save([one])
    before = folder.load_front(target=BOARD)
    open_fronts(Unplugged()).save([one, result(1, 0.9, 0.5)])
    assert folder.load_front(target=BOARD) == before
    (record,) = caplog.records
    assert f"no front of the target {BOARD} in this session: board must" in record.getMessage()
