"""What Optuna's samplers make of trials that wait at a rung."""

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from autokd.study.auto_sampler import CURVE, STOPPED, AutoSampler
from autokd.study.sampling import build_sampler
from autokd.testing import FakeSurveyor

X = {"x": FloatDistribution(0.0, 1.0)}


def count_large(name: str, *, n_stopped: int) -> int:
    """Of 30 proposals those in the half where all the stopped trials are."""
    study = optuna.create_study(
        sampler=build_sampler(name, auto=AutoSampler(FakeSurveyor(())), seed=0),
        directions=["maximize", "minimize"],
    )
    for step in range(13):  # wherever it is, it is on the front
        x = step / 12
        trial = create_trial(params={"x": x}, distributions=X, values=[x, x])
        study.add_trial(trial)
    for step in range(n_stopped):
        x = 0.5 + 0.5 * (step + 0.5) / n_stopped
        trial = create_trial(
            state=TrialState.RUNNING, params={"x": x}, distributions=X,
            user_attrs={STOPPED: True, CURVE: [0.1]},
        )  # fmt: skip
        study.add_trial(trial)
    large = 0
    for _ in range(30):
        trial = study.ask(X)
        large += trial.params["x"] > 0.5
        study.tell(trial, state=TrialState.FAIL)  # so that it teaches nothing
    return large


def test_tpe_avoids_the_neighbourhood_of_trials_that_were_stopped():
    assert count_large("tpe", n_stopped=20) < count_large("tpe", n_stopped=0) / 2


@pytest.mark.parametrize("name", ["nsga2", "random"])
def test_others_take_no_notice_of_trials_that_were_stopped(name):
    assert count_large(name, n_stopped=20) == count_large(name, n_stopped=0)
