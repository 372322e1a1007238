"""What earlier studies teach: found in a runs folder or a storage, checked, read."""

import dataclasses
from collections.abc import Sequence
from typing import final

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from autokd.candidate import describe_student
from autokd.config import Config
from autokd.errors import ConfigError, StudyError
from autokd.spaces import Space
from autokd.study.auto_sampler import CURVE, STOPPED, observe
from autokd.study.distributions import read_dimensions
from autokd.study.folder import StudyFolder, list_studies
from autokd.study.refits import load_refits
from autokd.study.storages import open_storage
from autokd.surrogate import Lesson, Noise
from autokd.types import Recipe, TrialResult, load_json

__all__ = ["EarlierStudy", "choose_noise", "read_earlier"]

_RESULT = "result"
_LEAST = 2  # trials, to learn of them
_LACKING = (
    "`--learn-from {name}` must have two finished trials at least, got fewer; "
    "learn from another study or search it first"
)
_ENOUGH = 4  # degrees of freedom, to do without another study's


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class EarlierStudy:
    """A study that another one learns from.

    Attributes:
        name: Of the study.
        trials: That have told an accuracy, by number.
        rungs: Epochs after which its trials were stopped.
        noise: What its finals tell of seeds.
    """

    name: str
    trials: tuple[FrozenTrial, ...]
    rungs: tuple[int, ...]
    noise: Noise

    def teach(self, space: Space) -> Lesson:
        """What it has found, for a study of the same space.

        Args:
            space: Of the new study.

        Returns:
            Each of its trials that can be compared.

        Raises:
            StudyError: It has searched another space, or nothing of it can be compared.
        """
        distributions = {k: v for trial in self.trials for k, v in trial.distributions.items()}
        dimensions = read_dimensions(distributions)
        known = [load_json(TrialResult, trial.user_attrs[_RESULT]) for trial in self.trials]
        _check_labels(self.name, set(known[0].sample), space=space)
        prospects = [describe_student(one) for one in known]
        if not {one.label for one in dimensions} & {one.label for one in space.dimensions}:
            raise StudyError(
                f"`--learn-from {self.name}` must have searched a dimension that this study "
                "searches, got none in common; learn from another study"
            )
        labels = set(distributions)
        curves = {
            one.key: one.curve for one in observe(self.trials, labels=labels, rungs=self.rungs)
        }
        usable = [
            (result.sample, prospect, curves[trial.number])
            for trial, result, prospect in zip(self.trials, known, prospects, strict=True)
            if prospect is not None and curves.get(trial.number)
        ]
        if len(usable) < _LEAST:
            raise StudyError(_LACKING.format(name=self.name))
        samples, described, told = zip(*usable, strict=True)
        return Lesson(
            dimensions=dimensions,
            samples=tuple(samples),
            prospects=tuple(described),
            curves=tuple(told),
            n_rungs=len(self.rungs) + 1,
        )


def read_earlier(config: Config, *, storage: BaseStorage) -> list[EarlierStudy]:
    """The studies of `--learn-from`, as far as can be told without data.

    Args:
        config: Of the new study.
        storage: Of the new study, where others may lie too.

    Returns:
        One for each, in the order in which they were named.

    Raises:
        StudyError: One is the study itself, is not known, or has no trials to learn from.
    """
    found: list[EarlierStudy] = []
    for name in config.learn_from:
        if name == config.study_name:
            raise StudyError(
                f"`--learn-from` must name another study than --study, got {name}; "
                "a study goes on with what it knows by itself"
            )
        found.append(_read(name, config=config, storage=storage))
    return found


def _read(name: str, *, config: Config, storage: BaseStorage) -> EarlierStudy:
    folder = StudyFolder(config.runs_dir / "studies" / name)
    trials = _load_trials(name, folder=folder, config=config, storage=storage)
    told = tuple(trial for trial in trials if _has_told(trial))
    if sum(trial.state is TrialState.COMPLETE for trial in told) < _LEAST:
        raise StudyError(_LACKING.format(name=name))
    return EarlierStudy(name=name, trials=told, rungs=_find_rungs(told), noise=_read_noise(folder))


def _load_trials(
    name: str, *, folder: StudyFolder, config: Config, storage: BaseStorage
) -> list[FrozenTrial]:
    """From the storage of the new study, else from that which the earlier one has noted."""
    storages = [storage]
    if folder.is_known:
        before = folder.load_config().storage
        if before != config.storage:
            try:
                storages.append(open_storage(before, runs_dir=config.runs_dir))
            except ConfigError as error:
                raise StudyError(
                    f"`--learn-from {name}` must lie in a storage that can be opened: {error}"
                ) from error
    for one in storages:
        try:
            return optuna.load_study(study_name=name, storage=one).get_trials(deepcopy=False)
        except KeyError:
            continue
    known = ", ".join(list_studies(config.runs_dir)[:5]) or "none"
    raise StudyError(
        f"`--learn-from` must be a study in {config.runs_dir} or in the storage, got {name}; "
        f"known in {config.runs_dir}: {known}"
    )


def _has_told(trial: FrozenTrial) -> bool:
    """Whether it was trained, to the end or to a rung, and told of it."""
    if _RESULT not in trial.user_attrs:
        return False
    is_whole = trial.state is TrialState.COMPLETE
    return is_whole or (trial.state is not TrialState.FAIL and bool(trial.user_attrs.get(CURVE)))


def _find_rungs(trials: Sequence[FrozenTrial]) -> tuple[int, ...]:
    """Epochs that trials were stopped at, two of them at least: others were cut off by chance."""
    lengths = [len(trial.user_attrs[CURVE]) for trial in trials if _is_stopped(trial)]
    whole = max(len(t.user_attrs.get(CURVE, ())) for t in trials if t.state is TrialState.COMPLETE)
    return tuple(sorted({n for n in lengths if lengths.count(n) >= _LEAST and n < whole}))


def _is_stopped(trial: FrozenTrial) -> bool:
    """Whether it waits at a rung or has ended there: Ctrl-C cuts off several at once elsewhere."""
    if trial.state is TrialState.RUNNING:
        return bool(trial.user_attrs.get(STOPPED))
    result = load_json(TrialResult, trial.user_attrs[_RESULT])
    return trial.state is TrialState.PRUNED and result.state == "stopped"


def _check_labels(name: str, theirs: set[str], *, space: Space) -> None:
    """Networks are compared by their labels; one space may have more stages than the other."""
    ours = set(space.architecture_of(space.complete({})))
    recipe = {one.name for one in dataclasses.fields(Recipe)}
    recipe |= set(space.complete({})) - ours
    theirs = theirs - recipe
    if not ours <= theirs and not theirs <= ours:
        raise StudyError(
            f"`--learn-from {name}` must have searched the space of this study, got one with "
            f"`{min(theirs - ours)}` and without `{min(ours - theirs)}`; learn from another study"
        )


# ---------------------------------------------------------------------- seeds


def choose_noise(folder: StudyFolder, *, n_val: int, earlier: Sequence[EarlierStudy] = ()) -> Noise:
    """What is known of the noise of an accuracy, when a session begins.

    Args:
        folder: Of the study; if it was finished before, its own finals tell.
        n_val: Pictures of the validation split.
        earlier: Studies whose finals tell something too.

    Returns:
        That of the study's own seeds if there are enough, else that of the earlier studies'.
    """
    own = _read_noise(folder)
    if own.degrees >= _ENOUGH:
        return dataclasses.replace(own, n_val=n_val)
    for one in earlier:
        if one.noise.is_told:
            return one.noise.borrowed(n_val=n_val)
    return dataclasses.replace(own, n_val=n_val)


def _read_noise(folder: StudyFolder) -> Noise:
    """From the finals of a study, whose students are trained with several seeds each."""
    groups: dict[tuple[int, bool, int], list[float]] = {}
    for refit in load_refits(folder).values():
        key = refit.trial, refit.is_twin, refit.epochs
        groups.setdefault(key, []).append(refit.val_accuracy)
    return Noise.of_seeds(groups.values())
