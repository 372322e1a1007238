"""What is measured and found: latencies, results, the front, and what data and teacher are."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from autokd.types.points import InputShape, Precision, Recipe, Sample

__all__ = [
    "DataCard",
    "EpochLog",
    "Estimate",
    "Footprint",
    "Front",
    "FrontStudent",
    "Latency",
    "Prospect",
    "TeacherCard",
    "TrialResult",
    "TrialState",
]

TrialState = Literal["measured", "stopped", "complete", "pruned", "failed"]
"""`measured` is a trial that has not been trained yet; the others are final."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """The time of one forward pass of one file on one device.

    Attributes:
        median_ms: Of a run that nothing disturbs, which is the median on a quiet machine; the
            objective.
        ci95_low_ms: Lower end of its 95 % confidence interval.
        ci95_high_ms: Upper end of it.
        p10_ms: A tenth of the runs were faster, corrected for the drift.
        p90_ms: A tenth of the runs were slower, corrected for the drift.
        n_runs: Timed runs, the disturbed ones too, warm-up excluded; none of a table.
        batch: Pictures per run.
        threads: Threads of the runtime.
        runtime: Name and version of the runtime; `table` where the time was looked up, `command`
            and what a program calls its own where it is the median of what that program told.
        device: Fingerprint of the device.
        drift: Reference network's time beside the runs over its time on a quiet machine.
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

    @property
    def precision(self) -> float:
        """Half of the 95 % interval, as a share."""
        return (self.ci95_high_ms - self.ci95_low_ms) / 2 / self.median_ms

    def is_faster_than(self, other: "Latency") -> bool:
        """Whether it is shorter by more than both intervals leave open."""
        above = self.ci95_high_ms - self.median_ms
        below = other.median_ms - other.ci95_low_ms
        return _is_shorter(self.median_ms, other.median_ms, above=above, below=below)


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a network costs besides time.

    Attributes:
        n_params: Trainable parameters.
        macs: Multiply-accumulates of one picture.
        size_bytes: Size of the ONNX file.
        paths: Counts of its layers and along its paths, as `latency.PATH_COUNTS` names them.
    """

    n_params: int
    macs: int
    size_bytes: int
    paths: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Prospect:
    """What is known of a candidate before it is trained.

    Attributes:
        latency_ms: Measured.
        traits: Numbers that describe the network, as many for each candidate of a study: the
            logarithms of latency, parameters and multiply-accumulates, counts along its paths.
    """

    latency_ms: float
    traits: tuple[float, ...]


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
        state: `measured` (not trained yet), `stopped` (before its last epoch, hardly to enter the
            front), `complete`, `pruned` (over a limit, not trained) or `failed`.
        sample: The point of the joint space.
        network: Hash of the frozen network; equal for samples that build the same network.
        recipe: The frozen recipe, or none where freezing failed.
        val_accuracy: Best top-1 on the validation split, in [0, 1]; of an INT8 student that of its
            file in the runtime, while the curve is that of its training.
        latency: Of the student's ONNX file, in its precision.
        fp32_latency: Of the same student in FP32, timed by turns with it; none where that is what
            it is deployed in.
        footprint: Parameters, MACs, bytes.
        curve: One row per epoch.
        reason: Why it was stopped, pruned or failed.
        training_s: Wall time of the training loop.
        overhead_s: Wall time of everything else in the trial.
        same_as: Number of an earlier trial that was the same in everything.
        engine: How the steps were computed, for example `bf16 channels_last`.
        answers: Where the teacher's came from: `live`, `kept` in the bank, or `mixed` of those
            to two pictures, kept or not; `kept, live` where generations differ; empty without a
            teacher.
        inherited_from: Number of the trial whose weights it was to begin with; none where it was
            to begin afresh.
        inherited_share: Of its parameters, in [0, 1]; 0 where those weights were gone when the
            training began, which was afresh then.
        float_layers: Of an INT8 student, the layers that stay in FP32 since they cost too much
            accuracy otherwise.
        latencies: Of the same file on the further targets, by name, where they could run it.
        fp32_latencies: Of an INT8 student in FP32 there, timed by turns with it.
        fp32_val_accuracy: Of an INT8 student before it was quantized, as it was trained.
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
    answers: str = ""
    inherited_from: int | None = None
    inherited_share: float | None = None
    fp32_latency: Latency | None = None
    float_layers: tuple[str, ...] = ()

    @property
    def precision(self) -> Precision:
        """What it is deployed in."""
        return "fp32" if self.recipe is None else self.recipe.precision

    @property
    def artefact(self) -> str:
        """Equal for results whose files take the same time: network, precision, layers in it."""
        if self.precision == "fp32":
            return self.network
        return " ".join([self.network, self.precision, *self.float_layers])

    latencies: Mapping[str, Latency] = field(default_factory=dict[str, Latency])
    fp32_latencies: Mapping[str, Latency] = field(default_factory=dict[str, Latency])
    fp32_val_accuracy: float | None = None


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
        kd_gain: Test accuracy with distillation minus that of the matched twin without it,
            whichever of them this is.
        kd_gain_ci95: Half-width of the paired 95 % interval.
        n_seeds: Trainings behind the numbers.
        latency_ms: Undisturbed; of a finished search, timed by turns with the teacher's.
        latency_ci95_ms: Both ends of its 95 % interval.
        speed_up: Teacher's latency over this one's.
        n_params: Trainable parameters.
        macs: Multiply-accumulates of one picture.
        size_bytes: Of the ONNX file.
        architecture: The architecture half of the sample.
        recipe: The frozen recipe; of a twin, without distillation.
        is_twin: Whether this is the twin, which was more accurate on validation than the distilled
            student and took its place.
        fp32_latency_ms: Of an INT8 student, that of its FP32 self, timed by turns with it.
        weights: Name of the file of its weights in the study's folder; of several seeds, of the
            one that did best on validation. Empty in studies of before it was told.
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
    is_twin: bool = False
    fp32_latency_ms: float | None = None
    weights: str = ""

    @property
    def is_vain(self) -> bool:
        """Whether it is in INT8 and no faster than it would be in FP32."""
        return self.fp32_latency_ms is not None and self.latency_ms >= self.fp32_latency_ms

    def is_faster_than(self, other: "FrontStudent") -> bool:
        """Whether its latency is shorter by more than both intervals leave open."""
        above = self.latency_ci95_ms[1] - self.latency_ms
        below = other.latency_ms - other.latency_ci95_ms[0]
        return _is_shorter(self.latency_ms, other.latency_ms, above=above, below=below)


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
        n_skipped: Pictures of the data set that could not be read.
        n_unlabelled: Pictures without labels that are trained on besides.
        unlabelled_digest: SHA-256 of them; empty where there are none.
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
    n_unlabelled: int = 0
    unlabelled_digest: str = ""

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    @property
    def digests(self) -> dict[str, str]:
        """Of its parts, by what they are called: what a study is held to."""
        return {"data": self.digest, "unlabelled pictures": self.unlabelled_digest}


@dataclass(frozen=True, kw_only=True)
class TeacherCard:
    """What a teacher is and how good it is.

    Attributes:
        name: As the user gave it; of several teachers, their names joined by ` + `.
        digest: Hash of its weights and preprocessing.
        n_params: Parameters, of several teachers together; none where a file does not tell.
        val_accuracy: Top-1 on the validation split, in [0, 1].
        latency_ms: Of its ONNX file, measured like a student's. Of several teachers it is
            the sum of theirs, measured one by one: what deploying all of them would cost.
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
        n_stopped: Those that were stopped before their last epoch.
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
    n_stopped: int = 0


def _is_shorter(one_ms: float, other_ms: float, *, above: float, below: float) -> bool:
    """Whether a difference is larger than the half intervals that face each other."""
    return other_ms - one_ms > math.hypot(above, below)
