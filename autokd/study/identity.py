"""Which trials of a storage belong to which folder: both have the same mark.

Files in the folder go by the numbers of the trials. Beside trials of another study, or begun anew
at 0, weights and accuracies of one student would be taken for another's.
"""

import re
from dataclasses import dataclass

from optuna.storages import BaseStorage
from optuna.trial import TrialState

from autokd.config import Config, redacted
from autokd.errors import StudyError
from autokd.study.folder import StudyFolder
from autokd.study.records import keep_mark, read_mark
from autokd.study.storages import open_storage

__all__ = ["keep_identity", "open_own_storage"]

_ATTRIBUTE = "autokd_identity"
_NUMBERED = re.compile(r"(?:trial-|final-)?(\d+)[-.]")


@dataclass(frozen=True, kw_only=True)
class _Trials:
    """What a storage has of a study.

    Attributes:
        mark: That of the folder they belong to; empty where they have none.
        n_begun: Trials of every state.
        n_finished: Those that are over.
    """

    mark: str = ""
    n_begun: int = 0
    n_finished: int = 0


def open_own_storage(config: Config, *, folder: StudyFolder) -> BaseStorage:
    """The storage of a session, which has the trials that the folder was filled by; marks nothing.

    A study of before there were marks has none on either side, and one that was killed while it
    was begun only that of the folder: there the numbers tell.

    Args:
        config: Of this session.
        folder: Of the study.

    Returns:
        The storage.

    Raises:
        StudyError: It has other trials under this name, or none any more.
    """
    storage = open_storage(config.storage, runs_dir=config.runs_dir)
    if folder.is_known and folder.load_config().student is not None:
        return storage  # of `autokd distill`, whose settings are no search's: told in those words
    mark, trials = read_mark(folder.path), _read_trials(config.study_name, storage=storage)
    if mark and trials.mark:
        is_ours = mark == trials.mark
    else:
        is_ours = not trials.mark and _agree(folder, trials)
    if not is_ours:
        raise StudyError(_explain(folder, trials))
    return storage


def keep_identity(folder: StudyFolder, config: Config, *, storage: BaseStorage) -> None:
    """Marks folder and trials, which `open_own_storage` has found to belong together.

    Args:
        folder: Of the study, with its settings.
        config: Of this session.
        storage: In which the study has been made.
    """
    mark = keep_mark(folder.path)
    if not _read_trials(config.study_name, storage=storage).mark:
        study_id = storage.get_study_id_from_name(config.study_name)
        storage.set_study_user_attr(study_id, _ATTRIBUTE, mark)


def _read_trials(study: str, *, storage: BaseStorage) -> _Trials:
    """What is known of a study in a storage, be it that there is none."""
    try:
        study_id = storage.get_study_id_from_name(study)
    except KeyError:
        return _Trials()
    return _Trials(
        mark=storage.get_study_user_attrs(study_id).get(_ATTRIBUTE, ""),
        n_begun=storage.get_n_trials(study_id),
        n_finished=storage.get_n_trials(
            study_id, state=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        ),
    )


def _agree(folder: StudyFolder, trials: _Trials) -> bool:
    """Whether a folder may have been filled by these trials, as far as numbers can tell."""
    if trials.n_begun <= max(_numbers(folder), default=-1):
        return False
    n_kept = folder.load_front().n_trials if folder.has_front else 0
    # The front is kept before its last trial ends in the storage: a kill between leaves one more.
    return trials.n_begun == 0 or n_kept - trials.n_finished in (0, 1)


def _numbers(folder: StudyFolder) -> set[int]:
    """Of the trials that something is kept of."""
    names = [
        path.name
        for place in (folder.weights, folder.refits, folder.checkpoints)
        if place.is_dir()
        for path in place.iterdir()
    ]
    return {int(found[1]) for found in map(_NUMBERED.match, names) if found}


def _explain(folder: StudyFolder, trials: _Trials) -> str:
    name = folder.path.name
    if not folder.is_known:
        return (
            f"study `{name}` must have the folder that its {trials.n_begun} trials in the storage "
            f"were trained in, got {folder.path}, which is new; pass the --runs-dir that it was "
            "begun with, or another --study"
        )
    before = folder.load_config().storage or f"journal:{folder.path.parent.parent}/optuna.journal"
    got = f"{trials.n_begun} others" if trials.n_begun else "none"
    return redacted(
        f"study `{name}` must go on with the trials that {folder.path} was filled by, got {got} "
        f"in the storage; pass --storage as before ({before}), put back what was there, or pass "
        "another --study"
    )
