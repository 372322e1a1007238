"""A study in MLflow: one experiment, a parent run for the search, a child run per trial."""

import logging
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, final

from autokd.config import redacted
from autokd.errors import TrackingError
from autokd.trackers.batches import add_metrics, add_params, add_tags, build_metrics
from autokd.trackers.connection import build_client, translated_errors, uploading
from autokd.trackers.entries import (
    data_profile,
    epoch_metrics,
    front_metrics,
    result_metrics,
    result_params,
    result_tags,
    study_tags,
)
from autokd.trackers.runs import ENDED_TAG, StudyRuns, explain_namesake
from autokd.types import (
    EpochEnded,
    Event,
    StudyClosed,
    StudyOpened,
    TrialEnded,
    TrialInterrupted,
    TrialResumed,
    TrialStarted,
    front_as_dict,
)

if TYPE_CHECKING:
    from mlflow.entities import Metric

__all__ = ["MlflowTracker"]

_STATUS = {"complete": "FINISHED", "stopped": "KILLED", "pruned": "KILLED", "failed": "FAILED"}
_MAX_DIGEST = 36
_MOST_REFUSED = 3
_TEACHER = "teacher_val_accuracy"

_logger = logging.getLogger(__name__)


@final
class MlflowTracker:
    """Shows a study in MLflow; told an event twice, it leaves the same state.

    Runs are found by their tags, so that a study goes on in the runs it began. Every call
    waits for the store: wrap it in a `SpooledTracker` where that must not be noticed.

    Args:
        tracking_uri: Any MLflow store.
        artifacts: Folder of the artefacts of a local store; none leaves it to the server.
        study: Name of the study, and of its experiment.
        mark: Of the study's folder; runs of a study of this name with another mark are left alone.

    Raises:
        TrackingError: The store cannot be opened.
    """

    def __init__(
        self, tracking_uri: str, *, artifacts: Path | None, study: str, mark: str = ""
    ) -> None:
        self._uri = tracking_uri
        self._client = build_client(tracking_uri)
        self._runs = StudyRuns(self._client, study=study, artifacts=artifacts, mark=mark)
        self._told: dict[str, set[int]] = {}
        self._n_refused = 0  # times in a row that artefacts were, and nothing else

    def log(self, event: Event) -> None:
        """Take note of one event.

        Args:
            event: The next one of the study.
        """
        self.log_all([event])

    def log_all(self, events: Sequence[Event]) -> None:
        """Take note of several events; neighbouring epochs of one trial go out together.

        Args:
            events: In their order.

        Raises:
            TrackingError: The store cannot be used; tell all of them again later.
        """
        for event in events:
            if isinstance(event, StudyOpened):  # of before there were marks
                self._runs.prove({_TEACHER: event.teacher.val_accuracy})
        try:
            with translated_errors(self._uri):
                for trial, group in groupby(events, key=_trial_of_epoch):
                    if trial is None:
                        for event in group:
                            self._take(event)
                    else:
                        self._add_epochs(trial, epochs=list(group))
        except TrackingError:
            self._runs.forget()
            self._told.clear()
            raise

    def close(self) -> None:
        """Nothing is under way: every call has waited for the store."""

    def _take(self, event: Event) -> None:
        match event:
            case StudyOpened():
                self._open(event)
            case TrialStarted():
                run_id = self._runs.restart_trial(event.trial, time_ms=event.time_ms)
                add_params(self._client, run_id, values=event.sample)
            case TrialResumed():
                run_id = self._runs.build_trial(event.trial, time_ms=event.time_ms)
                self._client.update_run(run_id, status="RUNNING")
                add_tags(self._client, run_id, values={"autokd.state": "running"})
            case EpochEnded():
                self._add_epochs(event.trial, epochs=[event])
            case TrialEnded():
                self._end(event)
            case TrialInterrupted():
                run_id = self._runs.build_trial(event.trial, time_ms=event.time_ms)
                add_tags(self._client, run_id, values={"autokd.state": event.state})
                self._client.set_terminated(run_id, status="KILLED", end_time=event.time_ms)
            case StudyClosed():
                self._close_study(event)

    def _open(self, event: StudyOpened) -> None:
        run_id = self._runs.parent_id
        if self._runs.is_new_beside_others:
            _logger.warning("%s", explain_namesake(event.study))
        self._client.update_run(run_id, status="RUNNING")
        settings = {name: redacted(value) for name, value in event.settings.items()}
        add_params(self._client, run_id, values=settings)
        add_tags(self._client, run_id, values=study_tags(event))
        teacher = {
            _TEACHER: event.teacher.val_accuracy,
            "teacher_latency_ms": event.teacher.latency_ms,
        }
        add_metrics(self._client, run_id, metrics=build_metrics(teacher, time_ms=event.time_ms))
        self._add_data(run_id, event=event)

    def _add_data(self, run_id: str, *, event: StudyOpened) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=event.data.name,
            digest=event.data.digest[:_MAX_DIGEST],
            source_type="autokd",
            source=event.data.name,
            profile=data_profile(event.data),
        )
        tags = [InputTag("mlflow.data.context", "search")]
        self._client.log_inputs(run_id, datasets=[DatasetInput(dataset, tags)])

    def _add_epochs(self, trial: int, *, epochs: Sequence[Event]) -> None:
        metrics: list[Metric] = []
        run_id = self._runs.build_trial(trial, time_ms=min(event.time_ms for event in epochs))
        told = self._told_epochs(run_id)
        for event in epochs:
            if isinstance(event, EpochEnded) and event.epoch.epoch not in told:
                row = event.epoch
                metrics += build_metrics(epoch_metrics(row), time_ms=event.time_ms, step=row.epoch)
                told.add(row.epoch)
        add_metrics(self._client, run_id, metrics=metrics)

    def _told_epochs(self, run_id: str) -> set[int]:
        """Those that a run has; trained again after a power cut, they are the same."""
        if run_id not in self._told:
            history = self._client.get_metric_history(run_id, "val_accuracy")
            self._told[run_id] = {one.step for one in history}
        return self._told[run_id]

    def _end(self, event: TrialEnded) -> None:
        result = event.result
        spent_ms = round(1000 * (result.training_s + result.overhead_s))
        run_id = self._runs.build_trial(result.trial, time_ms=event.time_ms - spent_ms)
        self._add_missing_curve(run_id, event=event)
        add_params(self._client, run_id, values=result_params(result))
        metrics = build_metrics(result_metrics(result), time_ms=event.time_ms)
        add_metrics(self._client, run_id, metrics=metrics)
        add_tags(
            self._client, run_id, values={**result_tags(result), ENDED_TAG: str(event.time_ms)}
        )
        self._client.set_terminated(run_id, status=_STATUS[result.state], end_time=event.time_ms)
        n_trials = self._runs.end_trial(result.trial, time_ms=event.time_ms)
        # Trials that run side by side do not end in the order of their numbers.
        values = {"hypervolume": event.hypervolume, "n_trials": float(n_trials)}
        progress = build_metrics(values, time_ms=event.time_ms, step=n_trials)
        add_metrics(self._client, self._runs.parent_id, metrics=progress)

    def _add_missing_curve(self, run_id: str, *, event: TrialEnded) -> None:
        """The epochs of a trial that were never told, as if they had been."""
        curve = event.result.curve
        if not curve:
            return
        told = self._told_epochs(run_id)
        metrics: list[Metric] = []
        time_ms = event.time_ms - round(1000 * sum(row.seconds for row in curve))
        for row in curve:
            time_ms += round(1000 * row.seconds)
            if row.epoch not in told:
                metrics += build_metrics(epoch_metrics(row), time_ms=time_ms, step=row.epoch)
        add_metrics(self._client, run_id, metrics=metrics)

    def _close_study(self, event: StudyClosed) -> None:
        run_id = self._runs.parent_id
        if event.front is not None:
            metrics = build_metrics(front_metrics(event.front), time_ms=event.time_ms)
            add_metrics(self._client, run_id, metrics=metrics)
        status = "FINISHED" if event.is_finished else "KILLED"
        self._client.set_terminated(run_id, status=status, end_time=event.time_ms)
        try:
            with uploading(self._uri):
                self._upload(run_id, event=event)
        except TrackingError as error:
            self._n_refused += 1
            if self._n_refused < _MOST_REFUSED:
                raise
            # It takes all else: what comes after this must not wait for ever.
            _logger.warning("the front's files are in the study's folder, not in MLflow: %s", error)
        else:
            self._n_refused = 0

    def _upload(self, run_id: str, *, event: StudyClosed) -> None:
        """The front and its pictures."""
        if event.front is not None:
            self._client.log_dict(run_id, front_as_dict(event.front), "front.json")
        for file in event.files:
            if file.is_file():  # told again after the study's folder was tidied up
                self._client.log_artifact(run_id, str(file), "front")


def _trial_of_epoch(event: Event) -> int | None:
    """The trial of an epoch; none for every other event."""
    return event.trial if isinstance(event, EpochEnded) else None
