"""Trainings and coordinators that are killed about a rung."""

import os
import signal

import optuna
import pytest
from optuna.trial import TrialState

from autokd.config import Config
from autokd.data import load_data
from autokd.study.forked_crew import ForkedCrew
from tests.unit.study.played import BUDGET, RUNG, Study, play

POOR, BEST = 0.01, 0.99
CUT = 3  # the trial that is killed


class Killed(BaseException):
    """The coordinator is gone: whatever it was about to do, it does not."""


def kill() -> None:
    raise Killed


@pytest.fixture(scope="module")
def data():
    return load_data(Config(train_limit=200))


@pytest.fixture
def world(monkeypatch, tmp_path_factory):
    return play(monkeypatch, tmp_path_factory.mktemp("machine"))


def find(results, number):
    return next(one for one in results if one.trial == number)


def test_after_a_kill_the_next_rung_sees_all_epochs(world, data, tmp_path):
    world.after[CUT, 2] = kill
    world.accuracies[CUT] = BEST
    study = Study(tmp_path, data, rungs=(3,), budget=6)
    with pytest.raises(Killed):
        study.run()
    world.after.clear()
    again, seen = Study(tmp_path, data, rungs=(3,), budget=6), []
    stop = again.loop._trials.stop

    def watch(trial, result):
        stop(trial, result)
        if trial.number == CUT and not seen:  # at the rung
            seen.extend(row.epoch for row in result.curve)
            assert CUT in [one.key for one in again.loop._trials.standings()]

    again.loop._trials.stop = watch
    assert find(again.run(), CUT).state == "complete"
    assert seen == [1, 2, 3]
    assert len(world.trained) == len(set(world.trained))


def test_a_rung_that_a_killed_coordinator_has_not_decided_is_decided(world, data, tmp_path):
    world.after[CUT, RUNG] = kill
    world.accuracies[CUT] = POOR
    first = Study(tmp_path, data, budget=6)
    with pytest.raises(Killed):
        first.run()
    world.after.clear()
    again = Study(tmp_path, data, budget=6)
    stopped = find(again.run(), CUT)
    assert (stopped.state, len(stopped.curve)) == ("stopped", RUNG)
    assert stopped.training_s == RUNG
    assert [epoch for trial, epoch in world.trained if trial == CUT] == [RUNG]
    assert sum(first.spent) + sum(again.spent) == len(world.trained)


def test_a_trial_that_is_killed_while_it_waits_at_a_rung_hears_its_answer(world, data, tmp_path):
    crew = ForkedCrew(1)
    study = Study(tmp_path, data, budget=6, crew=crew)
    asked = []

    def hear(job, row):
        goes_on = study.loop._hear(job, row)
        if job.key.trial.number == CUT and not asked:
            (worker,) = crew._workers
            worker.process.kill()
            worker.process.join()
        if job.key.trial.number == CUT:
            asked.append(row.epoch)
        return goes_on

    wait = crew.wait
    crew.wait = lambda _: wait(hear)
    world.accuracies[CUT] = POOR
    stopped = find(study.run(), CUT)
    assert (stopped.state, len(stopped.curve)) == ("stopped", RUNG)
    assert asked == [RUNG, RUNG]


def test_a_trial_that_is_killed_before_it_can_ask_asks_when_it_is_begun_again(
    world, data, tmp_path
):
    marker = tmp_path / "was-killed"

    def die():
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    world.after[CUT, RUNG] = die
    world.accuracies[CUT] = POOR
    stopped = find(Study(tmp_path, data, budget=6, crew=ForkedCrew(1)).run(), CUT)
    assert marker.exists()
    assert (stopped.state, len(stopped.curve)) == ("stopped", RUNG)


def test_what_stays_stopped_is_not_trained_on_after_a_kill_at_the_end(world, data, tmp_path):
    study = Study(tmp_path, data, budget=6)

    def take(result):
        if result.state == "stopped":
            raise Killed
        study.results.append(result)

    with pytest.raises(Killed):
        study.loop.run(study.results, take=take, is_late=lambda: False)
    n_trained = len(world.trained)
    results = Study(tmp_path, data, budget=6).run()
    assert len(results) == 6
    assert len(world.trained) == n_trained


@pytest.mark.parametrize("when", [0, BUDGET - 1])
def test_a_trial_that_was_begun_twice_is_put_back_into_the_queue(when, world, data, tmp_path):
    study = Study(tmp_path, data, rungs=())

    def lose_an_answer():
        other = optuna.load_study(study_name="s", storage=study.storage)
        assert other.ask().number == when + 1

    world.after[when, 1] = lose_an_answer
    results = study.run()
    assert len(results) == BUDGET
    assert [one.trial for one in results] == list(range(BUDGET))
    left = [trial.state for trial in study.trials if not trial.state.is_finished()]
    assert left == ([] if when == 0 else [TrialState.WAITING])
