"""How much each dimension matters for each objective, by Optuna's importance."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Literal

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial

from autokd.reports import Importance
from autokd.study.distributions import build_distribution
from autokd.types import Dimension, TrialResult

__all__ = ["measure_importance"]

_OF_THE_FILE = frozenset({"precision"})  # of the recipe, but part of what is timed
_MOST = 300  # trials; beyond, evenly spread ones: a forest of 200 takes 5 s
_LEAST = 6  # trials; of fewer, a forest tells nothing


def measure_importance(
    results: Sequence[TrialResult], *, dimensions: Sequence[Dimension], seed: int
) -> list[Importance]:
    """The share of each dimension in the variance of each objective, by functional ANOVA.

    Accuracies are those of trials that were trained to their end; latencies (their logarithms)
    those of all that were measured, of which only what a network is built of can be the reason.

    Args:
        results: Of a study.
        dimensions: That were searched.
        seed: Of the forest.

    Returns:
        Of `accuracy` and `latency`; an objective is left out that is known of fewer than 6 trials
        or is the same in all of them.

    References:
        Hutter, Hoos & Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter
        Importance", ICML 2014. https://proceedings.mlr.press/v32/hutter14.html
    """
    trained = [result for result in results if result.state == "complete"]
    accuracies = [(r.sample, r.val_accuracy) for r in trained if r.val_accuracy is not None]
    latencies = [
        (r.sample, math.log(r.latency.median_ms)) for r in results if r.latency is not None
    ]
    built = [one for one in dimensions if _is_built_in(one)]
    found = [
        _measure("accuracy", accuracies, dimensions=dimensions, seed=seed),
        _measure("latency", latencies, dimensions=built, seed=seed),
    ]
    return [one for one in found if one is not None and one.shares]


def _is_built_in(dimension: Dimension) -> bool:
    """Whether the latency of a network can depend on it."""
    return dimension.room == "architecture" or dimension.label in _OF_THE_FILE


def _measure(
    objective: Literal["accuracy", "latency"],
    pairs: Sequence[tuple[Mapping[str, object], float]],
    *,
    dimensions: Sequence[Dimension],
    seed: int,
) -> Importance | None:
    """Shares of the dimensions that every sample has."""
    if len(pairs) < _LEAST or len({value for _, value in pairs}) < 2:
        return None
    pairs = pairs[:: -(-len(pairs) // _MOST)]
    shared = [one for one in dimensions if all(one.label in sample for sample, _ in pairs)]
    distributions = {one.label: build_distribution(one) for one in shared}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study()
        study.add_trials([_build_trial(s, value, distributions) for s, value in pairs])
        evaluator = FanovaImportanceEvaluator(seed=seed)
        shares = get_param_importances(study, evaluator=evaluator, params=list(distributions))
    return Importance(
        objective=objective,
        n_trials=len(pairs),
        shares={label: float(share) for label, share in shares.items()},
    )


def _build_trial(
    sample: Mapping[str, object],
    value: float,
    distributions: Mapping[str, optuna.distributions.BaseDistribution],
) -> FrozenTrial:
    params = {label: sample[label] for label in distributions}
    return optuna.trial.create_trial(params=params, distributions=dict(distributions), value=value)
