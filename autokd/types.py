"""The frozen values that flow through autokd, and the seams between its rooms.

`Config → Space → Sample → student → TrialResult → Front → artefact`: each arrow is one of
these values, and each can be written as JSON and read back (`dump_json`, `load_json`). No
framework is imported here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from pydantic import TypeAdapter

__all__ = [
    "RECIPE_PRIORS",
    "DataCard",
    "Dimension",
    "EpochEnded",
    "EpochLog",
    "Estimate",
    "Event",
    "Footprint",
    "Front",
    "FrontStudent",
    "InputShape",
    "Latency",
    "Recipe",
    "Sample",
    "StudyClosed",
    "StudyOpened",
    "Target",
    "TeacherCard",
    "Tracker",
    "TrialEnded",
    "TrialInterrupted",
    "TrialResult",
    "TrialStarted",
    "dump_json",
    "front_as_dict",
    "load_json",
]

T = TypeVar("T")

Scalar = str | int | float | bool
Sample = dict[str, Scalar]
"""One point of the joint space: label of a dimension to its value."""

InputShape = tuple[int, int, int]
"""Channels, height and width of one picture, in pixels."""

Augmentation = Literal["none", "crop", "flip_crop", "randaugment"]
Mix = Literal["none", "mixup", "cutmix"]
AlphaSchedule = Literal["constant", "linear", "cosine"]
TemperatureSchedule = Literal["constant", "decay"]
Optimiser = Literal["adamw", "sgd"]
TrialState = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One searched dimension of the joint space, as any sampler can understand it.

    Attributes:
        label: Unique in the space.
        room: Which half of the space it belongs to.
        choices: The values, where they are a set.
        low: Lower end, where they are a range.
        high: Upper end, included.
        step: Distance of neighbouring values; none for a continuous range.
        is_log: Whether the range is searched evenly in its logarithm.
        default: The value that a specialist would start from.
    """

    label: str
    room: Literal["architecture", "recipe"]
    choices: tuple[Scalar, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    is_log: bool = False
    default: Scalar = 0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a student is trained; what the recipe half of a sample freezes to.

    Attributes:
        alpha: Weight of the distillation loss against the labels' loss at the first epoch,
            in [0, 1]; 0 is plain supervised training.
        alpha_end: The same at the last epoch; unused when `alpha_schedule` is constant.
        alpha_schedule: How alpha goes from its start to its end.
        temperature: Softens teacher and student; at least 1 for most pairs, always positive.
        temperature_schedule: `decay` lowers the temperature linearly to 1.
        augmentation: What is done to each picture of a batch.
        magnitude: Strength of RandAugment in [0, 30]; unused otherwise.
        mix: Whether pictures of a batch are mixed; teacher and student see the same mixture.
        mix_alpha: Parameter of the Beta distribution of the mixing ratio; positive.
        label_smoothing: Share of the label's mass spread over all classes, in [0, 1).
        optimiser: AdamW, or SGD with Nesterov momentum 0.9.
        learning_rate: Peak of a warm-up and cosine schedule.
        weight_decay: As the optimiser understands it; not applied to biases and norms.
    """

    alpha: float = 0.9
    alpha_end: float = 0.9
    alpha_schedule: AlphaSchedule = "constant"
    temperature: float = 4.0
    temperature_schedule: TemperatureSchedule = "constant"
    augmentation: Augmentation = "crop"
    magnitude: int = 0
    mix: Mix = "none"
    mix_alpha: float = 0.2
    label_smoothing: float = 0.0
    optimiser: Optimiser = "adamw"
    learning_rate: float = 5e-3
    weight_decay: float = 5e-4

    @property
    def is_distilled(self) -> bool:
        """Whether the teacher is listened to at any time."""
        return self.alpha > 0 or (self.alpha_schedule != "constant" and self.alpha_end > 0)

    @property
    def is_pure_distillation(self) -> bool:
        """Whether the labels are never listened to."""
        return self.alpha == 1 and (self.alpha_schedule == "constant" or self.alpha_end == 1)


RECIPE_PRIORS: Mapping[str, Mapping[str, Scalar]] = {
    "plain": {"alpha": 0.0, "alpha_schedule": "constant"},
    "textbook": {
        "alpha": 0.9,
        "alpha_schedule": "constant",
        "temperature": 4.0,
        "temperature_schedule": "constant",
    },
}
"""The two recipes every study starts from: no distillation, and Hinton's with T 4, alpha 0.9."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """The time of one forward pass of one file on one device.

    Attributes:
        median_ms: Median over the timed runs; the objective.
        ci95_low_ms: Lower end of the median's 95 % confidence interval.
        ci95_high_ms: Upper end of it.
        p10_ms: A tenth of the runs were faster.
        p90_ms: A tenth of the runs were slower.
        n_runs: Timed runs, warm-up excluded.
        batch: Pictures per run.
        threads: Threads of the runtime.
        runtime: Name and version of the runtime.
        device: Fingerprint of the device.
        drift: Reference network's time after the runs over its time before them.
    """

    median_ms: float
    ci95_low_ms: float
    ci95_high_ms: float
    p10_ms: float
    p90_ms: float
    n_runs: int
    batch: int
    threads: int
    runtime: str
    device: str
    drift: float


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a network costs besides time.

    Attributes:
        n_params: Trainable parameters.
        macs: Multiply-accumulates of one picture.
        size_bytes: Size of the ONNX file.
    """

    n_params: int
    macs: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class EpochLog:
    """One row of a learning curve.

    Attributes:
        epoch: Counted from 1.
        train_loss: Mean of the objective over the epoch's steps.
        val_loss: Cross-entropy on the validation split, in nats.
        val_accuracy: Top-1 on the validation split, in [0, 1].
        learning_rate: At the last step of the epoch.
        alpha: Weight of the distillation loss in this epoch.
        temperature: In this epoch.
        seconds: Wall time of training and validation.
    """

    epoch: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    alpha: float
    temperature: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """All that is known of one trial when it is over.

    Attributes:
        trial: Its number in the study.
        state: `complete`, `pruned` (over a limit, not trained) or `failed`.
        sample: The point of the joint space.
        network: Hash of the frozen network; equal for samples that build the same network.
        recipe: The frozen recipe, or none where freezing failed.
        val_accuracy: Best top-1 on the validation split, in [0, 1].
        latency: Of the student's ONNX file.
        footprint: Parameters, MACs, bytes.
        curve: One row per epoch.
        reason: Why it was pruned or failed.
        training_s: Wall time of the training loop.
        overhead_s: Wall time of everything else in the trial.
        same_as: Number of an earlier trial that was the same in everything.
        engine: How the steps were computed, for example `bf16 channels_last`.
    """

    trial: int
    state: TrialState
    sample: Sample
    network: str = ""
    recipe: Recipe | None = None
    val_accuracy: float | None = None
    latency: Latency | None = None
    footprint: Footprint | None = None
    curve: tuple[EpochLog, ...] = ()
    reason: str = ""
    training_s: float = 0.0
    overhead_s: float = 0.0
    same_as: int | None = None
    engine: str = ""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds with its uncertainty.

    Attributes:
        mean: Over the seeds.
        ci95: Half the width of the 95 % t-interval; none for a single seed.
        n: Number of seeds.
    """

    mean: float
    ci95: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class FrontStudent:
    """One student of the front (or the baseline), as the table shows it.

    Attributes:
        trial: Number of its trial.
        val_accuracy: In the search; after a refit, the mean over its seeds.
        test_accuracy: On the test split, read once; the mean over seeds after a refit.
        test_accuracy_ci95: Half-width of the 95 % interval; none without a refit.
        kd_gain: Test accuracy minus that of the matched twin without distillation.
        kd_gain_ci95: Half-width of the paired 95 % interval.
        n_seeds: Trainings behind the numbers.
        latency_ms: Median.
        latency_ci95_ms: Both ends of the median's 95 % interval.
        speed_up: Teacher's latency over this one's.
        n_params: Trainable parameters.
        macs: Multiply-accumulates of one picture.
        size_bytes: Of the ONNX file.
        architecture: The architecture half of the sample.
        recipe: The frozen recipe.
    """

    trial: int
    val_accuracy: float
    test_accuracy: float | None = None
    test_accuracy_ci95: float | None = None
    kd_gain: float | None = None
    kd_gain_ci95: float | None = None
    n_seeds: int = 1
    latency_ms: float
    latency_ci95_ms: tuple[float, float]
    speed_up: float
    n_params: int
    macs: int
    size_bytes: int
    architecture: Sample
    recipe: Recipe


@dataclass(frozen=True, kw_only=True)
class DataCard:
    """What a data set is, without its pictures.

    Attributes:
        name: As the user gave it.
        digest: SHA-256 of pictures, labels and splits.
        shape: Channels, height, width.
        classes: Their names in the order of the labels.
        mean: Per channel over the training split, pixels in [0, 1].
        std: Per channel over the training split.
        n_train: Pictures trained on.
        n_val: Pictures that choose.
        n_test: Pictures that report.
        n_skipped: Pictures that could not be read.
    """

    name: str
    digest: str
    shape: InputShape
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    n_train: int
    n_val: int
    n_test: int
    n_skipped: int = 0

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)


@dataclass(frozen=True, kw_only=True)
class TeacherCard:
    """What a teacher is and how good it is.

    Attributes:
        name: As the user gave it.
        digest: Hash of its weights and preprocessing.
        n_params: Parameters; none where the file does not tell.
        val_accuracy: Top-1 on the validation split, in [0, 1].
        latency_ms: Median of its ONNX file, measured like a student's.
    """

    name: str
    digest: str
    n_params: int | None
    val_accuracy: float
    latency_ms: float


@dataclass(frozen=True, kw_only=True)
class Front:
    """What a study has found: the Pareto-best students and what they are compared with.

    Attributes:
        study: Its name.
        n_trials: Finished trials of every state.
        n_failed: Those that failed.
        n_pruned: Those that were over a limit.
        wall_s: Wall time of the study, all its sessions together.
        training_s: The part of it that was training (teacher, trials and refits).
        hypervolume: Share of the box between (chance, teacher's latency) and (1, a thousandth
            of it) that the front dominates, accuracy against log latency.
        teacher: Accuracy and latency of the teacher.
        baseline: The default student without distillation.
        students: Sorted by latency, fastest first.
    """

    study: str
    n_trials: int
    n_failed: int
    n_pruned: int
    wall_s: float
    training_s: float
    hypervolume: float
    teacher: TeacherCard
    baseline: FrontStudent | None
    students: tuple[FrontStudent, ...] = field(default=())


@dataclass(frozen=True, kw_only=True)
class StudyOpened:
    """A search begins or goes on.

    Attributes:
        study: Its name.
        settings: The configuration, flat.
        data: The data set.
        teacher: The teacher.
        environment: Versions and hardware.
        time_ms: Milliseconds since the epoch.
    """

    study: str
    settings: dict[str, str]
    data: DataCard
    teacher: TeacherCard
    environment: dict[str, str]
    time_ms: int
    kind: Literal["study_opened"] = "study_opened"


@dataclass(frozen=True, kw_only=True)
class TrialStarted:
    """A trial begins, for the first time or again after an interruption."""

    trial: int
    sample: Sample
    time_ms: int
    kind: Literal["trial_started"] = "trial_started"


@dataclass(frozen=True, kw_only=True)
class EpochEnded:
    """A row was added to a trial's learning curve."""

    trial: int
    epoch: EpochLog
    time_ms: int
    kind: Literal["epoch_ended"] = "epoch_ended"


@dataclass(frozen=True, kw_only=True)
class TrialEnded:
    """A trial is over; `hypervolume` is the study's after it."""

    result: TrialResult
    hypervolume: float
    time_ms: int
    kind: Literal["trial_ended"] = "trial_ended"


@dataclass(frozen=True, kw_only=True)
class TrialInterrupted:
    """A trial was stopped by the user and will be run again."""

    trial: int
    time_ms: int
    kind: Literal["trial_interrupted"] = "trial_interrupted"


@dataclass(frozen=True, kw_only=True)
class StudyClosed:
    """A session of the study ends.

    Attributes:
        is_finished: Whether the budget is used up, rather than the session interrupted.
        front: What was found, or none if nothing was.
        files: Pictures and tables to keep beside the study.
        time_ms: Milliseconds since the epoch.
    """

    is_finished: bool
    front: Front | None
    files: tuple[Path, ...]
    time_ms: int
    kind: Literal["study_closed"] = "study_closed"


Event = StudyOpened | TrialStarted | EpochEnded | TrialEnded | TrialInterrupted | StudyClosed
"""Whatever a tracker is told."""


@runtime_checkable
class Target(Protocol):
    """A device with a runtime, on which an exported file can be timed.

    Invariants: `measure` never changes the file; two calls on the same file differ by noise
    only; a file that the runtime cannot run raises `MeasureError`.
    """

    def measure(self, model: Path) -> Latency:
        """Time the exported file, alone on its threads."""
        ...


@runtime_checkable
class Tracker(Protocol):
    """Where the events of a study are shown.

    Invariants: events of one study arrive in order; an event told twice changes nothing; a
    `TrialStarted` for a known trial replaces what was known of it.
    """

    def log(self, event: Event) -> None:
        """Take note of one event."""
        ...

    def close(self) -> None:
        """Finish what is under way; no event follows."""
        ...


def dump_json(value: object) -> str:
    """The JSON of a frozen value, on one line."""
    return TypeAdapter[object](type(value)).dump_json(value).decode()


def load_json(kind: type[T], text: str | bytes) -> T:
    """The frozen value that `dump_json` wrote.

    Args:
        kind: The value's class.
        text: Its JSON.

    Returns:
        A value equal to the one that was written.
    """
    return TypeAdapter(kind).validate_json(text)


def front_as_dict(front: Front) -> dict[str, Any]:
    """The front as `--json` prints it: plain values, the students under the key `front`."""
    values: dict[str, Any] = TypeAdapter(Front).dump_python(front, mode="json")
    values["front"] = values.pop("students")
    return values
