"""From a trained site to files that can be deployed, a card and MLflow; there is no teacher."""

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from autokd.config import Config, redacted, write_command
from autokd.data import TestData
from autokd.distillation import Student
from autokd.errors import TrackingError
from autokd.exporters import Bundle, export_bundle
from autokd.latency import FINAL, device_fingerprint, library_versions
from autokd.study.appraisal import JUDGED, judge_student, predict
from autokd.study.delivery import register_bundle
from autokd.study.progress import SearchProgress
from autokd.study.records import keep_mark
from autokd.study.refits import Refit
from autokd.study.rounds import Round
from autokd.study.targets import build_target
from autokd.trackers import add_rounds, explain_namesake, is_local_store, tracking_uri
from autokd.types import Recipe, Sample

__all__ = ["describe_site", "hand_over", "log_site", "register_site"]

_ALIAS = "federated"


def hand_over(
    student: Student,
    out: Path,
    *,
    config: Config,
    test: TestData,
    facts: dict[str, Any],
    progress: SearchProgress,
) -> Bundle:
    """Exports a site's student, measured and checked.

    Args:
        student: Trained.
        out: The folder to write.
        config: Of the study.
        test: The test split.
        facts: For the card, as `describe_site` gives them.
        progress: Where to tell what is done.

    Returns:
        Files and figures.
    """
    progress.say(f"exporting the student of site {config.site}")
    with tempfile.TemporaryDirectory(prefix="autokd-") as name:
        folder = Path(name)
        judged, figures = judge_student(
            predict(student, test.images),
            labels=test.labels,
            classes=test.card.classes,
            name=f"the student of site {config.site}",
            folder=folder,
        )
        text = json.dumps({**judged, **figures}, indent=1, default=str)
        (folder / "appraisal.json").write_text(text + "\n", encoding="utf-8")
        missing = {"looks": "a federation has no one teacher to compare with"}
        return export_bundle(
            student,
            out,
            data=test.card,
            test=test,
            target=build_target(config, form=FINAL, cluster=None),
            card={**facts, **judged, "pictures": dict(JUDGED), "missing": missing},
            extras=tuple(sorted(folder.iterdir())),
            precision=FINAL.precision,
        )


def register_site(
    config: Config,
    bundle: Bundle,
    *,
    public: UInt8[Tensor, "n c h w"],
    is_registered: bool | None,
    progress: SearchProgress,
) -> None:
    """Registers a site's student in MLflow, which takes its weights there.

    Args:
        config: Of the study.
        bundle: Its files.
        public: Pictures that all sites hold; a few of them serve as an example.
        is_registered: Whether to; if none, only where nothing leaves this machine.
        progress: Where to tell what is done.
    """
    if is_registered is None and not is_local_store(config):
        progress.say(
            f"not registered in MLflow: weights would leave this site for "
            f"{redacted(tracking_uri(config))}; pass --register to have them there"
        )
    elif is_registered is not False:
        register_bundle(
            config,
            bundle,
            pictures=public,
            aliases=[_ALIAS],
            progress=progress,
            mark=keep_mark(config.study_dir),
        )


def describe_site(
    config: Config,
    *,
    sample: Sample,
    recipe: Recipe,
    test: TestData,
    rounds: Sequence[Round],
    student: Refit,
    alone: Refit | None,
) -> dict[str, Any]:
    """What the card tells of a site's student.

    Args:
        config: Of the study.
        sample: The student's architecture.
        recipe: How it was trained.
        test: The test split.
        rounds: All of them.
        student: What came of the last.
        alone: What came of the same student without the others; none if it diverged.

    Returns:
        Plain values.
    """
    data = test.card
    beside: dict[str, Any] = {"why_no_gain": "the training of the student alone diverged"}
    if alone is not None:
        beside = {
            "alone_val_accuracy": alone.val_accuracy,
            "alone_test_accuracy": alone.test_accuracy,
            "alone_epochs": alone.epochs,
            "federated_gain": student.test_accuracy - alone.test_accuracy,
        }
    return {
        "study": config.study_name,
        "site": config.site,
        "n_sites": len(rounds[-1].heard),
        "sites": [list(one.heard) for one in rounds],
        "n_rounds": len(rounds) - 1,
        "vote": config.vote,
        "val_accuracy": student.val_accuracy,
        **beside,
        "architecture": sample,
        "recipe": dataclasses.asdict(recipe),
        # No digest of private pictures: who has a guess could make sure by it.
        "data": {"name": data.name, "n_train": data.n_train},
        "made_again": {
            "command": write_command(config),
            "seed": config.seed,
            "data": data.name,
        },
        "made_with": {
            **library_versions(),
            "device": device_fingerprint(),
            "seed": config.seed,
        },
    }


def log_site(
    config: Config,
    *,
    rounds: Sequence[Round],
    student: Refit,
    alone: Refit | None,
    progress: SearchProgress,
) -> None:
    """Logs the rounds of a site to MLflow; a server that is away costs this alone.

    Args:
        config: Of the study.
        rounds: All of them.
        student: What came of the last.
        alone: What came of the same student without the others; none if it diverged.
        progress: Where to tell that it did not work.
    """
    figures = {"test_accuracy": student.test_accuracy, "val_accuracy": student.val_accuracy}
    figures["sent_bytes"] = float(sum(one.sent_bytes for one in rounds))
    if alone is not None:
        figures |= {
            "alone_test_accuracy": alone.test_accuracy,
            "alone_val_accuracy": alone.val_accuracy,
            "federated_gain": student.test_accuracy - alone.test_accuracy,
        }
    told = [
        {
            "val_accuracy": one.val_accuracy,
            "train_loss": one.curve[-1].train_loss,
            "n_sites": float(max(1, len(one.heard))),
            "seconds": one.seconds,
        }
        for one in rounds
    ]
    try:
        config.runs_dir.mkdir(parents=True, exist_ok=True)
        is_beside = add_rounds(
            config,
            mark=keep_mark(config.study_dir),
            params=config.model_dump(mode="json"),
            rounds=told,
            metrics=figures,
        )
    except TrackingError as error:
        progress.say(f"not logged to MLflow: {error}")
    else:
        if is_beside:
            progress.say(explain_namesake(config.study_name))
