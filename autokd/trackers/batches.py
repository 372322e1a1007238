"""Entries of a run, logged in batches that MLflow takes; what is there already stays once."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from autokd.trackers.entries import key_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

__all__ = ["add_figures", "add_metrics", "add_params", "add_tags", "build_metrics", "is_same"]

T = TypeVar("T")

_MAX_METRICS = 1000  # MLflow's limits of one batch
_MAX_ENTRIES = 100
_MAX_VALUE = 6000
_MAX_TAG = 5000


def build_metrics(values: Mapping[str, float], *, time_ms: int, step: int = 0) -> "list[Metric]":
    """Numbers by name, as MLflow takes them."""
    from mlflow.entities import Metric

    return [Metric(name, float(value), time_ms, step) for name, value in values.items()]


def add_metrics(client: "MlflowClient", run_id: str, *, metrics: Sequence["Metric"]) -> None:
    """Log all of them, however many."""
    for page in _pages(metrics, size=_MAX_METRICS):
        client.log_batch(run_id, metrics=page)


def add_figures(
    client: "MlflowClient", run_id: str, *, values: Mapping[str, float], time_ms: int
) -> None:
    """Log those of several numbers of one step that differ from what the run has."""
    known: dict[str, float] = client.get_run(run_id).data.metrics
    fresh = {
        name: value
        for name, value in values.items()
        if name not in known or not is_same(known[name], value)
    }
    add_metrics(client, run_id, metrics=build_metrics(fresh, time_ms=time_ms))


def is_same(one: float, other: float) -> bool:
    """Whether two numbers are one, as far as a store keeps them."""
    return math.isclose(one, other, rel_tol=1e-9) or (math.isnan(one) and math.isnan(other))


def add_params(client: "MlflowClient", run_id: str, *, values: Mapping[str, object]) -> None:
    """Log what is not there yet; a param cannot be changed, so a change becomes a tag."""
    from mlflow.entities import Param

    given = {key_of(name): str(value)[:_MAX_VALUE] for name, value in values.items()}
    there: dict[str, str] = client.get_run(run_id).data.params
    fresh = [Param(name, value) for name, value in given.items() if name not in there]
    for page in _pages(fresh, size=_MAX_ENTRIES):
        client.log_batch(run_id, params=page)
    changed = {name: value for name, value in given.items() if there.get(name, value) != value}
    add_tags(client, run_id, values={f"changed.{key}": value for key, value in changed.items()})


def add_tags(client: "MlflowClient", run_id: str, *, values: Mapping[str, str]) -> None:
    """Set tags, the long ones cut."""
    from mlflow.entities import RunTag

    tags = [RunTag(key_of(name), value[:_MAX_TAG]) for name, value in values.items()]
    for page in _pages(tags, size=_MAX_ENTRIES):
        client.log_batch(run_id, tags=page)


def _pages(entries: Iterable[T], *, size: int) -> Iterator[list[T]]:
    """The entries in lists of at most `size`."""
    rest = list(entries)
    for start in range(0, len(rest), size):
        yield rest[start : start + size]
