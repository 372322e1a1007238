"""Trials through the loop with a crew of one and trainings that are made up."""

from dataclasses import replace

import pytest
from optuna.trial import TrialState

from autokd.config import Config
from autokd.data import load_data
from autokd.errors import ConstraintError, StudyError, TargetError
from autokd.study import loop as loop_module
from autokd.study.crew import Done
from autokd.study.stillness import TrainingProcess
from autokd.types import TrialResult, load_json
from tests.unit.study.played import BUDGET, EPOCHS, RUNG, Study, accuracy_of, play, row


@pytest.fixture(scope="module")
def data():
    return load_data(Config(train_limit=200))


@pytest.fixture
def world(monkeypatch, tmp_path_factory):
    return play(monkeypatch, tmp_path_factory.mktemp("machine"))


def test_most_trials_are_stopped_and_none_is_trained_twice(world, data, tmp_path):
    study = Study(tmp_path, data)
    results = study.run()
    assert len(results) == BUDGET
    whole = [one for one in results if one.state == "complete"]
    stopped = [one for one in results if one.state == "stopped"]
    assert len(whole) + len(stopped) == BUDGET
    assert len(stopped) > BUDGET / 3
    assert all(len(one.curve) == RUNG and "epoch 1 of 4" in one.reason for one in stopped)
    assert len(world.trained) == len(set(world.trained))
    assert sum(study.spent) == len(world.trained)
    assert any(one.trial == 0 for one in whole)
    states = {t.number: t.state for t in study.trials}
    assert states == {
        one.trial: TrialState.COMPLETE if one.state == "complete" else TrialState.PRUNED
        for one in results
    }
    assert not any(f"trial-{number}" in study.checkpoints for number in states)


def test_a_trial_that_is_given_up_keeps_the_epochs_that_were_told(world, data, tmp_path):
    study = Study(tmp_path, data, rungs=(), budget=2)
    do = study.crew.wait

    def wait(on_epoch):
        done = do(on_epoch)
        is_first = done.job.key.trial.number == 0
        return Done(job=done.job, fault="it was killed") if is_first else done

    study.crew.wait = wait
    first, second = study.run()
    assert (first.state, first.reason) == ("failed", "it was killed")
    assert first.curve == tuple(
        row(epoch, accuracy_of(first, epoch)) for epoch in range(1, EPOCHS + 1)
    )
    assert second.state == "complete"
    assert len(world.trained) == 2 * EPOCHS


def test_what_is_known_of_an_epoch_is_its_time_without_pauses(world, data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        TrainingProcess, "without_pauses", lambda _, one: replace(one, seconds=one.seconds / 4)
    )
    study = Study(tmp_path, data)
    results = study.run()
    assert len(world.trained) == sum(len(one.curve) for one in results)
    assert {one.seconds for result in results for one in result.curve} == {0.25}
    assert {trial.user_attrs["epoch_s"] for trial in study.trials} == {0.25}


def test_a_session_begins_with_checkpoints_under_their_limit(world, data, tmp_path):
    study = Study(tmp_path, data, budget=1, limit_bytes=2**20)
    stale = study.checkpoints.path / "trial-99.0.checkpoint"
    stale.parent.mkdir()
    stale.write_bytes(bytes(2**20 + 1))
    world.after[0, 1] = lambda: seen.append(stale.exists())
    seen = []
    study.run()
    assert seen == [False]


def test_without_rungs_all_are_trained_to_the_end(world, data, tmp_path):
    results = Study(tmp_path, data, rungs=()).run()
    assert [one.state for one in results] == ["complete"] * BUDGET
    assert len(world.trained) == BUDGET * EPOCHS


@pytest.mark.parametrize(
    ("how", "cut"), [("gently", (0, 2)), ("gently", (9, 1)), ("at once", (3, 1))]
)
def test_a_session_that_is_interrupted_goes_on_from_the_epoch(how, cut, world, data, tmp_path):
    study = Study(tmp_path, data)

    def interrupt():
        world.after.clear()
        if how == "at once":
            raise KeyboardInterrupt
        study.crew.halt()

    world.after[cut] = interrupt
    with pytest.raises(KeyboardInterrupt):
        study.run()
    before = {one.trial: one for one in study.results}
    again = Study(tmp_path, data)
    results = again.run()
    assert sorted(one.trial for one in results) == list(range(BUDGET))
    assert {one.trial: one for one in results}.items() >= before.items()
    assert len(world.trained) == len(set(world.trained))
    seen = again.tracker.trials.get(cut[0])
    told = study.tracker.trials[cut[0]].curve
    assert seen is None or not told.keys() & seen.curve.keys()


def test_when_it_is_late_the_stopped_ones_wait_for_more_time(world, data, tmp_path):
    study = Study(tmp_path, data)
    results = study.run(is_late=lambda: len(world.trained) > 10)
    assert 0 < len(results) < BUDGET
    running = [t.number for t in study.trials if t.state is TrialState.RUNNING]
    assert running
    assert all(f"trial-{number}" in study.checkpoints for number in running)
    assert len(Study(tmp_path, data).run()) == BUDGET
    assert len(world.trained) == len(set(world.trained))


def test_a_smaller_budget_than_before_trains_nobody_who_was_stopped(world, data, tmp_path):
    Study(tmp_path, data).run(is_late=lambda: len(world.trained) > 10)
    n_trained = len(world.trained)
    results = Study(tmp_path, data, rungs=(), budget=2).run()
    assert len(world.trained) == n_trained
    assert "stopped" in {one.state for one in results}


def test_a_checkpoint_that_was_collected_costs_the_training_again(world, data, tmp_path):
    study = Study(tmp_path, data)
    study.run(is_late=lambda: len(world.trained) > 10)
    (tmp_path / "checkpoints").rename(tmp_path / "gone")
    results = Study(tmp_path, data).run()
    assert len(results) == BUDGET
    for one in results:
        assert [row.epoch for row in one.curve] == list(range(1, len(one.curve) + 1))


def test_what_take_raises_ends_the_loop_and_loses_nothing(world, data, tmp_path):
    study = Study(tmp_path, data)

    def take(result):
        study.results.append(result)
        if len(study.results) == 2:
            raise ConstraintError("enough")

    with pytest.raises(ConstraintError, match="enough"):
        study.loop.run(study.results, take=take, is_late=lambda: False)
    assert len(Study(tmp_path, data).run()) == BUDGET
    assert len(world.trained) == len(set(world.trained))


def test_what_ends_the_loop_afterwards_leaves_no_trial_open(world, data, tmp_path):
    study = Study(tmp_path, data, rungs=())

    def give_up():
        if len(study.results) == 2:
            raise ConstraintError("hopeless")

    with pytest.raises(ConstraintError, match="hopeless"):
        study.loop.run(
            study.results, take=study.results.append, is_late=lambda: False, after=give_up
        )
    assert [trial.state for trial in study.trials[:2]] == [TrialState.COMPLETE] * 2
    assert len(world.trained) == 2 * EPOCHS


@pytest.mark.parametrize("how", ["its result", "Ctrl-C"])
def test_a_trial_that_is_another_coordinators_is_not_touched(how, world, data, tmp_path):
    study = Study(tmp_path, data, rungs=())
    is_ours = [True]

    def lose():
        is_ours[0] = False
        if how == "Ctrl-C":
            raise KeyboardInterrupt

    def check():
        if not is_ours[0]:
            raise StudyError("searched twice at once")

    world.after[1, EPOCHS] = lose
    with pytest.raises(StudyError, match="twice at once"):
        study.loop.run(
            study.results, take=study.results.append, is_late=lambda: False, before=check
        )
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert len(study.results) == 1


def test_what_was_trained_waits_for_a_target_that_is_away(world, data, tmp_path, monkeypatch):
    real = loop_module.settle_latency

    def fail(result, workshop):
        if result.trial == 1:
            raise TargetError("no node to measure on")
        return real(result, workshop)

    monkeypatch.setattr(loop_module, "settle_latency", fail)
    with pytest.raises(TargetError, match="no node"):
        Study(tmp_path, data, rungs=()).run()
    monkeypatch.setattr(loop_module, "settle_latency", real)
    results = Study(tmp_path, data, rungs=()).run()
    assert [one.state for one in results] == ["complete"] * BUDGET
    assert len(world.trained) == len(set(world.trained)) == BUDGET * EPOCHS


class Heritage:
    """Has each student inherit of the last trained one."""

    def __init__(self):
        self.asked = []

    def inherit(self, before, workshop, *, results):  # noqa: ARG002 - as of the real one
        known = {one.trial: one.state for one in results}
        self.asked.append((before.trial, known))
        if not known:
            return before
        return replace(before, inherited_from=max(known), inherited_share=0.5)


@pytest.fixture
def heritage(monkeypatch):
    heritage = Heritage()
    monkeypatch.setattr(loop_module, "inherit_candidate", heritage.inherit)
    return heritage


def test_of_whom_a_student_inherits_is_decided_once(world, heritage, data, tmp_path):
    study = Study(tmp_path, data, warm_start="relatives")

    def interrupt():
        world.after.clear()
        raise KeyboardInterrupt

    world.after[5, 1] = interrupt
    with pytest.raises(KeyboardInterrupt):
        study.run()
    saved = load_json(TrialResult, study.trials[5].user_attrs["result"])
    assert saved.inherited_from is not None
    results = Study(tmp_path, data, warm_start="relatives").run()
    assert [trial for trial, _ in heritage.asked] == list(range(BUDGET))
    whom = {one.trial: one.inherited_from for one in results}
    assert whom[5] == saved.inherited_from
    assert whom == {trial: max(known, default=None) for trial, known in heritage.asked}
    states = {state for _, known in heritage.asked for state in known.values()}
    assert states == {"complete", "stopped"}


@pytest.mark.usefixtures("world")
def test_without_a_warm_start_nobody_inherits(heritage, data, tmp_path):
    results = Study(tmp_path, data).run()
    assert not heritage.asked
    assert {one.inherited_from for one in results} == {None}
