"""What every tracker promises, told through the events of a small study."""

import atexit
import shutil
from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

from autokd.types import (
    DataCard,
    EpochEnded,
    EpochLog,
    Event,
    Footprint,
    Front,
    FrontStudent,
    Latency,
    Recipe,
    StudyClosed,
    StudyOpened,
    TeacherCard,
    Tracker,
    TrialEnded,
    TrialInterrupted,
    TrialResult,
    TrialResumed,
    TrialStarted,
)

T0_MS = 1_700_000_000_000
SAMPLE = {"width": 16, "alpha": 0.5, "block/1": "mbconv"}
LATENCY = Latency(
    median_ms=0.5,
    ci95_low_ms=0.4,
    ci95_high_ms=0.6,
    p10_ms=0.3,
    p90_ms=0.9,
    n_runs=300,
    batch=1,
    threads=1,
    runtime="onnxruntime 1",
    device="cpu",
    drift=1.0,
)
TEACHER = TeacherCard(name="auto", digest="b" * 64, n_params=9, val_accuracy=0.99, latency_ms=3.0)
STUDENT = FrontStudent(
    trial=0,
    val_accuracy=0.9,
    latency_ms=0.5,
    latency_ci95_ms=(0.4, 0.6),
    speed_up=6.0,
    n_params=10,
    macs=20,
    size_bytes=30,
    architecture={"width": 16},
    recipe=Recipe(),
)
FRONT = Front(
    study="digits",
    n_trials=3,
    n_failed=1,
    n_pruned=1,
    wall_s=30.0,
    training_s=20.0,
    hypervolume=0.3,
    teacher=TEACHER,
    baseline=None,
    students=(STUDENT,),
)


def opened(*, after_ms: int = 0, **settings: str) -> StudyOpened:
    data = DataCard(
        name="digits",
        digest="a" * 64,
        shape=(1, 8, 8),
        classes=("0", "1"),
        mean=(0.5,),
        std=(0.5,),
        n_train=8,
        n_val=2,
        n_test=2,
    )
    return StudyOpened(
        study="digits",
        settings=settings or {"budget": "3"},
        data=data,
        teacher=TEACHER,
        environment={"torch": "2.9", "cpu": "fast"},
        time_ms=T0_MS + after_ms,
    )


def started(trial: int, *, after_ms: int) -> TrialStarted:
    return TrialStarted(trial=trial, sample=dict(SAMPLE), time_ms=T0_MS + after_ms)


def epoch_ended(trial: int, epoch: int, *, after_ms: int, accuracy: float = 0.5) -> EpochEnded:
    row = EpochLog(
        epoch=epoch,
        train_loss=1.0,
        val_loss=0.9,
        val_accuracy=accuracy,
        learning_rate=0.1,
        alpha=0.5,
        temperature=4.0,
        seconds=1.0,
    )
    return EpochEnded(trial=trial, epoch=row, time_ms=T0_MS + after_ms)


def ended(trial: int, *, after_ms: int, **fields: object) -> TrialEnded:
    result = TrialResult(
        trial=trial,
        state="complete",
        sample=dict(SAMPLE),
        recipe=Recipe(alpha=0.5),
        val_accuracy=0.9,
        latency=LATENCY,
        footprint=Footprint(n_params=10, macs=20, size_bytes=30, paths=(4.0, 7.0)),
        training_s=2.0,
        overhead_s=1.0,
        network="abc",
        engine="fp32",
    )
    return TrialEnded(
        result=replace(result, **fields), hypervolume=0.1 * trial, time_ms=T0_MS + after_ms
    )


def failure(trial: int, *, after_ms: int, state: str = "failed") -> TrialEnded:
    return ended(
        trial,
        after_ms=after_ms,
        state=state,
        reason="out of memory",
        val_accuracy=None,
        latency=None,
        footprint=None,
        recipe=None,
    )


def closed(*files: Path, is_finished: bool = True, after_ms: int = 90_000) -> StudyClosed:
    return StudyClosed(is_finished=is_finished, front=FRONT, files=files, time_ms=T0_MS + after_ms)


def study() -> list[Event]:
    """A study of three trials: complete, failed, pruned."""
    return [
        opened(),
        started(0, after_ms=1000),
        epoch_ended(0, 1, after_ms=2000),
        epoch_ended(0, 2, after_ms=3000, accuracy=0.9),
        ended(0, after_ms=4000),
        started(1, after_ms=5000),
        failure(1, after_ms=6000),
        started(2, after_ms=7000),
        failure(2, after_ms=8000, state="pruned"),
        closed(),
    ]


@cache
def _template() -> Path:
    """A migrated, empty store, made once: the migrations take seconds."""
    from autokd.trackers.connection import build_client

    folder = mkdtemp(prefix="autokd-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder, "mlflow.db")
    build_client(f"sqlite:///{path}")
    return path


def copy_store(folder: Path) -> str:
    """The URI of an empty MLflow store in this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_template(), folder / "mlflow.db")
    return f"sqlite:///{folder / 'mlflow.db'}"


@dataclass(frozen=True, kw_only=True)
class TrialView:
    """What a tracker can be asked about a trial, whatever it is made of."""

    state: str
    sample: dict[str, str]
    curve: dict[int, float]
    best: float | None


class TrackerContract:
    """Subclass it, give the two methods, and every test below runs."""

    @abstractmethod
    def open_tracker(self, folder: Path) -> Tracker:
        """A tracker on this folder; opened again, one that goes on where possible."""

    @abstractmethod
    def read(self, tracker: Tracker) -> dict[int, TrialView]:
        """What the tracker shows by now."""

    @pytest.fixture
    def tracker(self, tmp_path):
        tracker = self.open_tracker(tmp_path)
        yield tracker
        tracker.close()

    def told(self, tracker: Tracker, *events: Event) -> dict[int, TrialView]:
        for event in events:
            tracker.log(event)
        return self.read(tracker)

    def test_it_is_a_tracker(self, tracker):
        assert isinstance(tracker, Tracker)

    def test_it_shows_the_trials_of_a_study(self, tracker):
        shown = self.told(tracker, *study())
        sample = {name: str(value) for name, value in SAMPLE.items()}
        assert {n: view.state for n, view in shown.items()} == {
            0: "complete",
            1: "failed",
            2: "pruned",
        }
        assert shown[0] == TrialView(
            state="complete", sample=sample, curve={1: 0.5, 2: 0.9}, best=0.9
        )
        assert shown[1].best is None

    def test_a_running_trial_is_shown_as_running(self, tracker):
        shown = self.told(tracker, opened(), started(0, after_ms=1))
        assert shown[0].state == "running"

    def test_each_event_told_twice_changes_nothing(self, tracker):
        for event in study():
            once = self.told(tracker, event)
            assert self.told(tracker, event) == once

    def test_a_study_told_twice_changes_nothing(self, tracker):
        once = self.told(tracker, *study())
        assert self.told(tracker, *study()) == once

    def test_a_trial_that_starts_again_replaces_what_was_known_of_it(self, tracker):
        shown = self.told(
            tracker,
            opened(),
            started(0, after_ms=1000),
            epoch_ended(0, 1, after_ms=2000),
            epoch_ended(0, 2, after_ms=3000),
            started(0, after_ms=9000),
            epoch_ended(0, 1, after_ms=9500, accuracy=0.25),
        )
        assert shown[0].curve == {1: 0.25}
        assert shown[0].state == "running"

    def test_an_interrupted_trial_is_shown_as_interrupted(self, tracker):
        shown = self.told(
            tracker,
            opened(),
            started(0, after_ms=1),
            TrialInterrupted(trial=0, time_ms=T0_MS + 5000),
        )
        assert shown[0].state == "interrupted"

    def test_a_stopped_trial_goes_on_with_the_epochs_it_had(self, tracker):
        shown = self.told(
            tracker,
            opened(),
            started(0, after_ms=1),
            epoch_ended(0, 1, after_ms=2000, accuracy=0.25),
            TrialInterrupted(trial=0, time_ms=T0_MS + 5000, state="stopped"),
        )
        assert shown[0].state == "stopped"
        shown = self.told(
            tracker,
            TrialResumed(trial=0, time_ms=T0_MS + 6000),
            epoch_ended(0, 2, after_ms=7000, accuracy=0.5),
        )
        assert (shown[0].state, shown[0].curve) == ("running", {1: 0.25, 2: 0.5})

    def test_epochs_that_were_never_told_are_told_at_the_end(self, tracker):
        known = [epoch_ended(0, n, after_ms=1000 * n, accuracy=n / 10).epoch for n in (1, 2, 3)]
        shown = self.told(
            tracker,
            opened(),
            started(0, after_ms=1),
            epoch_ended(0, 2, after_ms=2000, accuracy=0.2),
            ended(0, after_ms=9000, curve=tuple(known)),
        )
        assert shown[0].curve == {1: 0.1, 2: 0.2, 3: 0.3}

    def test_a_trial_may_be_stopped_for_good(self, tracker):
        shown = self.told(
            tracker, opened(), started(0, after_ms=1), ended(0, after_ms=9000, state="stopped")
        )
        assert shown[0].state == "stopped"

    def test_a_trial_may_end_without_having_been_seen_to_start(self, tracker):
        shown = self.told(tracker, opened(), ended(7, after_ms=9000))
        assert shown[7].state == "complete"
        assert shown[7].best == 0.9

    def test_losses_that_are_no_numbers_are_accepted(self, tracker):
        event = epoch_ended(0, 1, after_ms=2000)
        broken = replace(event, epoch=replace(event.epoch, train_loss=float("nan")))
        shown = self.told(tracker, opened(), started(0, after_ms=1), broken)
        assert shown[0].curve == {1: 0.5}

    def test_a_study_may_be_opened_again_with_other_settings(self, tracker):
        shown = self.told(tracker, *study(), opened(after_ms=99_000, budget="9"))
        assert set(shown) == {0, 1, 2}
