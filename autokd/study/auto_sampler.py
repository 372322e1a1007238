"""The sampler `auto`: autokd's advisor in the shape of Optuna's samplers."""

from collections.abc import Sequence
from typing import Any, final

import optuna
from optuna.distributions import BaseDistribution
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import FrozenTrial, TrialState

from autokd.study.distributions import build_distribution, read_dimensions
from autokd.surrogate import Advice, Advisor, Observation
from autokd.types import Dimension, Surveyor

__all__ = ["RUNGS", "AutoSampler", "observe"]

RUNGS = "rungs"
"""User attribute: the accuracies of a trial at the rungs below the last, the lowest first."""

_BEGUN = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL)


@final
class AutoSampler(optuna.samplers.BaseSampler):
    """Proposes candidates whose latency is known; models their accuracy only.

    For any study of two objectives, the first an accuracy in [0, 1] to be maximised and the
    second a latency in milliseconds to be minimised. Trials with a constraint above 0 teach the
    model and are not on its front; those that still run count as they will probably end.

    Example:
        ``` python
        study = optuna.create_study(
            directions=["maximize", "minimize"], sampler=AutoSampler(my_surveyor)
        )
        ```
    """

    def __init__(
        self,
        surveyor: Surveyor,
        *,
        dimensions: Sequence[Dimension] = (),
        advice: Advice | None = None,
    ) -> None:
        """Has seen nothing yet.

        Args:
            surveyor: What is known of a sample before it is trained.
            dimensions: What is searched; found in the trials of the study if none, the first of
                which are then drawn at random.
            advice: How to work.
        """
        self._surveyor, self._advice = surveyor, advice or Advice()
        self._dimensions = tuple(dimensions)
        self._intersection = IntersectionSearchSpace()
        self._advisor: Advisor | None = None
        self._random = optuna.samplers.RandomSampler(seed=self._advice.seed)

    def infer_relative_search_space(
        self,
        study: optuna.Study,
        trial: FrozenTrial,  # noqa: ARG002 - as Optuna has it
    ) -> dict[str, BaseDistribution]:
        """All that is searched, together.

        Args:
            study: Of two objectives.
            trial: Not looked at.

        Returns:
            Label to distribution; empty where nothing is known yet.

        Raises:
            ValueError: The study has other objectives.
        """
        wanted = [optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE]
        if study.directions != wanted:
            names = [direction.name.lower() for direction in study.directions]
            raise ValueError(
                f"`directions` must be maximize, minimize for AutoSampler, got {names}"
            )
        if self._dimensions:
            return {one.label: build_distribution(one) for one in self._dimensions}
        return self._intersection.calculate(study)

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """The candidate of the highest expected gain at its latency.

        Args:
            study: Whose trials teach.
            trial: That it is for.
            search_space: As it was inferred.

        Returns:
            Label to value.
        """
        if not search_space:
            return {}
        dimensions = self._dimensions or read_dimensions(search_space)
        if self._advisor is None or self._advisor.dimensions != dimensions:
            self._advisor = Advisor(dimensions, self._surveyor, advice=self._advice)
        labels = {one.label for one in dimensions}
        known = [one for one in study.get_trials(deepcopy=False) if one.number != trial.number]
        return dict(self._advisor.suggest(observe(known, labels=labels)))

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:  # noqa: ANN401 - as Optuna has it
        """Anything: only for what no earlier trial has had."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def observe(trials: Sequence[FrozenTrial], *, labels: set[str]) -> list[Observation]:
    """What Optuna's trials say.

    Args:
        trials: Of one study.
        labels: Of the dimensions; a trial without one of them says nothing.

    Returns:
        One for each trial that was begun, by number.
    """
    return [
        _observe(trial)
        for trial in trials
        if trial.state in _BEGUN and labels <= trial.params.keys()
    ]


def _observe(trial: FrozenTrial) -> Observation:
    rungs = tuple(trial.user_attrs.get(RUNGS, ()))
    if trial.state is TrialState.COMPLETE:
        return Observation(
            key=trial.number,
            sample=dict(trial.params),
            state="complete",
            curve=(*rungs, trial.values[0]),
            is_able=all(value <= 0 for value in trial.constraints.values()),
        )
    state = "running" if trial.state is TrialState.RUNNING else "lost"
    return Observation(key=trial.number, sample=dict(trial.params), state=state, curve=rungs)
