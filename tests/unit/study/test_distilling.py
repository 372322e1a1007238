"""One student without a search: the same training as a finalist's, kept, told and exported."""

import dataclasses
import json
import os
import signal

import pytest
import torch

import autokd
from autokd import candidate
from autokd.candidate import CheckpointFolder, Int8Finalist, Workshop
from autokd.config import Config
from autokd.data import load_data, load_test
from autokd.distillation import Engine, Training
from autokd.errors import BuildError, ConfigError, SpaceError, StudyError
from autokd.study import distilling, refits
from autokd.study.appraisal import Appraisal
from autokd.study.folder import StudyFolder
from autokd.study.joint_space import build_joint_space
from autokd.study.planning import build_plan, choose_device
from autokd.study.progress import SearchProgress
from autokd.study.refits import Entry, find_int8, load_refits, train_refit
from autokd.study.teaching import recall_teachers
from autokd.testing import FakeTarget, MemoryTracker
from autokd.types import (
    EpochEnded,
    StudyClosed,
    TrialEnded,
    TrialInterrupted,
    TrialResult,
    TrialResumed,
    TrialStarted,
)

TEACHER = """
import torch
from sklearn.datasets import load_digits
from torch import nn

def nearest():
    '''Says which class's mean is nearest.'''
    pictures, labels = map(torch.from_numpy, load_digits(return_X_y=True))
    means = torch.stack([pictures[labels == c].mean(0) / 16 for c in range(10)]).float()
    layer = nn.Linear(64, 10)
    layer.weight.data, layer.bias.data = means, -(means**2).sum(1) / 2
    return nn.Sequential(nn.Flatten(), layer)

def second():
    network = nearest()
    network[1].weight.data *= 2
    network[1].bias.data *= 2
    return network

def student(shape, n_classes):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, n_classes)
    )

def deeper(shape, n_classes):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 1, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, n_classes),
    )

def large(shape, n_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4096), nn.ReLU(), nn.Linear(4096, n_classes))
"""


@pytest.fixture
def build(tmp_path, monkeypatch):
    """A configuration of a student in files of its own, nothing that touches a clock."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("AUTOKD_CACHE", str(tmp_path / "cache"))
    name = f"networks_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(TEACHER)
    monkeypatch.setattr(distilling, "build_target", lambda *_, **__: FakeTarget())
    monkeypatch.setattr("autokd.study.delivery.build_target", lambda *_, **__: FakeTarget())
    # Pictures and OpenVINO's files are made by the tests of the whole command.
    monkeypatch.setattr(distilling._Session, "draw", lambda *_: ())
    monkeypatch.setattr("autokd.exporters.bundle.has_openvino", lambda: False)
    monkeypatch.setattr(
        "autokd.study.appraisal.Appraiser.appraise", lambda *_, **__: Appraisal(facts={}, files=())
    )

    def build(student="student", **options):
        values = {"epochs": 3, "train_limit": 200, "workers": 1, **options}
        return Config(student=f"python:{name}.py:{student}", teacher=f"python:{name}:nearest",
                      runs_dir=tmp_path / "runs", **{"study": "one", **values})  # fmt: skip

    return build


def train(config, tracker=None, **options):
    return autokd.distill(
        config, tracker=tracker or MemoryTracker(), is_registered=False, **options
    )


class Notes:
    """Keeps every event; stops the training where it is told to."""

    def __init__(self, stop_after=None):
        self.events, self.stop_after = [], stop_after

    def log(self, event):
        self.events.append(event)
        if isinstance(event, EpochEnded) and event.epoch.epoch == self.stop_after:
            raise KeyboardInterrupt

    def close(self):
        pass

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


def test_one_student_is_trained_measured_and_exported(build, tmp_path):
    done = train(build(), out=tmp_path / "out")
    student = done.student
    assert (done.front.n_trials, len(done.front.students)) == (1, 1)
    assert (student.n_seeds, student.kd_gain, done.front.baseline) == (1, None, None)
    assert student.recipe.is_distilled
    assert student.test_accuracy == pytest.approx(done.bundle.test_accuracy)
    assert done.front.teacher.latency_ms > 0
    assert (tmp_path / "out" / "run.py") in done.bundle.files
    assert json.loads((tmp_path / "out" / "card.json").read_text())["trial"] == 0
    assert autokd.load_front("one", runs_dir=tmp_path / "runs") == done.front


def test_the_student_is_what_the_finals_of_a_search_train(build, tmp_path):
    config = build()
    done = train(config)
    data = load_data(config)
    space = build_joint_space(config, data.card, has_assistant=False)
    folder = StudyFolder(config.study_dir)
    (refit,) = load_refits(folder).values()
    device = choose_device(config)
    digest = done.front.teacher.digest
    workshop = Workshop(
        space=space, data=data, target=FakeTarget(), max_latency_ms=None,
        teachers=recall_teachers(config, data, space=space, device=device,
                                 accuracies={digest: done.front.teacher.val_accuracy}),
        plan=build_plan(config, data=data, device=device), weights=tmp_path / "w",
        checkpoints=CheckpointFolder(tmp_path / "c", limit_bytes=2**30),
    )  # fmt: skip
    measured = dataclasses.replace(_measured(space), recipe=space.freeze({})[1])
    again, _ = train_refit(
        Entry(trial=0, seed=1, is_twin=False, epochs=3), measured, workshop=workshop,
        test=load_test(config), weights=tmp_path / "w.safetensors", on_epoch=lambda _: None,
    )  # fmt: skip
    assert (again.val_accuracy, again.test_accuracy) == (refit.val_accuracy, refit.test_accuracy)


def _measured(space):
    sample = space.complete(space.prior("textbook"))
    return TrialResult(trial=0, state="measured", sample=sample)


def test_with_a_baseline_the_gain_has_an_interval(build):
    notes = Notes()
    done = train(build(baseline=True), notes)
    student, twin = done.student, done.front.baseline
    assert (student.n_seeds, twin.n_seeds) == (3, 3), "unless --seeds says otherwise"
    assert student.kd_gain == pytest.approx(student.test_accuracy - twin.test_accuracy)
    assert student.kd_gain_ci95 >= 0
    assert not twin.recipe.is_distilled
    assert not student.is_twin, "what was asked for is kept, whoever is better"
    ended = {event.result.trial: event.result for event in notes.of(TrialEnded)}
    assert sorted(ended) == [0, 1, 2, 3, 4, 5]
    assert [ended[n].sample["is_twin"] for n in range(6)] == [False, True] * 3
    assert [ended[n].recipe.is_distilled for n in range(6)] == [True, False] * 3
    assert [ended[n].sample["seed"] for n in range(6)] == [1, 1, 2, 2, 3, 3]
    assert all(len(result.curve) == 3 for result in ended.values())


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


def test_the_options_of_the_recipe_are_its_fields(build):
    config = build(alpha=0.5, temperature=7.5, learning_rate=0.02, loss="dkd", seeds=1)
    recipe = train(config).student.recipe
    assert (recipe.alpha, recipe.alpha_end, recipe.alpha_schedule) == (0.5, 0.5, "constant")
    assert (recipe.temperature, recipe.temperature_schedule) == (7.5, "constant")
    assert (recipe.learning_rate, recipe.loss) == (0.02, "dkd")


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


def test_a_student_that_was_cut_off_goes_on_after_its_last_epoch(build):
    whole = train(build()).student
    config = build().model_copy(update={"study": "two"})
    first, second = Notes(stop_after=2), Notes()
    with pytest.raises(KeyboardInterrupt):
        train(config, first)
    again = train(config, second).student
    assert [event.epoch.epoch for event in first.of(EpochEnded)] == [1, 2]
    assert [event.epoch.epoch for event in second.of(EpochEnded)] == [3]
    assert len(first.of(TrialStarted)) == len(second.of(TrialResumed)) == 1
    assert not second.of(TrialStarted)
    (ended,) = second.of(TrialEnded)
    assert [row.epoch for row in ended.result.curve] == [1, 2, 3]
    assert (again.val_accuracy, again.test_accuracy) == (whole.val_accuracy, whole.test_accuracy)


class HaltingNotes(Notes):
    """Presses Ctrl-C, once, after the first epoch."""

    def log(self, event):
        super().log(event)
        if len(self.of(EpochEnded)) == 1 and isinstance(event, EpochEnded):
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_after_the_epoch_and_the_rest_is_trained_next_time(build):
    first, second = HaltingNotes(), Notes()
    with pytest.raises(KeyboardInterrupt):
        train(build(), first)
    (interrupted,) = first.of(TrialInterrupted)
    assert (interrupted.trial, first.of(StudyClosed)[0].is_finished) == (0, False)
    assert train(build(), second).student.n_seeds == 1
    epochs = [event.epoch.epoch for event in [*first.of(EpochEnded), *second.of(EpochEnded)]]
    assert epochs == [1, 2, 3]


def test_a_finished_student_is_not_trained_again(build):
    first = train(build()).student
    notes = Notes()
    again = train(build(), notes).student
    assert not notes.of(EpochEnded)
    assert again == first


def test_more_seeds_and_a_baseline_keep_what_is_there(build):
    train(build())
    notes = Notes()
    train(build(baseline=True, seeds=2), notes)
    assert sorted(event.trial for event in notes.of(TrialStarted)) == [1, 2, 3]


def test_a_student_slower_than_the_teacher_is_a_warning(build, capsys):
    train(build("large"), progress=SearchProgress())
    assert "warning: the student is no faster than the teacher" in capsys.readouterr().err


def test_another_loss_is_another_student(build):
    train(build())
    with pytest.raises(StudyError, match="was made with loss=None, got dkd"):
        train(build(loss="dkd"))


def test_an_out_that_cannot_be_written_is_found_before_training(build, tmp_path):
    (tmp_path / "file").write_text("")
    notes = Notes()
    with pytest.raises(ConfigError, match="`--out` must be a folder to write to"):
        train(build(), notes, out=tmp_path / "file" / "deeper")
    assert not notes.events
    assert not (tmp_path / "runs").exists()


def test_nothing_is_left_in_the_folder_by_finding_out(build, tmp_path):
    with pytest.raises(ConfigError, match="`--student` must say what is trained"):
        train(build().model_copy(update={"student": None}), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 4}, "`budget` must be left to `autokd search`, got 4"),
        ({"sampler": "random"}, "`sampler` must be left to `autokd search`"),
        ({"warm_start": "relatives"}, "`warm_start` must be left to `autokd search`"),
        ({"precision": "both"}, "`--precision` must be fp32 or int8 for one student, got both"),
        ({"target": ("onnxruntime", "torch")}, "`--target` must be one device for one student"),
    ],
)
def test_options_of_a_search_are_refused(build, options, message):
    with pytest.raises(ConfigError, match=message):
        train(build(**options))


def test_a_search_refuses_the_options_of_one_student(build):
    with pytest.raises(ConfigError, match="`student` must be left to `autokd distill`"):
        autokd.search(build(), tracker=MemoryTracker())


def test_a_student_that_cannot_be_measured_is_one_line(build, monkeypatch):
    def fail(*_, **__):
        raise BuildError("no such operator")

    monkeypatch.setattr("autokd.candidate.evaluation.prepare_candidate", fail)
    with pytest.raises(BuildError, match=r"`--student python:.*`: no such operator"):
        train(build())
