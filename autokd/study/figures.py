"""All pictures of a study as a whole."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from autokd.errors import ConfigError
from autokd.reports import draw_coordinates, draw_curves, draw_front, draw_importance
from autokd.study.folder import find_study
from autokd.study.importance import measure_importance
from autokd.study.other_fronts import judge_elsewhere
from autokd.study.storages import open_storage
from autokd.study.trials import read_results
from autokd.types import Dimension, Front, FrontStudent, TrialResult

__all__ = ["draw_figures", "draw_study"]


def draw_study(
    study: str | None = None,
    *,
    folder: Path,
    runs_dir: Path = Path("mlruns"),
    target: str = "",
) -> tuple[Path, ...]:
    """Draws what a search draws at its end, at any time.

    Args:
        study: Its name; the last one worked on if none.
        folder: Where the files go; made if missing.
        runs_dir: Where studies lie.
        target: One of the study's; the first if empty.

    Returns:
        The files.

    Raises:
        ConfigError: The folder cannot be written.
    """
    found = find_study(study, runs_dir=runs_dir)
    target = found.find_target(target)
    config, front = found.load_config(), found.load_front(target=target)
    storage = open_storage(config.storage, runs_dir=runs_dir)
    results = read_results(front.study, storage=storage)
    if target:
        results = [judge_elsewhere(one, target=target) for one in results]
    results = _correct(results, front=front)
    try:
        return draw_figures(
            front,
            results=results,
            dimensions=found.load_dimensions(),
            seed=config.seed,
            folder=folder,
        )
    except OSError as error:
        raise ConfigError(
            f"`--figures` must be a folder to write to, got {folder}: {error}"
        ) from error


def draw_figures(
    front: Front,
    *,
    results: Sequence[TrialResult],
    dimensions: Sequence[Dimension],
    seed: int,
    folder: Path,
) -> tuple[Path, ...]:
    """The front, learning curves, all dimensions and how much each of them matters.

    Args:
        front: Of a study.
        results: Of its trials.
        dimensions: That were searched.
        seed: Of what is drawn at random.
        folder: Where the files go; made if missing.

    Returns:
        The files; no importance where there are too few trials.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = measure_importance(results, dimensions=dimensions, seed=seed)
    shares: Mapping[str, float] = found[0].shares if found else {}
    pages = draw_front(front, results=results, folder=folder)
    if not results:  # of one student without a search
        return pages
    files = (
        *pages,
        draw_curves(results, folder=folder, front=front),
        draw_coordinates(
            results,
            dimensions=dimensions,
            study=front.study,
            folder=folder,
            order=sorted(shares, key=lambda label: -shares[label]),
        ),
    )
    if not found:
        return files
    return (*files, draw_importance(found, study=front.study, folder=folder))


def _correct(results: Sequence[TrialResult], *, front: Front) -> list[TrialResult]:
    """Latencies of the front as they were timed side by side, so that points lie on it."""
    known: dict[int, FrontStudent] = {student.trial: student for student in front.students}
    corrected: list[TrialResult] = []
    for result in results:
        student, latency = known.get(result.trial), result.latency
        if student is not None and latency is not None:
            latency = dataclasses.replace(latency, median_ms=student.latency_ms)
        corrected.append(dataclasses.replace(result, latency=latency))
    return corrected
