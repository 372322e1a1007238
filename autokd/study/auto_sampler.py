"""The sampler `auto`: autokd's advisor in the shape of Optuna's samplers."""

import dataclasses
import zlib
from collections.abc import Collection, Sequence
from threading import Lock
from typing import Any, final

import optuna
from optuna.distributions import BaseDistribution
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import FrozenTrial, TrialState

from autokd.study.distributions import build_distribution, read_dimensions
from autokd.surrogate import Advice, Advisor, Identify, Lesson, Observation, Standing
from autokd.types import Dimension, Sample, Surveyor

__all__ = ["CURVE", "EPOCH_S", "STOPPED", "AutoSampler", "observe"]

CURVE = "curve"
"""User attribute: the accuracy of a trial after each of its epochs, none where it is unknown."""

EPOCH_S = "epoch_s"
"""User attribute: seconds that an epoch of a trial takes in the mean."""

STOPPED = "is_stopped"
"""User attribute: whether a running trial is not trained at present, and may go on later."""

_IN_TURN = Lock()  # of the threads of a process, as `n_jobs` makes them

_BEGUN = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL)


@final
class AutoSampler(optuna.samplers.BaseSampler):
    """Proposes candidates whose latency is known; models their accuracy only.

    For any study of two objectives, the first an accuracy in [0, 1] to be maximised and the
    second a latency in milliseconds to be minimised. Trials with a constraint above 0 teach the
    model and are not on its front; those that still run count as they will probably end; failed
    and pruned ones are not begun again. Nothing but their parameters, values and constraints is
    read of trials without rungs, so that whoever made them, with whatever sampler, teaches.

    Example:
        ``` python
        study = optuna.create_study(
            directions=["maximize", "minimize"],
            sampler=AutoSampler(my_surveyor, recipe=["learning_rate"]),
        )
        ```
    """

    def __init__(
        self,
        surveyor: Surveyor,
        *,
        dimensions: Sequence[Dimension] = (),
        recipe: Collection[str] = (),
        advice: Advice | None = None,
        rungs: Sequence[int] = (),
        identify: Identify | None = None,
        lessons: Sequence[Lesson] = (),
    ) -> None:
        """Has seen nothing yet.

        Args:
            surveyor: What is known of a sample before it is trained.
            dimensions: What is searched; found in the trials of the study if none, the first of
                which are then drawn at random.
            recipe: Labels of dimensions that are found and that a latency does not depend on, so
                that a network is looked at once whatever they are.
            advice: How to work; its number of rungs is set.
            rungs: Epochs after which a trial may be stopped, ascending.
            identify: Gives the same for samples that are trained in the same way, so that one
                of them is enough.
            lessons: Of earlier studies, the one that is most like this one first.
        """
        self._lessons = tuple(lessons)
        self._identify = identify
        self._surveyor, self._rungs = surveyor, tuple(rungs)
        self._advice = dataclasses.replace(advice or Advice(), n_rungs=len(rungs) + 1)
        self._dimensions, self._recipe = tuple(dimensions), frozenset(recipe)
        self._intersection = IntersectionSearchSpace()
        self._advisor: Advisor | None = None
        self._proposed: dict[int, Sample] = {}

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
        dimensions = self._dimensions or read_dimensions(search_space, recipe=self._recipe)
        with _IN_TURN:
            advisor = self._advise(dimensions)
            observations = self._observe(study, advisor=advisor)
            others = [one for one in observations if one.key != trial.number]
            known = {one.key for one in observations} | {trial.number}
            others += self._begun_meanwhile(study, known)
            others.sort(key=lambda one: one.key)
            proposal = dict(advisor.suggest(others, number=trial.number))
            self._proposed[trial.number] = proposal
            return proposal

    def _begun_meanwhile(self, study: optuna.Study, known: set[int]) -> list[Observation]:
        """What other threads were proposed and have not stored yet: value by value, in a database.

        Args:
            study: Theirs, too.
            known: Numbers of the trials that need not be told.

        Returns:
            One for each.
        """
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        live = {trial.number for trial in running} - known
        self._proposed = {key: one for key, one in self._proposed.items() if key in live}
        return [
            Observation(key=key, sample=sample, state="running")
            for key, sample in self._proposed.items()
        ]

    def standings(self, study: optuna.Study) -> list[Standing]:
        """How the stopped trials of a study stand, the one that is worth most first.

        Args:
            study: Of any sampler; its trials have the dimensions that this one was told.

        Returns:
            One for each stopped trial whose student can be built; none without rungs.

        Raises:
            ValueError: The dimensions were not told.
        """
        if not self._rungs:
            return []
        if not self._dimensions:
            raise ValueError("`dimensions` must be told to AutoSampler with rungs, got none")
        with _IN_TURN:
            advisor = self._advise(self._dimensions)
            return advisor.standings(self._observe(study, advisor=advisor))

    def _advise(self, dimensions: Sequence[Dimension]) -> Advisor:
        """The advisor for these dimensions, with all that it has learnt."""
        if self._advisor is None or self._advisor.dimensions != tuple(dimensions):
            self._advisor = Advisor(
                dimensions,
                self._surveyor,
                advice=self._advice,
                identify=self._identify,
                lessons=self._lessons,
            )
        return self._advisor

    def _observe(self, study: optuna.Study, *, advisor: Advisor) -> list[Observation]:
        labels = {one.label for one in advisor.dimensions}
        return observe(study.get_trials(deepcopy=False), labels=labels, rungs=self._rungs)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:  # noqa: ANN401 - as Optuna has it
        """Anything: only for what no earlier trial has had.

        Args:
            study: Not looked at.
            trial: By whose number it is drawn, so that processes that share a study, and one that
                begins again, do not all draw the same.
            param_name: Of the dimension.
            param_distribution: Of its values.

        Returns:
            A value.
        """
        seed = zlib.crc32(f"{self._advice.seed} {trial.number} {param_name}".encode())
        random = optuna.samplers.RandomSampler(seed=seed)
        return random.sample_independent(study, trial, param_name, param_distribution)


def observe(
    trials: Sequence[FrozenTrial], *, labels: set[str], rungs: Sequence[int] = ()
) -> list[Observation]:
    """What Optuna's trials say.

    Args:
        trials: Of one study.
        labels: Of the dimensions; a trial without one of them says nothing.
        rungs: Epochs after which a trial may be stopped, ascending.

    Returns:
        One for each trial that was begun, by number.
    """
    return [
        _observe(trial, rungs=rungs)
        for trial in trials
        if trial.state in _BEGUN and labels <= trial.params.keys()
    ]


def _observe(trial: FrozenTrial, *, rungs: Sequence[int]) -> Observation:
    reached = _climb(trial.user_attrs.get(CURVE, ()), rungs=rungs)
    epoch_s = trial.user_attrs.get(EPOCH_S)
    sample = dict(trial.params)
    if trial.state is TrialState.COMPLETE and len(reached) == len(rungs):
        return Observation(
            key=trial.number,
            sample=sample,
            state="complete",
            curve=(*reached, trial.values[0]),
            is_able=all(value <= 0 for value in trial.constraints.values()),
            latency_ms=trial.values[1],
            epoch_s=epoch_s,
        )
    is_stopped = bool(trial.user_attrs.get(STOPPED, False))
    open_state = "stopped" if is_stopped else "running"
    state = open_state if trial.state is TrialState.RUNNING else "lost"
    return Observation(key=trial.number, sample=sample, state=state, curve=reached, epoch_s=epoch_s)


def _climb(curve: Sequence[float | None], *, rungs: Sequence[int]) -> tuple[float, ...]:
    """The best accuracy up to each rung, as far as all epochs below are known."""
    reached: list[float] = []
    for rung in rungs:
        known = [value for value in curve[:rung] if value is not None]
        if len(known) < rung:
            break
        reached.append(max(known))
    return tuple(reached)
