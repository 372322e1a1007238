"""Every tracker keeps the contract."""

import time

from autokd.trackers import MemoryTracker, MlflowTracker, SpooledTracker
from tests.contracts.tracker_contract import TrackerContract, TrialView, copy_store


def read_memory(tracker: MemoryTracker) -> dict[int, TrialView]:
    return {
        number: TrialView(
            state=trial.state,
            sample={name: str(value) for name, value in trial.sample.items()},
            curve={epoch: row.val_accuracy for epoch, row in trial.curve.items()},
            best=None if trial.result is None else trial.result.val_accuracy,
        )
        for number, trial in tracker.trials.items()
    }


class TestMemoryTracker(TrackerContract):
    def open_tracker(self, folder):  # noqa: ARG002 - needs none
        return MemoryTracker()

    def read(self, tracker):
        return read_memory(tracker)


class TestMlflowTracker(TrackerContract):
    def open_tracker(self, folder):
        self.uri = copy_store(folder)
        return MlflowTracker(self.uri, artifacts=folder / "artifacts", study="digits")

    def read(self, tracker):  # noqa: ARG002 - reads the store
        from mlflow import MlflowClient

        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name("digits")
        runs = client.search_runs([experiment.experiment_id], "tags.`autokd.kind` = 'trial'")
        assert len({run.data.tags["autokd.trial"] for run in runs}) == len(runs)
        return {int(run.data.tags["autokd.trial"]): self.view(client, run) for run in runs}

    def view(self, client, run):
        history = client.get_metric_history(run.info.run_id, "val_accuracy")
        assert len({metric.step for metric in history}) == len(history)
        recipe = {"alpha_end", "alpha_schedule"}
        names = ("width", "alpha", "block/1")
        assert run.info.status == "RUNNING" or run.info.end_time is not None
        return TrialView(
            state=run.data.tags.get("autokd.state", "running"),
            sample={n: v for n, v in run.data.params.items() if n in names and n not in recipe},
            curve={metric.step: metric.value for metric in history},
            best=run.data.metrics.get("best_val_accuracy"),
        )


class TestSpooledTracker(TrackerContract):
    def open_tracker(self, folder):
        self.inner = MemoryTracker()
        return SpooledTracker(lambda: self.inner, folder=folder)

    def read(self, tracker):
        deadline = time.monotonic() + 10
        while tracker.n_unsent and time.monotonic() < deadline:
            time.sleep(0.002)
        assert tracker.n_unsent == 0
        return read_memory(self.inner)
