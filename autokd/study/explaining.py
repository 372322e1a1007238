"""Does a student look where its teacher looks? Grad-CAM of both on validation pictures."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch

from autokd.config import Config
from autokd.errors import ConfigError, TrackingError
from autokd.exporters import check_folder
from autokd.reports import draw_looks
from autokd.study.alumni import (
    Graduate,
    choose_graduate,
    recall_data,
    recall_student,
    recall_teacher,
)
from autokd.study.diary import number_training
from autokd.study.folder import find_study
from autokd.study.gazes import (
    Gazes,
    Similarity,
    ask_int8,
    compare_gazes,
    mean_similarity,
    watch_teacher,
)
from autokd.study.planning import choose_device
from autokd.study.progress import SearchProgress
from autokd.study.records import read_mark
from autokd.study.refits import find_int8, read_refit
from autokd.trackers import add_to_trial
from autokd.types import DataCard

__all__ = [
    "N_COMPARED",
    "Explanation",
    "draw_gazes",
    "explain",
    "find_run",
    "similarity_metrics",
]

N_COMPARED = 256
"""Pictures, drawn at random, over which similarities are averaged."""


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Explanation:
    """How a student and its teacher look at the validation pictures.

    Attributes:
        study: Its name.
        trial: Of the student.
        is_twin: Whether it is the twin that was trained without the teacher.
        is_int8: Whether it is deployed in INT8: what it says is what that file says, and the maps
            are those of its FP32 self, since the file has no gradients.
        teacher: Name of the teacher.
        layers: What is looked at, by `student` and `teacher`: module and size of its map.
        n_pictures: Of the validation split, drawn at random.
        agreement: Share of them on which both choose the same class, in [0, 1].
        similarity: Over all that have one; none where there is none.
        agreeing: Over those on which both choose the same class.
        disagreeing: Over the others.
        shuffled: Of the teacher's map of one picture and the student's of another: what maps have
            in common whatever is in the picture.
        n_blank: Pictures without a similarity, since one of both maps is the same everywhere.
        pictures: Of the sheet: place in the validation split, class, what both say, similarity.
        files: The sheet, and these figures as JSON.
    """

    study: str
    trial: int
    is_twin: bool
    is_int8: bool
    teacher: str
    layers: dict[str, str]
    n_pictures: int
    agreement: float
    similarity: Similarity | None
    agreeing: Similarity | None
    disagreeing: Similarity | None
    shuffled: Similarity | None
    n_blank: int
    pictures: tuple[dict[str, Any], ...]
    files: tuple[Path, ...] = ()


def explain(  # noqa: PLR0913 - all that a student may be picked by
    study: str | None = None,
    *,
    trial: int | None = None,
    pick: str | None = None,
    target: str = "",
    pictures: int = 12,
    out: Path | None = None,
    runs_dir: Path = Path("mlruns"),
    progress: SearchProgress | None = None,
) -> Explanation:
    """Compares where a student and its teacher look, draws it, and tells MLflow.

    Each network is asked about the class that it chooses itself. The pictures are drawn at random
    from the validation split; the sheet shows some on which both agree and some on which they do
    not, from the most to the least alike.

    Args:
        study: Its name; the last one worked on if none.
        trial: Any that was trained to its end.
        pick: `knee`, `fastest` or `most-accurate` of the front in place of a trial; the knee if
            neither is given.
        target: One of the study's, whose front is meant; the first if empty.
        pictures: On the sheet.
        out: Folder of the sheet; the study's own if none.
        runs_dir: Where studies lie.
        progress: Where to tell what is done.

    Returns:
        Similarities and files.

    Raises:
        ConfigError: Both a trial and a pick are given, or the folder cannot be written.
    """
    if trial is not None and pick is not None:
        raise ConfigError(
            f"`--pick` must not stand beside `--trial`, got {pick} and {trial}; leave one out"
        )
    progress = progress or SearchProgress(is_silent=True)
    if out is not None:
        check_folder(out)
    folder = find_study(study, runs_dir=runs_dir)
    config, front = folder.load_config(), folder.load_front()
    config = config.model_copy(update={"runs_dir": runs_dir})
    graduate = choose_graduate(folder, config, trial=trial, pick=pick, target=target)
    data, device = recall_data(config, folder=folder), choose_device(config, is_looking=True)
    teacher = recall_teacher(
        front.teacher,
        config=config,
        data=data,
        device=device,
        accuracies=folder.load_accuracies(),
    )
    student = recall_student(graduate, config=config, data=data).to(device)
    progress.say(f"looking at trial {graduate.trial} of {front.study} and at {teacher.name}")
    n_pictures = max(pictures, N_COMPARED)
    gaze = watch_teacher(teacher, data=data, n_pictures=n_pictures, seed=config.seed)
    int8 = find_int8(graduate.weights)
    gazes = compare_gazes(student, gaze, says=ask_int8(int8 if int8.exists() else None, gaze))
    explanation = Explanation(
        study=front.study,
        trial=graduate.trial,
        is_twin=graduate.is_twin,
        is_int8=int8.exists(),
        teacher=teacher.name,
        **_describe(gazes, seed=config.seed),
        pictures=_list_pictures(gazes, n_shown=pictures, card=data.card),
    )
    target = folder.find_target(target)
    place = folder.report_of(target)
    explanation = _write(gazes, explanation, folder=out or place, card=data.card)
    at = f"explanation-on-{place.name}" if target else "explanation"
    run = find_run(config, graduate)
    proof = {"teacher_val_accuracy": front.teacher.val_accuracy}
    _track(config, explanation, run=run, at=at, proof=proof, progress=progress)
    return explanation


def similarity_metrics(explanation: Explanation) -> dict[str, float]:
    """What of it is a metric in MLflow."""
    metrics = {"teacher_agreement": explanation.agreement}
    for name, similarity in (
        ("cam_similarity", explanation.similarity),
        ("cam_similarity_agreeing", explanation.agreeing),
        ("cam_similarity_disagreeing", explanation.disagreeing),
        ("cam_similarity_shuffled", explanation.shuffled),
    ):
        if similarity is None:
            continue
        metrics[name] = similarity.mean
        if similarity.ci95 is not None:
            metrics[f"{name}_ci95_low"], metrics[f"{name}_ci95_high"] = similarity.ci95
    return metrics


def draw_gazes(
    gazes: Gazes,
    *,
    n_shown: int,
    card: DataCard,
    title: str,
    similarity: Similarity | None,
    is_int8: bool,
    file: Path,
) -> Path:
    """The sheet of some of the pictures.

    Args:
        gazes: Of both networks.
        n_shown: Pictures on it.
        card: Names of the classes.
        title: Of the sheet.
        similarity: Over all of them, to be told.
        is_int8: Whether the student is deployed in INT8; its maps are those of its FP32 self.
        file: Where it goes.

    Returns:
        The file.
    """
    places = gazes.choose(n_shown)
    return draw_looks(
        [gazes.build_look(place, classes=card.classes) for place in places],
        title=title,
        subtitle=_summarise(similarity) + ("; maps of its FP32 self" if is_int8 else ""),
        file=file,
    )


def _summarise(similarity: Similarity | None) -> str:
    if similarity is None:
        return "Grad-CAM; one of both maps is the same everywhere in every picture"
    between = "" if similarity.ci95 is None else " [{:.2f}, {:.2f}]".format(*similarity.ci95)
    return (
        f"Grad-CAM, correlation r of both maps: {similarity.mean:.2f}{between} "
        f"over {similarity.n} validation pictures"
    )


def _describe(gazes: Gazes, *, seed: int) -> dict[str, Any]:
    agreed = gazes.teacher_says == gazes.student_says
    return {
        "layers": gazes.layers,
        "n_pictures": len(gazes.labels),
        "agreement": float(agreed.float().mean()),
        "similarity": mean_similarity(gazes.similarities, seed=seed),
        "agreeing": mean_similarity(gazes.similarities[agreed], seed=seed),
        "disagreeing": mean_similarity(gazes.similarities[~agreed], seed=seed),
        "shuffled": mean_similarity(gazes.shuffled, seed=seed),
        "n_blank": int(torch.isnan(gazes.similarities).sum()),
    }


def _list_pictures(gazes: Gazes, *, n_shown: int, card: DataCard) -> tuple[dict[str, Any], ...]:
    shown: list[dict[str, Any]] = []
    for place in gazes.choose(n_shown):
        look = gazes.build_look(place, classes=card.classes)
        shown.append(
            {
                "index": int(gazes.indices[place]),
                "label": look.label,
                "teacher_says": look.teacher_says,
                "student_says": look.student_says,
                "similarity": look.similarity,
            }
        )
    return tuple(shown)


def _write(gazes: Gazes, explanation: Explanation, *, folder: Path, card: DataCard) -> Explanation:
    """The explanation with its files, which lie in the folder."""
    name = f"explanation-{explanation.trial}"
    sheet, figures = folder / f"{name}.png", folder / f"{name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draw_gazes(
            gazes,
            n_shown=len(explanation.pictures),
            card=card,
            title=f"Trial {explanation.trial} of {explanation.study} and its teacher",
            similarity=explanation.similarity,
            is_int8=explanation.is_int8,
            file=sheet,
        )
        explanation = dataclasses.replace(explanation, files=(sheet, figures))
        values = dataclasses.asdict(explanation)
        figures.write_text(json.dumps(values, indent=1, default=str) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"`--out` must be a folder to write to, got {folder}: {error}") from error
    return explanation


def find_run(config: Config, graduate: Graduate) -> int:
    """Which run in MLflow is that of a student.

    Args:
        config: Of the study; where it has one student alone, its runs are trainings.
        graduate: Who was looked at.

    Returns:
        The trial's number, or that of the training which the weights are of.
    """
    refit = None if config.student is None else read_refit(graduate.weights)
    return graduate.trial if refit is None else number_training(refit, seed=config.seed)


def _track(
    config: Config,
    explanation: Explanation,
    *,
    run: int,
    at: str,
    proof: Mapping[str, float],
    progress: SearchProgress,
) -> None:
    """Tells MLflow; a server that is away costs the metric there, not the files.

    The student of a further target's front may have other weights than that of the first: its
    metrics have a name of their own.
    """
    suffix = at.removeprefix("explanation").replace("-", "_")
    try:
        add_to_trial(
            config,
            trial=run,
            metrics={f"{key}{suffix}": one for key, one in similarity_metrics(explanation).items()},
            files=explanation.files,
            folder=at,
            mark=read_mark(config.study_dir),
            proof=proof,
        )
    except TrackingError as error:
        progress.say(f"not told to MLflow: {error}")
