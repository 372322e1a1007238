import math
import runpy
import warnings
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from autokd.study.auto_sampler import CURVE, STOPPED, AutoSampler, observe
from autokd.study.distributions import build_distribution, read_dimensions
from autokd.surrogate import Advice
from autokd.testing import FakeSurveyor
from autokd.types import Dimension, Prospect

EXAMPLE = Path(__file__).parents[3] / "examples/sampler_in_your_study.py"
LABELS = ("depth", "width")
DIMENSIONS = tuple(
    Dimension(label=label, room="architecture", choices=tuple(range(6)), default=0)
    for label in LABELS
)


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def build_study(sampler):
    return optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)


def objective(trial):
    depth, width = (trial.suggest_categorical(label, list(range(6))) for label in LABELS)
    accuracy = 0.9 - 0.5 * math.exp(-1.2 * math.log(1 + depth) - 0.6 * math.log(1 + width))
    return accuracy, float((1 + depth) * (1 + width))


@pytest.mark.parametrize("dimensions", [DIMENSIONS, ()])
def test_it_works_in_anybodys_study(dimensions):
    sampler = AutoSampler(FakeSurveyor(LABELS), dimensions=dimensions, advice=Advice(n_initial=5))
    study = build_study(sampler)
    study.optimize(objective, n_trials=15)
    depths = [trial.params["depth"] - trial.params["width"] for trial in study.trials[8:]]
    assert sum(depths) > 0  # depth is worth more at the same latency
    assert len({tuple(trial.params.values()) for trial in study.trials[1:]}) == 14


def test_processes_that_share_a_study_do_not_begin_alike():
    study = build_study(AutoSampler(FakeSurveyor(LABELS)))
    begun = []
    for _ in range(6):  # each a process of its own, that knows of no trial which has ended
        study.sampler = AutoSampler(FakeSurveyor(LABELS))
        trial = study.ask()
        begun.append(tuple(trial.suggest_categorical(label, list(range(6))) for label in LABELS))
    assert len(set(begun)) > 3


def test_it_understands_ranges_it_was_not_told_of():
    def objective(trial):
        rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
        count = trial.suggest_int("count", 1, 9, step=2)
        return 0.9 - 0.1 * abs(math.log10(rate) + 2), float(count)

    study = build_study(AutoSampler(FakeSurveyor(("count",)), advice=Advice(n_initial=4)))
    study.optimize(objective, n_trials=12)
    assert all(trial.state is TrialState.COMPLETE for trial in study.trials)


def rate_objective(trial):
    rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    count = trial.suggest_int("count", 4, 64, log=True)
    trial.suggest_int("single", 3, 3)
    return 0.9 - 0.1 * abs(math.log10(rate) + 2) - 1 / count, float(count)


def test_a_network_is_looked_at_once_whatever_its_recipe_is():
    surveyor = FakeSurveyor(("count",))
    sampler = AutoSampler(surveyor, recipe=["rate"], advice=Advice(n_initial=4))
    study = build_study(sampler)
    study.optimize(rate_objective, n_trials=7)
    counts = [sample["count"] for sample in surveyor.surveyed]
    assert all(isinstance(count, int) for count in counts)
    assert len(set(counts)) == len(counts)
    assert {sample["single"] for sample in surveyor.surveyed} == {3}


def test_trials_of_any_other_sampler_teach():
    study = build_study(optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=12)
    study.sampler = AutoSampler(FakeSurveyor(LABELS), advice=Advice(n_initial=5))
    study.optimize(objective, n_trials=6)
    depths = [trial.params["depth"] - trial.params["width"] for trial in study.trials[12:]]
    assert sum(depths) > 0


def test_threads_of_one_process_share_a_sampler():
    study = build_study(AutoSampler(FakeSurveyor(LABELS), advice=Advice(n_initial=3)))
    study.optimize(objective, n_trials=8, n_jobs=3)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 8


def test_what_another_thread_has_not_stored_yet_is_not_proposed_again():
    sampler = AutoSampler(FakeSurveyor(LABELS), dimensions=DIMENSIONS, advice=Advice(n_initial=3))
    study = build_study(sampler)
    study.optimize(objective, n_trials=6)
    space, proposals = {one.label: build_distribution(one) for one in DIMENSIONS}, []
    for _ in range(4):  # asked for by four threads, each value of which is stored later
        trial = study.ask()
        frozen = study.trials[trial.number]
        proposals.append(tuple(sampler.sample_relative(study, frozen, space).values()))
    assert len(set(proposals)) == 4
    for number in range(6, 10):
        study.tell(number, state=TrialState.FAIL)
    study.optimize(objective, n_trials=1)
    assert not sampler._begun_meanwhile(study, set()), "what has ended is forgotten"


def test_a_surveyor_may_know_latencies_alone():
    class Bare:
        def survey(self, samples):
            return [
                Prospect(latency_ms=float((1 + one["depth"]) * (1 + one["width"])), traits=())
                for one in samples
            ]

    study = build_study(AutoSampler(Bare(), dimensions=DIMENSIONS, advice=Advice(n_initial=3)))
    study.optimize(objective, n_trials=8)
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}


def test_a_choice_that_is_no_plain_value_is_refused():
    kind = optuna.distributions.CategoricalDistribution([None, 0.1])
    with pytest.raises(TypeError, match=r"`dropout` must have choices of text.* got None; write"):
        read_dimensions({"dropout": kind})


def test_integers_that_are_searched_in_their_logarithm_stay_so():
    kind = optuna.distributions.IntDistribution(4, 64, log=True)
    (dimension,) = read_dimensions({"count": kind}, recipe=["count"])
    assert dimension.room == "recipe"
    assert build_distribution(dimension) == kind


def test_a_latency_of_nothing_is_refused():
    class Hasty:
        def survey(self, samples):
            return [Prospect(latency_ms=0.0, traits=(1.0,)) for _ in samples]

    sampler = AutoSampler(Hasty(), dimensions=DIMENSIONS)
    with pytest.raises(ValueError, match=r"`latency_ms` must be positive, got 0\.0 for"):
        build_study(sampler).ask().suggest_categorical("depth", list(range(6)))


def test_the_example_finds_a_front(capsys):
    study = runpy.run_path(str(EXAMPLE))["main"](12)
    assert len(study.trials) == 12
    assert len(study.best_trials) == len(capsys.readouterr().out.splitlines()) >= 1
    assert max(trial.values[0] for trial in study.trials) > 0.8


def test_other_objectives_are_refused():
    study = optuna.create_study(direction="maximize", sampler=AutoSampler(FakeSurveyor(LABELS)))
    with pytest.raises(ValueError, match="must be maximize, minimize for AutoSampler"):
        study.ask().suggest_float("x", 0, 1)


def test_trials_are_read_as_they_ended():
    study = build_study(optuna.samplers.RandomSampler(seed=0))
    kinds = {label: optuna.distributions.CategoricalDistribution(range(6)) for label in LABELS}
    ends = {
        "complete": lambda trial: study.tell(trial, [0.8, 2.0]),
        "unable": lambda trial: study.tell(trial, [0.9, 2.0]),
        "pruned": lambda trial: study.tell(trial, state=TrialState.PRUNED),
        "failed": lambda trial: study.tell(trial, state=TrialState.FAIL),
        "running": lambda _: None,
        "stopped": lambda trial: trial.set_user_attr(STOPPED, True),
    }
    for name, end in ends.items():
        trial = study.ask(kinds)
        trial.set_user_attr(CURVE, [0.4, 0.5, 0.3, 0.7] if name != "running" else [0.4, None])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial.set_constraint("accuracy", 1.0 if name == "unable" else -1.0)
        end(trial)
    study.ask()  # begun elsewhere, and nothing suggested yet
    seen = observe(study.get_trials(), labels=set(LABELS), rungs=(1, 3))
    states = ["complete", "complete", "lost", "lost", "running", "stopped"]
    assert [one.state for one in seen] == states
    low = (0.4, 0.5)
    assert [one.curve for one in seen] == [(*low, 0.8), (*low, 0.9), low, low, (0.4,), low]
    assert [one.is_able for one in seen] == [True, False, True, True, True, True]


def test_a_study_with_rungs_says_how_its_stopped_trials_stand():
    auto = AutoSampler(
        FakeSurveyor(LABELS), dimensions=DIMENSIONS, advice=Advice(n_initial=4), rungs=(1,)
    )
    study = build_study(auto)
    kinds = {one.label: build_distribution(one) for one in DIMENSIONS}
    for number in range(8):
        trial = study.ask(kinds)
        trial.set_user_attr(CURVE, [0.1 * number])
        trial.set_user_attr(STOPPED, True)
    standings = auto.standings(study)
    assert sorted(one.key for one in standings) == list(range(8))
    assert all(one.is_turn and not one.is_foreseen for one in standings)
    best = max(standings, key=lambda one: one.gain)
    assert standings[0] == best
    assert AutoSampler(FakeSurveyor(LABELS)).standings(study) == []
