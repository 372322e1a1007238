"""One student without a search: the same training as a finalist's, kept, told and exported."""

import dataclasses
import json
import os
import signal

import pytest

import autokd
from autokd.candidate import CheckpointFolder, Workshop
from autokd.data import load_data, load_test
from autokd.errors import BuildError, ConfigError, StudyError
from autokd.study.alumni import choose_graduate
from autokd.study.explaining import find_run
from autokd.study.folder import StudyFolder
from autokd.study.joint_space import build_joint_space
from autokd.study.planning import build_plan, choose_device
from autokd.study.progress import SearchProgress
from autokd.study.refits import Entry, load_refits, train_refit
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
from tests.unit.study.one_student import Notes, prepare, train


@pytest.fixture
def build(tmp_path, monkeypatch):
    """A configuration of a student in files of its own, nothing that touches a clock."""
    return prepare(tmp_path, monkeypatch)


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


def test_a_student_without_a_teacher_is_its_own_baseline(build, capsys):
    config = build(baseline=True, loss="cross_entropy", seeds=2)
    distilled = train(config, progress=SearchProgress())
    assert (distilled.student.kd_gain, distilled.front.baseline) == (0.0, None)
    said = capsys.readouterr().err
    assert "the student learns from labels alone: it is its own baseline" in said
    assert "no twin" not in said


def test_the_run_of_the_student_is_that_of_the_training_that_it_is_of(build):
    notes, config = Notes(), build(seeds=3, epochs=2)
    train(config, notes)
    ended = [event.result for event in notes.of(TrialEnded)]
    best = max(ended, key=lambda one: (one.val_accuracy, -one.trial))
    graduate = choose_graduate(StudyFolder(config.study_dir), config, trial=0, pick=None)
    assert find_run(config, graduate) == best.trial > 0
    searched = config.model_copy(update={"student": None})
    assert find_run(searched, graduate) == 0


def test_the_options_of_the_recipe_are_its_fields(build):
    config = build(alpha=0.5, temperature=7.5, learning_rate=0.02, loss="dkd", seeds=1)
    recipe = train(config).student.recipe
    assert (recipe.alpha, recipe.alpha_end, recipe.alpha_schedule) == (0.5, 0.5, "constant")
    assert (recipe.temperature, recipe.temperature_schedule) == (7.5, "constant")
    assert (recipe.learning_rate, recipe.loss) == (0.02, "dkd")


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
