"""What the tracker and the user are told when a study opens and when it closes."""

import time

from autokd.candidate import Workshop
from autokd.config import Config
from autokd.latency import device_fingerprint, library_versions
from autokd.spaces import Space
from autokd.study.progress import SearchProgress
from autokd.study.records import keep_mark
from autokd.trackers import build_tracker
from autokd.types import Sample, Scalar, StudyClosed, StudyOpened, TeacherCard, Tracker

__all__ = ["announce", "dismiss", "open_tracker", "tell_choice"]


def open_tracker(config: Config) -> Tracker:
    """MLflow, as configured, in runs of the study's folder alone.

    Args:
        config: Of the study.

    Returns:
        A tracker that never blocks.
    """
    return build_tracker(config, mark=lambda: keep_mark(config.study_dir))


def announce(
    config: Config,
    *,
    workshop: Workshop,
    teacher: TeacherCard,
    tracker: Tracker,
    progress: SearchProgress,
) -> None:
    """Says what is about to be trained on what, and who teaches.

    Args:
        config: Of the study.
        workshop: Its data, and where it trains.
        teacher: Who teaches.
        tracker: Told everything.
        progress: Shows the most important.
    """
    data = workshop.data.card
    environment = {**library_versions(), "device": device_fingerprint()}
    environment["training_device"] = str(workshop.plan.device)
    tracker.log(
        StudyOpened(
            study=config.study_name,
            settings={key: str(value) for key, value in config.model_dump().items()},
            data=data,
            teacher=teacher,
            environment=environment,
            time_ms=time.time_ns() // 1_000_000,
        )
    )
    shape = "x".join(map(str, data.shape))
    more = f" + {data.n_unlabelled:,} without labels" if data.n_unlabelled else ""
    progress.say(
        f"study {config.study_name}: {data.n_train} training{more}, {data.n_val} "
        f"validation, {data.n_test} test pictures of {shape}, {data.n_classes} classes"
    )
    progress.say(
        f"teacher {teacher.name}: {teacher.val_accuracy:.1%} on validation, "
        f"{teacher.latency_ms:.4g} ms"
    )


def tell_choice(config: Config, *, space: Space, sample: Sample, progress: SearchProgress) -> None:
    """Says how one student is trained where its recipe leaves it open.

    Args:
        config: Names the recipe.
        space: Of the student.
        sample: What was chosen.
        progress: Shows it, unless the recipe and the options say everything.
    """
    chosen = space.undecided(sample)
    if chosen:
        words = " ".join(f"{label}={_write(value)}" for label, value in chosen.items())
        progress.say(
            f"recipe {config.recipe}, where it leaves a choice: {words} (--fix NAME=VALUE for "
            "another)"
        )


def _write(value: Scalar) -> str:
    """A value as recipes and `--fix` have it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def dismiss(tracker: Tracker, event: StudyClosed, *, progress: SearchProgress) -> None:
    """Tells the tracker that the session ends, and the user what it could not pass on.

    Args:
        tracker: Closed afterwards.
        event: What it is told.
        progress: Shows what is left.
    """
    tracker.log(event)
    tracker.close()
    n_unsent = getattr(tracker, "n_unsent", 0)
    if n_unsent:
        reason = getattr(tracker, "last_error", None) or "it cannot be reached"
        progress.say(
            f"{n_unsent} records are kept for MLflow, and the same command sends them: {reason}"
        )
