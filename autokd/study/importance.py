"""How much each dimension matters for each objective, by Optuna's importance."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial

from autokd.study.distributions import build_distribution
from autokd.types import Dimension, TrialResult

__all__ = ["measure_importance"]

_OF_THE_FILE = frozenset({"precision"})  # of the recipe, but part of what is timed
_MOST = 300  # trials; beyond, evenly spread ones: a forest of 200 takes 5 s
_LEAST = 6  # trials; of fewer, a forest tells nothing


def measure_importance(
    results: Sequence[TrialResult], *, dimensions: Sequence[Dimension], seed: int
) -> dict[str, dict[str, float]]:
    """The share of each dimension in the variance of each objective, by functional ANOVA.

    Accuracies are those of trials that were trained to their end; latencies (their logarithms)
    those of all that were measured, of which only what a network is built of can be the reason.

    Args:
        results: Of a study.
        dimensions: That were searched.
        seed: Of the forest.

    Returns:
        `accuracy` and `latency` to label to a share in [0, 1], the shares of an objective adding
        up to 1. An objective is left out that is known of fewer than 6 trials or is the same in
        all of them.

    References:
        Hutter, Hoos & Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter
        Importance", ICML 2014. https://proceedings.mlr.press/v32/hutter14.html
    """
    trained = [result for result in results if result.state == "complete"]
    objectives: dict[str, tuple[Sequence[TrialResult], Callable[[TrialResult], float | None]]] = {
        "accuracy": (trained, lambda result: result.val_accuracy),
        "latency": (
            results,
            lambda result: None if result.latency is None else math.log(result.latency.median_ms),
        ),
    }
    found: dict[str, dict[str, float]] = {}
    for name, (known, value_of) in objectives.items():
        pairs = [(one.sample, value) for one in known if (value := value_of(one)) is not None]
        pairs = pairs[:: -(-len(pairs) // _MOST) or 1]
        if len(pairs) >= _LEAST and len({value for _, value in pairs}) > 1:
            able = [one for one in dimensions if name == "accuracy" or _is_built_in(one)]
            found[name] = _measure(pairs, dimensions=able, seed=seed)
    return {name: shares for name, shares in found.items() if shares}


def _is_built_in(dimension: Dimension) -> bool:
    """Whether the latency of a network can depend on it."""
    return dimension.room == "architecture" or dimension.label in _OF_THE_FILE


def _measure(
    pairs: Sequence[tuple[Mapping[str, object], float]],
    *,
    dimensions: Sequence[Dimension],
    seed: int,
) -> dict[str, float]:
    """Shares of the dimensions that every sample has."""
    shared = [one for one in dimensions if all(one.label in sample for sample, _ in pairs)]
    distributions = {one.label: build_distribution(one) for one in shared}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study()
        study.add_trials([_build_trial(s, value, distributions) for s, value in pairs])
        evaluator = FanovaImportanceEvaluator(seed=seed)
        shares = get_param_importances(study, evaluator=evaluator, params=list(distributions))
    return {label: float(share) for label, share in shares.items()}


def _build_trial(
    sample: Mapping[str, object],
    value: float,
    distributions: Mapping[str, optuna.distributions.BaseDistribution],
) -> FrozenTrial:
    params = {label: sample[label] for label in distributions}
    return optuna.trial.create_trial(params=params, distributions=dict(distributions), value=value)
