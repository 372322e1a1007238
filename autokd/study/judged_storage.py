"""Optuna's storage as the samplers of a session see it: trials judged by the limits of today.

Optuna keeps the constraints of a trial with it and lets nobody change a finished trial, but the
limits of a study may be others when it goes on.
"""

import abc
import copy
from collections.abc import Callable, Container, Mapping
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

__all__ = ["Judge", "build_judged_storage"]

Judge = Callable[[FrozenTrial], Mapping[str, float]]
"""The constraints of a finished trial by name, above 0 where they are missed."""

_PREFIX = "constraints"  # of Optuna's system attributes


class _JudgedStorage(BaseStorage):
    """Passes everything on but finished trials; the methods that only do so are added below."""

    def __init__(self, storage: BaseStorage, judge: Judge) -> None:
        self._storage, self._judge = storage, judge
        self._judged: dict[tuple[int, int], FrozenTrial] = {}  # what is finished never changes

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,  # noqa: FBT001, FBT002 - as Optuna has it
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        trials = self._storage.get_all_trials(study_id, deepcopy=False, states=states)
        seen = [
            self._hold_to_limits(study_id, trial) if trial.state.is_finished() else trial
            for trial in trials
        ]
        return copy.deepcopy(seen) if deepcopy else seen

    def _hold_to_limits(self, study_id: int, trial: FrozenTrial) -> FrozenTrial:
        key = study_id, trial.number
        if key not in self._judged:
            judged, attributes = copy.copy(trial), trial.system_attrs
            judged.system_attrs = {
                name: value for name, value in attributes.items() if not name.startswith(_PREFIX)
            }
            for name, value in self._judge(trial).items():
                judged.set_constraint(name, value)
            self._judged[key] = judged
        return self._judged[key]


def _passed_on(name: str) -> Callable[..., Any]:
    def call(self: Any, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever it is
        return getattr(self._storage, name)(*arguments, **options)

    return call


for _name in vars(BaseStorage):
    if not _name.startswith("_") and _name != "get_all_trials":
        setattr(_JudgedStorage, _name, _passed_on(_name))
abc.update_abstractmethods(_JudgedStorage)


def build_judged_storage(storage: BaseStorage, judge: Judge) -> BaseStorage:
    """A storage whose finished trials have the constraints of today, whatever they were told.

    Args:
        storage: Where the study lies; what is written goes there.
        judge: Called once for each finished trial.

    Returns:
        What a study is to be opened with for a sampler.
    """
    cached = optuna.storages.get_storage(storage)  # a database is asked again and again without
    return _JudgedStorage(cached, judge)  # type: ignore[abstract]
