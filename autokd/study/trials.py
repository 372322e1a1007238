"""The life of a trial in Optuna: every rule about beginning, ending and taking one up again.

- A trial is RUNNING while its candidate is built, measured and trained.
- COMPLETE with two values when it was trained; PRUNED, with a constraint above 0, when it was
  over a limit; FAIL when the candidate failed. The `TrialResult` is a user attribute, saved
  before the state is set, so that a finished trial always has one.
- A trial that is RUNNING when a session begins was cut off (only one process holds the study):
  it goes back to WAITING with the values it had, and is run again under its own number.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import final

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState

from autokd.errors import ConfigError
from autokd.spaces import Space
from autokd.study.distributions import build_distribution
from autokd.study.journal import open_journal
from autokd.types import Latency, Sample, TrialResult, dump_json, load_json

__all__ = ["Trials", "open_storage"]

_RESULT = "result"
_OPEN = (TrialState.RUNNING, TrialState.WAITING)


def open_storage(url: str | None, *, runs_dir: Path) -> BaseStorage:
    """Optuna's storage behind `--storage`.

    Args:
        url: `journal:FILE` or an SQLAlchemy URL; a journal in the runs folder if none.
        runs_dir: Where studies lie.

    Returns:
        The storage.

    Raises:
        ConfigError: It cannot be opened.
    """
    if url is None or url.startswith("journal:"):
        path = runs_dir / "optuna.journal" if url is None else Path(url.removeprefix("journal:"))
        try:
            return open_journal(path)
        except OSError as error:
            raise ConfigError(f"`--storage` must be writable, got {path}: {error}") from error
    try:
        return RDBStorage(url)
    except Exception as error:
        # SQLAlchemy, its drivers and a missing driver's import raise what they like.
        reason = " ".join(str(error).split())
        raise ConfigError(f"`--storage` must be an Optuna storage, got {url}: {reason}") from error


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
    ) -> None:
        """Opens or makes the study; trials that were cut off go back into the queue."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._storage = storage
        self._space = space
        self._study = optuna.create_study(
            storage=storage,
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

    def requeue(self) -> list[int]:
        """Puts trials that were cut off back into the queue; gives their numbers."""
        study_id = self._storage.get_study_id_from_name(self._study.study_name)
        cut_off = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for trial in cut_off:
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
            self._storage.set_trial_state_values(trial_id, TrialState.WAITING)
        return [trial.number for trial in cut_off]

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

    def constrain(self, trial: optuna.Trial, latency: Latency, *, max_latency_ms: float) -> None:
        """Tells the sampler how far over the latency limit a candidate is."""
        trial.set_constraint("latency_ms", latency.median_ms - max_latency_ms)

    def save(self, trial: optuna.Trial, result: TrialResult) -> None:
        """Keeps a result, which `end` makes final."""
        trial.set_user_attr(_RESULT, dump_json(result))

    def end(self, trial: optuna.Trial, result: TrialResult, *, min_accuracy: float | None) -> None:
        """Ends a trial whose result is saved.

        Args:
            trial: As `begin` gave it.
            result: Of any state.
            min_accuracy: The sampler is told how far below it a complete one is.
        """
        if result.state == "complete" and result.latency is not None:
            if min_accuracy is not None:
                trial.set_constraint("accuracy", min_accuracy - (result.val_accuracy or 0.0))
            self._study.tell(trial, [result.val_accuracy or 0.0, result.latency.median_ms])
        elif result.state == "pruned":
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, state=TrialState.FAIL)

    def saved_result(self, trial: optuna.Trial) -> TrialResult | None:
        """The result of a trial that was cut off between its result and its end."""
        text = trial.user_attrs.get(_RESULT)
        return None if text is None else load_json(TrialResult, text)
