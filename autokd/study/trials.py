"""The life of a trial in Optuna: every rule about beginning, ending and taking one up again.

- A trial is RUNNING while its candidate is built, measured and trained.
- COMPLETE with two values when it was trained; PRUNED, with a constraint above 0, when it was
  over a limit; PRUNED without one when it was stopped at a rung for good; FAIL when the
  candidate failed. The `TrialResult` is a user attribute, saved before the state is set, so
  that a finished trial always has one.
- Samplers see constraints that follow from the result and the limits of this session. Those that
  Optuna keeps are of the session in which the trial ended, and for whoever else reads the study.
- A trial that is stopped at a rung stays RUNNING, marked as stopped, as long as it may go on.
- A trial that is RUNNING and not stopped when a session begins was cut off (only one process
  holds the study): it goes back to WAITING with the values it had and the result so far, and
  goes on under its own number from its last checkpoint.
"""

import statistics
import warnings
from collections.abc import Collection, Sequence
from typing import final

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from autokd.spaces import Space
from autokd.study.auto_sampler import CURVE, EPOCH_S, STOPPED, AutoSampler
from autokd.study.distributions import build_distribution
from autokd.study.judged_storage import build_judged_storage
from autokd.study.limits import Limits
from autokd.surrogate import Standing
from autokd.types import EpochLog, Sample, TrialResult, dump_json, load_json

__all__ = ["Trials", "count_trials", "read_results"]

_RESULT = "result"
_OPEN = (TrialState.RUNNING, TrialState.WAITING)


def count_trials(study: str, *, storage: BaseStorage) -> int:
    """Trials of any state, those that were only begun among them.

    Args:
        study: Its name.
        storage: Where it lies.

    Returns:
        0 where there is no such study yet.
    """
    try:
        study_id = storage.get_study_id_from_name(study)
    except KeyError:
        return 0
    return storage.get_n_trials(study_id)


def read_results(study: str, *, storage: BaseStorage) -> list[TrialResult]:
    """What is known of the finished trials of a study, which is left as it is.

    Args:
        study: Its name.
        storage: Where it lies.

    Returns:
        By number; nothing where there is no such study.
    """
    try:
        study_id = storage.get_study_id_from_name(study)
    except KeyError:
        return []
    return [
        load_json(TrialResult, trial.user_attrs[_RESULT])
        for trial in storage.get_all_trials(study_id, deepcopy=False)
        if trial.state not in _OPEN
    ]


@final
class Trials:
    """One study in Optuna, as the search needs it."""

    def __init__(
        self,
        name: str,
        *,
        storage: BaseStorage,
        sampler: optuna.samplers.BaseSampler,
        space: Space,
        referee: AutoSampler | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Opens or makes the study; trials that were cut off go back into the queue.

        Args:
            name: Of the study.
            storage: Where it lies.
            sampler: Asked for what is not in the queue.
            space: The joint space.
            referee: Tells how stopped trials stand; none are stopped without one.
            limits: Of this session, by which the sampler judges earlier trials too; none if none.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._storage = storage
        self._space, self._referee, self._limits = space, referee, limits or Limits()
        self._study = optuna.create_study(
            storage=build_judged_storage(storage, self._judge),
            study_name=name,
            sampler=sampler,
            directions=["maximize", "minimize"],
            load_if_exists=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.set_metric_names(["val_accuracy", "latency_ms"])
        self._distributions = {
            dimension.label: build_distribution(dimension) for dimension in space.dimensions
        }
        self.requeue()

    def requeue(self, *, held: Collection[int] = ()) -> list[int]:
        """Puts trials that were cut off back into the queue; gives their numbers.

        Args:
            held: Trials that are being trained.

        Returns:
            Those that an earlier session has left, and those that a database has begun whose
            answer was lost, so that it was asked twice.
        """
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        cut_off = [
            trial.number
            for trial in running
            if not trial.user_attrs.get(STOPPED) and trial.number not in held
        ]
        for number in cut_off:
            self._storage.set_trial_state_values(self._id_of(number), TrialState.WAITING)
        return cut_off

    def stopped(self) -> dict[int, TrialResult]:
        """What is known of each trial that is stopped and may go on, by its number."""
        return {
            trial.number: load_json(TrialResult, trial.user_attrs[_RESULT])
            for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if trial.user_attrs.get(STOPPED)
        }

    def standings(self) -> list[Standing]:
        """How the stopped trials stand, the one that is worth most first."""
        return [] if self._referee is None else self._referee.standings(self._study)

    def enqueue(self, samples: Sequence[Sample]) -> None:
        """Puts samples into the queue; one that was put there before is not put there again."""
        for sample in samples:
            self._study.enqueue_trial(sample, skip_if_exists=True)

    @property
    def n_finished(self) -> int:
        """Trials of every finished state."""
        return len(self.results())

    def results(self) -> list[TrialResult]:
        """What is known of each finished trial, by number."""
        return [
            load_json(TrialResult, trial.user_attrs[_RESULT])
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state not in _OPEN
        ]

    def begin(self) -> tuple[optuna.Trial, Sample]:
        """The next trial: from the queue, else from the sampler."""
        trial = self._study.ask(self._distributions)
        return trial, self._space.complete(trial.params)

    def save(self, trial: optuna.Trial, result: TrialResult) -> None:
        """Keeps a result, which `end` makes final."""
        if result.curve:
            trial.set_user_attr(CURVE, _accuracies(result.curve))
            mean_s = statistics.fmean(row.seconds for row in result.curve)
            trial.set_user_attr(EPOCH_S, mean_s)
        trial.set_user_attr(_RESULT, dump_json(result))

    def stop(self, trial: optuna.Trial, result: TrialResult) -> None:
        """Keeps a trial that is not trained on for now.

        Args:
            trial: A running one.
            result: As far as it came.
        """
        self.save(trial, result)
        trial.set_user_attr(STOPPED, value=True)

    def resume(self, number: int) -> optuna.Trial:
        """A stopped trial, which is trained again."""
        trial = self.find(number)
        trial.set_user_attr(STOPPED, value=False)
        return trial

    def find(self, number: int) -> optuna.Trial:
        """A stopped trial, which stays stopped until it is ended."""
        return optuna.Trial(self._study, self._id_of(number))

    def end(self, trial: optuna.Trial, result: TrialResult) -> None:
        """Ends a trial whose result is saved.

        Args:
            trial: As `begin` gave it.
            result: Of any state.
        """
        for name, value in self._limits.judge(result).items():
            if name not in trial.constraints:  # else it was cut off right here
                trial.set_constraint(name, value)
        if result.state == "complete" and result.latency is not None:
            self._study.tell(trial, [result.val_accuracy or 0.0, result.latency.median_ms])
        elif result.state in ("pruned", "stopped"):
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, state=TrialState.FAIL)

    def saved_result(self, trial: optuna.Trial) -> TrialResult | None:
        """What a trial that was cut off had come to; none where it was not even measured."""
        text = trial.user_attrs.get(_RESULT)
        return None if text is None else load_json(TrialResult, text)

    def _judge(self, trial: FrozenTrial) -> dict[str, float]:
        text = trial.user_attrs.get(_RESULT)
        return {} if text is None else self._limits.judge(load_json(TrialResult, text))

    def _id_of(self, number: int) -> int:
        study_id = self._storage.get_study_id_from_name(self._study.study_name)
        return self._storage.get_trial_id_from_study_id_trial_number(study_id, number)


def _accuracies(curve: Sequence[EpochLog]) -> list[float | None]:
    """By epoch, none where an epoch is not known."""
    known = {row.epoch: row.val_accuracy for row in curve}
    return [known.get(epoch) for epoch in range(1, max(known) + 1)]
