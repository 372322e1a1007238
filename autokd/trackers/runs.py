"""The MLflow runs of one study, found again by their tags after a restart."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, final

from autokd.trackers.batches import is_same

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["ENDED_TAG", "StudyRuns", "explain_namesake"]

# The UI shows the runs of an experiment of this kind as trainings, not as chats.
_MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
_KIND_TAG = "autokd.kind"
_TRIAL_TAG = "autokd.trial"
_PARENT_TAG = "mlflow.parentRunId"
_MARK_TAG = "autokd.mark"
_ADDED_TAG = "autokd.added"  # on the run of a trial that began with something of a later time
_STARTED_TAG = "autokd.started_ms"  # on such a run, when the trial's own beginning came: of that
ENDED_TAG = "autokd.ended_ms"
"""On the run of a trial that is over: when."""


def explain_namesake(study: str) -> str:
    """What to say where MLflow has another study of this name, whose runs are left alone."""
    return (
        f"warning: MLflow has a study `{study}` of another folder (another site, or one that was "
        "removed); this one has a run of its own beside it"
    )


@final
class StudyRuns:
    """Finds and creates the experiment of a study, its parent run and a child run per trial.

    What was found is kept; `forget` makes it look again, for example after somebody has
    deleted a run by hand.

    Attributes:
        is_new_beside_others: Whether a parent run was made here though the study's experiment has
            others, of studies of the same name.
        made: The runs that were made here.

    Args:
        client: Of the store.
        study: Its name is the experiment's.
        artifacts: Folder of the artefacts, or none to leave it to the server.
        mark: Of the study's folder, where several folders may have studies of this name here: each
            gets a parent run of its own.
        proof: Figures of the study. A parent run that has no mark, of before there were marks, is
            its own if it has some of them and no other number under those names.
    """

    def __init__(
        self,
        client: "MlflowClient",
        *,
        study: str,
        artifacts: Path | None,
        mark: str = "",
        proof: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self._client = client
        self._study = study
        self._artifacts = artifacts
        self._mark, self._proof = mark, proof
        self.is_new_beside_others = False
        self.made: list[str] = []
        self._experiment_id: str | None = None
        self._parent_id: str | None = None
        self._children: dict[int, str] | None = None
        self._ended: dict[int, int] = {}

    def prove(self, figures: Mapping[str, float]) -> None:
        """More figures of the study, as `proof`."""
        self._proof = {**self._proof, **figures}

    def end_made(self) -> None:
        """Ends the runs that were made here, where nobody else would."""
        for run_id in self.made:
            self._client.set_terminated(run_id, status="FINISHED")

    def forget(self) -> None:
        """Look everything up again."""
        self._experiment_id = self._parent_id = self._children = None

    @property
    def experiment_id(self) -> str:
        """The experiment's, created or brought back from the bin where needed."""
        if self._experiment_id is None:
            self._experiment_id = self._find_experiment() or self._create_experiment()
        return self._experiment_id

    @property
    def parent_id(self) -> str:
        """The run of the search."""
        if self._parent_id is None:
            self._parent_id = self._find_parent()
        return self._parent_id

    def find_trial(self, trial: int) -> str | None:
        """The run of a trial, or none."""
        if self._children is None:
            self._load_children()
        return (self._children or {}).get(trial)

    def build_trial(self, trial: int, *, time_ms: int) -> str:
        """The run of a trial, created where there is none."""
        known = self.find_trial(trial)
        return known if known is not None else self._create_trial(trial, time_ms=time_ms)

    def add_trial(self, trial: int, *, time_ms: int) -> str:
        """The run of a trial for what is found later, created where there is none."""
        known = self.find_trial(trial)
        if known is not None:
            return known
        return self._create_trial(trial, time_ms=time_ms, **{_ADDED_TAG: "true"})

    def restart_trial(self, trial: int, *, time_ms: int) -> str:
        """A fresh run for a trial that begins at this time; one of another time is deleted.

        Args:
            trial: Its number.
            time_ms: When it began.

        Returns:
            The run; that of `add_trial`, made while word of the trial was on its way, where there
            is one.
        """
        known = self.find_trial(trial)
        if known is not None:
            run = self._client.get_run(known)
            tags, start = run.data.tags, str(run.info.start_time)
            if tags.get(_STARTED_TAG, start) == str(time_ms):
                return known
            if _ADDED_TAG in tags and _STARTED_TAG not in tags:
                self._client.set_tag(known, _STARTED_TAG, str(time_ms))
                self._client.update_run(known, status="RUNNING")
                return known
            self._client.set_terminated(known, status="KILLED", end_time=time_ms)
            self._client.delete_run(known)
            (self._children or {}).pop(trial, None)
            self._ended.pop(trial, None)
        return self._create_trial(trial, time_ms=time_ms)

    def end_trial(self, trial: int, *, time_ms: int) -> int:
        """Note that a trial is over; how many were by then, itself among them."""
        self._ended[trial] = time_ms
        return sum(ended_ms <= time_ms for ended_ms in self._ended.values())

    def create(self, name: str, *, kind: str, **tags: str) -> "Run":
        """A new run in the study's experiment; below the parent unless it is the parent."""
        return self._create(name, tags={**tags, _KIND_TAG: kind}, time_ms=None)

    def _create(self, name: str, *, tags: dict[str, str], time_ms: int | None) -> "Run":
        parent = {} if tags[_KIND_TAG] == "search" else {_PARENT_TAG: self.parent_id}
        source = {"mlflow.source.name": "autokd", "mlflow.source.type": "LOCAL"}
        run = self._client.create_run(
            self.experiment_id,
            start_time=time_ms,
            tags={**source, **parent, **tags},
            run_name=name,
        )
        self.made.append(str(run.info.run_id))
        return run

    def _create_trial(self, trial: int, *, time_ms: int, **more: str) -> str:
        tags = {_KIND_TAG: "trial", _TRIAL_TAG: str(trial), **more}
        run = self._create(f"trial-{trial}", tags=tags, time_ms=time_ms)
        run_id = str(run.info.run_id)
        if self._children is not None:
            self._children[trial] = run_id
        return run_id

    def _find_parent(self) -> str:
        found = self._find(f"tags.`{_KIND_TAG}` = 'search'")
        ours = [run for run in found if self._is_ours(run)]
        tags = {_MARK_TAG: self._mark} if self._mark else {}
        if not ours:
            self.is_new_beside_others = bool(found)
            return str(self.create("search", kind="search", **tags).info.run_id)
        for key, value in tags.items() - ours[0].data.tags.items():
            self._client.set_tag(ours[0].info.run_id, key, value)
        return str(ours[0].info.run_id)

    def _is_ours(self, run: "Run") -> bool:
        """Whether a parent run is that of this study, rather than of another one of its name."""
        mark = run.data.tags.get(_MARK_TAG, "")
        if mark or not self._mark:
            return mark == self._mark
        there = run.data.metrics
        known = self._proof.keys() & there.keys()
        return bool(known) and all(is_same(there[name], self._proof[name]) for name in known)

    def _find_experiment(self) -> str | None:
        found = self._client.get_experiment_by_name(self._study)
        if found is None:
            return None
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _create_experiment(self) -> str:
        location = None
        if self._artifacts is not None:
            location = (self._artifacts / self._study).resolve().as_uri()
        return self._client.create_experiment(
            self._study, artifact_location=location, tags=_MODEL_TRAINING
        )

    def _load_children(self) -> None:
        """All runs of trials at once: a study that goes on asks once, not once per trial."""
        children: dict[int, str] = {}
        self._ended = {}
        for run in self._find(
            f"tags.`{_KIND_TAG}` = 'trial' and tags.`{_PARENT_TAG}` = '{self.parent_id}'"
        ):
            tags = run.data.tags
            children[int(tags[_TRIAL_TAG])] = run.info.run_id
            if ENDED_TAG in tags:
                self._ended[int(tags[_TRIAL_TAG])] = int(tags[ENDED_TAG])
        self._children = children

    def _find(self, query: str) -> list[Any]:
        """Every run that meets the query, the oldest first."""
        runs: list[Any] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id],
                filter_string=query,
                max_results=500,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            runs.extend(page)
            token = page.token
            if not token:
                return runs
