from dataclasses import replace

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from autokd.spaces import build_space
from autokd.study.auto_sampler import AutoSampler
from autokd.study.distributions import build_distribution, read_dimensions
from autokd.study.journal import open_journal
from autokd.study.limits import Limits
from autokd.study.sampling import _identify, build_sampler, first_samples
from autokd.study.trials import Trials, count_trials
from autokd.surrogate import Advice
from autokd.testing import FakeSurveyor
from autokd.types import Dimension, EpochLog, Latency, TrialResult

LATENCY = Latency(
    median_ms=2.0, ci95_low_ms=2.0, ci95_high_ms=2.0, p10_ms=2.0, p90_ms=2.0, n_runs=100, batch=1,
    threads=1, runtime="r", device="d", drift=1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def space():
    return build_space("mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10)


@pytest.fixture
def open_trials(space, tmp_path):
    def open_trials(sampler="random", *, rungs=(), limits=None, storage=None):
        auto = AutoSampler(
            FakeSurveyor(("width_1", "width_2")),
            dimensions=space.dimensions,
            advice=Advice(n_initial=6),
            rungs=rungs,
        )
        return Trials(
            "s",
            storage=storage or open_journal(tmp_path / "o.journal"),
            sampler=build_sampler(sampler, auto=auto, seed=0)
            if isinstance(sampler, str)
            else sampler,
            space=space,
            referee=auto,
            limits=limits,
        )

    return open_trials


def load(tmp_path):
    return optuna.load_study(study_name="s", storage=open_journal(tmp_path / "o.journal"))


def end(trials, trial, one):
    trials.save(trial, one)
    trials.end(trial, one)


def result(trial, sample, state="complete", accuracy=0.9):
    return TrialResult(
        trial=trial.number, state=state, sample=sample, val_accuracy=accuracy, latency=LATENCY
    )


@pytest.mark.parametrize("sampler", ["auto", "tpe", "nsga2", "gp", "random"])
def test_each_sampler_proposes_samples_that_freeze(sampler, open_trials, space):
    sessions = ((5, None), (4, Limits(min_accuracy=0.1)), (4, Limits(max_latency_ms=1.5)))
    for n_trials, limits in sessions:
        trials = open_trials(sampler, limits=limits)
        for number in range(n_trials):
            trial, sample = trials.begin()
            space.freeze(sample)
            latency = replace(LATENCY, median_ms=1.0 + number / 6)
            one = replace(result(trial, sample, accuracy=number / 20), latency=latency)
            end(trials, trial, one)
    assert trials.n_finished == 13


class WatchingSampler(optuna.samplers.RandomSampler):
    """Takes note of the constraints that a sampler sees."""

    def infer_relative_search_space(self, study, trial):
        done = [one for one in study.get_trials(deepcopy=False) if one.state.is_finished()]
        self.seen = {one.number: one.constraints for one in done}
        assert [one.constraints for one in study.get_trials()][: len(done)] == [
            one.constraints for one in done
        ]
        return super().infer_relative_search_space(study, trial)


@pytest.mark.parametrize("kind", ["journal", "database"])
def test_trials_of_earlier_sessions_are_judged_by_the_limits_of_this_one(
    kind, open_trials, tmp_path
):
    def look(limits):
        url = f"sqlite:///{tmp_path}/o.db"
        storage = None if kind == "journal" else optuna.storages.RDBStorage(url)
        sampler = WatchingSampler(seed=0)
        trials = open_trials(sampler, limits=limits, storage=storage)
        trial, sample = trials.begin()
        state = ("complete", "pruned", "failed")[trial.number % 3]
        end(trials, trial, result(trial, sample, state))  # 2 ms, 0.9
        return sampler.seen

    tight, wide = Limits(max_latency_ms=1.5), Limits(max_latency_ms=5.0, min_accuracy=0.95)
    look(tight)
    assert look(tight) == {0: {"latency_ms": 0.5}}
    accurate = {"latency_ms": -3.0, "accuracy": pytest.approx(0.05)}
    assert look(wide) == {0: accurate, 1: {"latency_ms": -3.0}}
    assert look(None) == {0: {}, 1: {}, 2: {}}
    assert look(tight).keys() == set(range(4))


def test_what_others_read_is_how_a_trial_was_judged_when_it_ended(open_trials, tmp_path):
    trials = open_trials(limits=Limits(max_latency_ms=1.5, min_accuracy=0.5))
    trial, sample = trials.begin()
    end(trials, trial, result(trial, sample))
    open_trials(limits=Limits(max_latency_ms=9.0)).begin()
    assert load(tmp_path).trials[0].constraints == {
        "latency_ms": 0.5, "accuracy": pytest.approx(-0.4),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("dimension", "distribution"),
    [
        ({"choices": (1, 2)}, CategoricalDistribution((1, 2))),
        ({"low": 1.0, "high": 12.0, "step": 1.0}, IntDistribution(1, 12)),
        ({"low": 0.0, "high": 1.0, "step": 0.25}, FloatDistribution(0, 1, step=0.25)),
        ({"low": 1.0, "high": 9.0, "is_log": True}, FloatDistribution(1, 9, log=True)),
    ],
)
def test_a_dimension_is_translated(dimension, distribution):
    full = Dimension(label="x", room="recipe", default=1, **dimension)
    assert build_distribution(full) == distribution
    (back,) = read_dimensions({"x": distribution})
    assert build_distribution(back) == distribution


def test_the_first_trials_are_what_a_specialist_would_try(space):
    first = first_samples(space, lambda s: float(sum(p.numel() for p in s.parameters())))
    recipes = [space.freeze(sample)[1] for sample in first]
    assert [recipe.is_distilled for recipe in recipes] == [False, True, True, True]
    sizes = [sum(p.numel() for p in space.freeze(s)[0].parameters()) for s in first]
    assert sizes[0] == sizes[1]
    assert sizes[2] < sizes[0] < sizes[3]


def test_a_session_after_a_kill_proposes_other_samples(space, tmp_path):
    samples = []
    for n_begun in (0, 3, 6):
        storage = open_journal(tmp_path / "o.journal")
        seed = 1000 * count_trials("s", storage=storage)
        assert seed == 1000 * n_begun
        sampler = optuna.samplers.RandomSampler(seed=seed)
        trials = Trials("s", storage=storage, sampler=sampler, space=space)
        samples = [trials.begin()[1] for _ in range(n_begun + 3)]  # those of before come first
    assert len({tuple(sample.items()) for sample in samples}) == 9


def test_queued_samples_come_first_and_are_queued_once(open_trials, space):
    trials = open_trials()
    for _ in range(2):
        trials.enqueue([space.prior("plain"), space.prior("textbook")])
    samples = []
    for _ in range(3):
        trial, sample = trials.begin()
        samples.append(sample)
        end(trials, trial, result(trial, sample))
    assert samples[0]["alpha"] == 0.0
    assert samples[1]["alpha"] == pytest.approx(0.9)
    assert samples[2] not in samples[:2]


def test_a_trial_that_was_cut_off_is_run_again_with_its_number_and_sample(open_trials, tmp_path):
    trials = open_trials()
    trial, sample = trials.begin()
    end(trials, trial, result(trial, sample))
    _, cut_sample = trials.begin()
    again = open_trials()  # another process
    assert [t.state for t in load(tmp_path).trials] == [TrialState.COMPLETE, TrialState.WAITING]
    trial, sample = again.begin()
    assert (trial.number, sample) == (1, cut_sample)
    end(again, trial, result(trial, sample))
    assert [t.state for t in load(tmp_path).trials] == [TrialState.COMPLETE] * 2


def test_what_a_database_has_begun_without_saying_so_is_begun_again(open_trials, space, tmp_path):
    trials = open_trials()
    trials.enqueue([space.prior("plain")])
    other = load(tmp_path)
    assert other.ask().number == 0  # an answer that was lost
    trial, _ = trials.begin()
    assert trial.number == 1
    assert trials.requeue(held=[1]) == [0]
    trial, sample = trials.begin()
    assert (trial.number, sample["alpha"]) == (0, 0.0)
    assert trials.requeue(held=[0, 1]) == []


def test_a_result_that_was_saved_before_the_cut_is_not_computed_again(open_trials):
    trials = open_trials()
    trial, sample = trials.begin()
    trials.save(trial, result(trial, sample))
    again = open_trials()
    trial, sample = again.begin()
    assert again.saved_result(trial) == result(trial, sample)


def test_every_ending_is_kept_with_its_result(open_trials, tmp_path):
    trials = open_trials(limits=Limits(max_latency_ms=1.5, min_accuracy=0.95))
    for state in ("complete", "pruned", "failed"):
        trial, sample = trials.begin()
        end(trials, trial, result(trial, sample, state))
    states = [trial.state for trial in load(tmp_path).trials]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    assert [r.state for r in trials.results()] == ["complete", "pruned", "failed"]
    assert [r.state for r in open_trials().results()] == ["complete", "pruned", "failed"]


def rows(*accuracies):
    return tuple(
        EpochLog(
            epoch=number, train_loss=1.0, val_loss=1.0, val_accuracy=accuracy, learning_rate=0.1,
            alpha=0.5, temperature=4.0, seconds=1.0,
        )
        for number, accuracy in enumerate(accuracies, 1)
    )  # fmt: skip


def stop(trials, *accuracies):
    """A trial that waits at a rung."""
    trial, sample = trials.begin()
    one = replace(result(trial, sample, "stopped", max(accuracies)), curve=rows(*accuracies))
    trials.stop(trial, one)
    return trial, one


def test_a_stopped_trial_stays_stopped_when_the_study_is_opened_again(open_trials, tmp_path):
    trials = open_trials()
    trial, one = stop(trials, 0.3, 0.5)
    trials.begin()  # and cut off
    again = open_trials()
    states = [trial.state for trial in load(tmp_path).trials]
    assert states == [TrialState.RUNNING, TrialState.WAITING]
    assert again.stopped() == {trial.number: one}
    assert again.begin()[0].number == 1


def test_a_stopped_trial_goes_on_and_ends_like_any_other(open_trials, tmp_path):
    trials = open_trials()
    trial, one = stop(trials, 0.3)
    again = open_trials()
    resumed = again.resume(trial.number)
    assert again.stopped() == {}
    whole = replace(one, state="complete", val_accuracy=0.9, curve=rows(0.3, 0.9))
    end(again, resumed, whole)
    assert [t.values for t in load(tmp_path).trials] == [[0.9, 2.0]]
    assert again.results() == [whole]


def test_a_trial_that_is_cut_off_after_it_went_on_is_queued_with_its_result(open_trials):
    trials = open_trials()
    trial, one = stop(trials, 0.3)
    trials.resume(trial.number)
    again = open_trials()
    resumed, _ = again.begin()
    assert (resumed.number, again.saved_result(resumed)) == (trial.number, one)


def test_a_trial_that_is_stopped_for_good_is_pruned_without_breaking_a_constraint(
    open_trials, tmp_path
):
    trials = open_trials(limits=Limits(min_accuracy=0.95))
    trial, one = stop(trials, 0.3)
    end(trials, trials.resume(trial.number), one)
    (frozen,) = load(tmp_path).trials
    assert (frozen.state, frozen.constraints) == (TrialState.PRUNED, {})


@pytest.mark.parametrize("sampler", ["auto", "tpe", "random"])
def test_how_stopped_trials_stand_is_known_whatever_the_sampler(sampler, open_trials):
    trials = open_trials(sampler, rungs=(2,))
    for number in range(6):
        stop(trials, 0.1, 0.1 * number)
    standings = trials.standings()
    assert sorted(one.key for one in standings) == list(range(6))
    assert all(one.is_turn for one in standings)


def test_nothing_stands_without_rungs(open_trials):
    trials = open_trials()
    stop(trials, 0.3)
    assert trials.standings() == []


def test_the_sampler_knows_which_samples_are_the_same(space):
    plain = space.prior("plain")
    same = {**plain, "temperature": 8.0}  # of a teacher that nobody listens to
    other = {**plain, "learning_rate": 0.5 * plain["learning_rate"]}
    wider = {**plain, "width_1": 8}
    assert _identify(space, plain) == _identify(space, same)
    assert len({_identify(space, one) for one in (plain, other, wider)}) == 3


def test_where_precision_is_searched_a_student_in_int8_is_among_the_first():
    open_space = build_space(
        "mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10, precision="both"
    )
    first = first_samples(open_space, lambda s: float(sum(p.numel() for p in s.parameters())))
    assert [one["precision"] for one in first] == ["fp32"] * 4 + ["int8"]
