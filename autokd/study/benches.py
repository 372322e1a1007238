"""Where the students of a study are trained: data, space, teachers, folders."""

from collections.abc import Mapping
from functools import cache, partial
from types import MappingProxyType

from autokd.candidate import CheckpointFolder, Workshop
from autokd.config import Config
from autokd.data import SearchData, load_test
from autokd.errors import ConfigError
from autokd.latency import TableTarget
from autokd.spaces import Space
from autokd.study.crew import Crew
from autokd.study.folder import StudyFolder
from autokd.study.insight import check_features, check_objectives, check_taps
from autokd.study.joint_space import build_joint_space, without_assistant
from autokd.study.orders import Bench
from autokd.study.planning import build_plan, choose_device
from autokd.study.progress import SearchProgress
from autokd.study.targets import check_precision
from autokd.study.teaching import Faculty, build_teachers
from autokd.types import Target

__all__ = ["build_bench"]


def build_bench(  # noqa: PLR0913 - all that trainings need
    config: Config,
    folder: StudyFolder,
    *,
    data: SearchData,
    space: Space,
    target: Target,
    others: Mapping[str, Target] = MappingProxyType({}),
    crew: Crew,
    progress: SearchProgress,
) -> tuple[Bench, Faculty]:
    """All that a study's trainings need, and who teaches; its settings are checked, then kept.

    Args:
        config: What the user wants.
        folder: Of the study.
        data: What is learnt from.
        space: As `build_joint_space` gave it.
        target: What latencies are measured on.
        others: What they are measured on besides, by name.
        crew: Who trains the teachers that have to be.
        progress: Shows that.

    Returns:
        The bench, whose space may be one without an assistant, and the teachers.

    Raises:
        ConfigError: Nothing is to be searched, or something else is wrong with the settings.
    """
    check_precision(config, precisions=space.values_of("precision"), target=target)
    if isinstance(target, TableTarget):
        target.check_labels(space.architecture_of(space.complete({})))
    if not folder.is_known:  # one that goes on keeps to its settings, heeded or not
        alone = None if config.student is None else space.first_choice()
        check_taps(config, space=space, sample=alone)
    device, wanted = choose_device(config), space.dimensions
    if not wanted and config.student is None:
        raise ConfigError(
            f"`--space` and `--recipe` must leave something to search, got {config.space} and "
            f"{config.recipe} with one value each; `autokd distill` trains one student"
        )
    folder.check_settings(config, dimensions=wanted)
    digests = data.card.digests
    folder.check_digests(digests)
    faculty = build_teachers(
        config,
        data,
        space=space,
        target=target,
        others=tuple(others.values()),
        models=folder.teacher,
        device=device,
        crew=crew,
        progress=progress,
    )
    if config.assistant and "assistant" not in faculty.teachers:  # `auto` found none needed
        space = build_joint_space(without_assistant(config), data.card, has_assistant=False)
    alone = None if config.student is None else space.first_choice()
    check_features(faculty, space=space, sample=alone)
    if not folder.is_known:
        check_objectives(faculty, space=space, data=data, seed=config.seed, sample=alone)
    digests["teachers"] = " ".join(sorted(faculty.accuracies))
    folder.check_digests(digests)
    folder.keep_settings(config, dimensions=wanted, digests=digests, accuracies=faculty.accuracies)
    workshop = Workshop(
        space=space,
        data=data,
        teachers=faculty.teachers,
        target=target,
        others=dict(others),
        plan=build_plan(config, data=data, device=device),
        max_latency_ms=config.max_latency_ms,
        weights=folder.weights,
        checkpoints=CheckpointFolder(
            folder.checkpoints, limit_bytes=round(config.checkpoints_gb * 2**30)
        ),
    )
    test = cache(partial(load_test, config))
    return Bench(workshop=workshop, refits=folder.refits, test=test), faculty
