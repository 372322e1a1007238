"""Events as what MLflow stores: flat names to numbers and texts."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict

from autokd.types import DataCard, EpochLog, Front, StudyOpened, TrialResult

__all__ = [
    "data_profile",
    "epoch_metrics",
    "front_metrics",
    "key_of",
    "known_only",
    "result_metrics",
    "result_params",
    "result_tags",
    "study_tags",
]


def key_of(name: str) -> str:
    """The name as MLflow accepts it: a clean relative path of at most 250 plain characters."""
    plain = re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)
    return "/".join(part for part in plain.split("/") if part.strip("."))[:250] or "_"


def known_only(values: Mapping[str, float | int | None]) -> dict[str, float]:
    """The values that are there, as MLflow keeps them."""
    return {name: float(value) for name, value in values.items() if value is not None}


def epoch_metrics(row: EpochLog) -> dict[str, float]:
    """One row of a learning curve."""
    return {name: float(value) for name, value in asdict(row).items() if name != "epoch"}


def result_metrics(result: TrialResult) -> dict[str, float]:
    """What a finished trial is judged by, in the units of the names."""
    values: dict[str, float | int | None] = {
        "best_val_accuracy": result.val_accuracy,
        "training_s": result.training_s,
        "overhead_s": result.overhead_s,
        "inherited_share": result.inherited_share,
    }
    if (latency := result.latency) is not None:
        values |= {
            "latency_ms": latency.median_ms,
            "latency_ci95_low_ms": latency.ci95_low_ms,
            "latency_ci95_high_ms": latency.ci95_high_ms,
            "latency_p10_ms": latency.p10_ms,
            "latency_p90_ms": latency.p90_ms,
        }
    if result.fp32_latency is not None:
        values |= {
            "fp32_latency_ms": result.fp32_latency.median_ms,
            "fp32_val_accuracy": result.fp32_val_accuracy,
        }
    if (footprint := result.footprint) is not None:
        values |= {
            "n_params": footprint.n_params,
            "macs": footprint.macs,
            "size_bytes": footprint.size_bytes,
        }
    return known_only(values)


def result_params(result: TrialResult) -> dict[str, object]:
    """The sample, what the frozen recipe adds to it, and how mixtures were asked about."""
    if result.recipe is None:
        return dict(result.sample)
    params: dict[str, object] = {**asdict(result.recipe), **result.sample}
    if result.recipe.mix != "none" and result.recipe.is_distilled:
        params["mix_targets"] = result.recipe.mix_targets  # a loss on features leaves no choice
    return params


def result_tags(result: TrialResult) -> dict[str, str]:
    """What of a finished trial is no number; empty texts are left out."""
    tags = {
        "state": result.state,
        "reason": result.reason,
        "same_as": "" if result.same_as is None else str(result.same_as),
        "inherited_from": "" if result.inherited_from is None else str(result.inherited_from),
        "engine": result.engine,
        "answers": result.answers,
        "network": result.network,
        "precision": result.precision,
        "float_layers": ", ".join(result.float_layers),
    }
    if result.latency is not None:
        tags |= {
            "latency.runtime": result.latency.runtime,
            "latency.device": result.latency.device,
            "latency.batch": str(result.latency.batch),
            "latency.threads": str(result.latency.threads),
            "latency.n_runs": str(result.latency.n_runs),
        }
    return {f"autokd.{name}": value for name, value in tags.items() if value}


def study_tags(event: StudyOpened) -> dict[str, str]:
    """The teacher, the data and the machine of a study."""
    teacher = event.teacher
    tags = {f"environment.{name}": value for name, value in event.environment.items()}
    if event.data.n_unlabelled:
        tags["data.n_unlabelled"] = str(event.data.n_unlabelled)
        tags["data.unlabelled_digest"] = event.data.unlabelled_digest
    return {
        **tags,
        "teacher.name": teacher.name,
        "teacher.digest": teacher.digest,
        "teacher.val_accuracy": f"{teacher.val_accuracy:.4f}",
        "teacher.latency_ms": f"{teacher.latency_ms:.4g}",
        "data.name": event.data.name,
        "data.digest": event.data.digest,
    }


def front_metrics(front: Front) -> dict[str, float]:
    """The front in a handful of numbers."""
    values: dict[str, float | int | None] = {
        "n_front": len(front.students),
        "n_failed": front.n_failed,
        "n_pruned": front.n_pruned,
        "n_stopped": front.n_stopped,
        "wall_s": front.wall_s,
        "training_s": front.training_s,
    }
    if front.students:
        tested = [s.test_accuracy for s in front.students if s.test_accuracy is not None]
        values |= {
            "front_best_val_accuracy": max(s.val_accuracy for s in front.students),
            "front_best_test_accuracy": max(tested, default=None),
            "front_lowest_latency_ms": min(s.latency_ms for s in front.students),
        }
    return known_only(values)


def data_profile(data: DataCard) -> str:
    """Sizes and classes, as the UI shows them beside the data set."""
    return json.dumps(
        {
            "num_classes": data.n_classes,
            "shape": data.shape,
            "n_train": data.n_train,
            "n_val": data.n_val,
            "n_test": data.n_test,
            "digest": data.digest,
            "n_unlabelled": data.n_unlabelled,
            "unlabelled_digest": data.unlabelled_digest,
        }
    )
