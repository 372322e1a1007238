"""What one student is trained by: its recipe, its assistant, its INT8 file."""

import pytest
import torch

from autokd import candidate
from autokd.candidate import Int8Finalist
from autokd.distillation import Engine, Training
from autokd.errors import SpaceError
from autokd.study import distilling, refits
from autokd.study.folder import StudyFolder
from autokd.study.progress import SearchProgress
from autokd.study.refits import find_int8
from autokd.types import (
    EpochEnded,
)
from tests.unit.study.one_student import Notes, prepare, train


@pytest.fixture
def build(tmp_path, monkeypatch):
    """A configuration of a student in files of its own, nothing that touches a clock."""
    return prepare(tmp_path, monkeypatch)


class Delivered(Exception):  # noqa: N818 - no fault
    """The front is saved; files are not wanted."""


@pytest.fixture
def quantize(monkeypatch):
    """INT8 files whose sizes tell seed and teacher; of three seeds the last one does best."""

    def quantize(_student, recipe, *, path, plan, **_):
        path.write_bytes(b"\x08" * SIZES[recipe.is_distilled, plan.seed])
        return Int8Finalist(val_accuracy=0.5 + plan.seed / 10, is_aware=False, curve=())

    def deliver(*_, **__):
        raise Delivered

    monkeypatch.setattr(refits, "quantize_finalist", quantize)
    monkeypatch.setattr(refits, "score_file", lambda *_: 0.5)
    monkeypatch.setattr(distilling.Depot, "deliver", deliver)


SIZES = {
    (is_taught, seed): 1000 * seed + 500 * is_taught for is_taught in (False, True)
    for seed in (1, 2, 3)
}  # fmt: skip


@pytest.mark.usefixtures("quantize")
def test_each_row_in_int8_has_the_latency_of_the_file_that_it_names(build):
    for seeds in (3, 1):
        config = build(baseline=True, precision="int8", seeds=seeds, train_limit=500, epochs=1)
        with pytest.raises(Delivered):
            train(config)
        folder = StudyFolder(config.study_dir)
        front = folder.load_front()
        for row in (front.students[0], front.baseline):
            file = find_int8(folder.path / row.weights)
            size = SIZES[row.recipe.is_distilled, seeds]
            assert file.stat().st_size == size
            assert row.latency_ms == pytest.approx(size / 2**20)
            assert row.speed_up == pytest.approx(front.teacher.latency_ms / row.latency_ms)


@pytest.mark.parametrize(
    ("recipe", "fix", "told"),
    [
        ("features", {}, {"feature_loss": "crd"}),
        ("shift", {"mix": "cutmix"}, {"is_adaptive": True, "teacher_confidence": 0.5}),
        ("self", {}, {"exits": 2, "generations": 1}),
        ("self", {"exits": "0", "generations": "2"}, {}),
    ],
)
def test_each_recipe_trains_one_student_by_what_it_is_for(build, capsys, recipe, fix, told):
    notes = Notes()
    config = build("deeper", recipe=recipe, fix=fix, epochs=1)
    student = train(config, notes, progress=SearchProgress()).student
    for name, value in {**told, **fix}.items():
        assert str(getattr(student.recipe, name)) == str(value)
    assert (student.recipe.alpha, student.recipe.temperature) == (pytest.approx(0.9), 4.0)
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("recipe ")]
    assert line.startswith(f"recipe {recipe}, where it leaves a choice: ")
    assert all(f" {name}={str(value).lower()} " in line for name, value in told.items())
    assert not any(f" {name}=" in line for name in fix)
    assert [one.epoch.epoch for one in notes.of(EpochEnded)] == [
        number + 1 for number in range(student.recipe.generations)
    ]


def test_the_loss_on_features_and_the_exits_are_in_what_is_learnt(build):
    losses = {}
    for recipe in ("default", "features", "self"):
        notes = Notes()
        train(build("deeper", recipe=recipe, epochs=1, study=recipe), notes)
        (row,) = notes.of(EpochEnded)
        losses[recipe] = row.epoch.train_loss
    assert losses["features"] > losses["default"] + 0.1
    assert losses["self"] > losses["default"] + 0.1


def test_a_student_too_short_for_exits_is_told_before_anybody_is_trained(build):
    notes = Notes()
    with pytest.raises(SpaceError, match=r"two maps larger than 1x1 .* pass --fix exits=0"):
        train(build(recipe="self"), notes)
    assert not notes.events
    assert train(build(recipe="self", fix={"exits": "0"}, epochs=1)).student.recipe.exits == 0


@pytest.fixture
def assisted(build, monkeypatch):
    """A student of a teacher and an assistant that knows enough and is not trained any further."""

    def teach(network, recipe, *, teacher, **_):
        del network, recipe
        assert teacher.network.name.endswith(":nearest")
        engine = Engine(device=torch.device("cpu"))
        return Training(curve=(), val_accuracy=0.9, engine=engine, seconds=0.1)

    monkeypatch.setattr("autokd.study.teaching.train_student", teach)
    return lambda **options: build(
        assistant=(build().teacher[0].replace("nearest", "second"),), epochs=1, **options
    )


@pytest.mark.parametrize(
    ("options", "wanted", "is_told"),
    [
        ({}, "assistant", True),
        ({"recipe": "features"}, "assistant", True),
        ({"fix": {"taught_by": "teacher"}}, "teacher", False),
        ({"fix": {"taught_by": "both"}}, "both", False),
    ],
)
def test_a_student_with_an_assistant_is_taught_by_it(
    assisted, capsys, monkeypatch, options, wanted, is_told
):
    heard = []

    def listen(*words, teacher, **rest):
        heard.append(teacher.name)
        return candidate.train_student(*words, teacher=teacher, **rest)

    monkeypatch.setattr("autokd.study.refits.train_student", listen)
    done = train(assisted(**options), progress=SearchProgress())
    assert done.student.recipe.taught_by == wanted
    assert (" taught_by=assistant " in capsys.readouterr().err) == is_told
    (name,) = heard
    assert (":nearest" in name, ":second" in name) == (
        wanted != "assistant", wanted != "teacher",
    )  # fmt: skip


def test_where_no_assistant_is_needed_the_teacher_teaches(build, capsys):
    config = build(assistant=("auto",), epochs=1)
    done = train(config, progress=SearchProgress())
    assert "no auto assistant" in capsys.readouterr().err
    assert done.student.recipe.taught_by == "teacher"


@pytest.mark.usefixtures("quantize")
def test_int8_that_is_no_faster_after_training_is_told(build, monkeypatch):
    said = []
    monkeypatch.setattr(SearchProgress, "say", lambda _, text: said.append(text))
    monkeypatch.setitem(SIZES, (True, 1), 100_000)
    with pytest.raises(Delivered):
        train(build(precision="int8", train_limit=500, epochs=1))
    line = [text for text in said if "no less than FP32" in text][-1]  # after its screening
    assert line.startswith("warning: INT8 takes ")
    assert line.endswith("; --precision fp32 makes the faster file")
