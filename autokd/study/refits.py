"""One training of the finals: a finalist or its twin with one seed, kept on disk."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import torch

from autokd.candidate import (
    INT8_SUFFIX,
    Workshop,
    build_student,
    count_rounding_epochs,
    quantize_finalist,
    recall_engine,
    save_student,
    score_file,
    train_student,
)
from autokd.data import TestData
from autokd.distillation import Engine, OnEpoch, Student, evaluate
from autokd.study.folder import StudyFolder
from autokd.types import (
    EpochLog,
    FrontStudent,
    Precision,
    Recipe,
    TrialResult,
    dump_json,
    load_json,
)

__all__ = [
    "Entry",
    "Refit",
    "find_int8",
    "find_weights",
    "keep_refit",
    "load_refit",
    "load_refits",
    "locate_weights",
    "measure_test",
    "name_weights",
    "read_refit",
    "train_refit",
    "without_teacher",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refit:
    """One finalist trained with one seed; or, without a refit, what a trial has left.

    Attributes:
        trial: Of the search.
        seed: Of weights, order and augmentation.
        is_twin: Whether it was trained without distillation for comparison.
        val_accuracy: In [0, 1]; of an INT8 student that of its file in the runtime.
        test_accuracy: In [0, 1]; of the same file.
        epochs: It was trained for.
        curve: One row per epoch; none of a study before there was one.
        engine: How the steps were computed.
        answers: Where the teacher's came from.
        is_aware: Whether its INT8 file is that of quantization-aware training, which was better
            on validation than that of the student quantized as it was.
        why_not_aware: Why nothing came of that training, where nothing did.
        weights: Name of the file of its weights in the study's folder, where that is a trial's or
            one of before names told the length.
        float_val_accuracy: Of an INT8 student before it was quantized, in torch.
    """

    trial: int
    seed: int
    is_twin: bool
    val_accuracy: float
    test_accuracy: float
    epochs: int
    curve: tuple[EpochLog, ...] = ()
    engine: str = ""
    answers: str = ""
    is_aware: bool = False
    why_not_aware: str = ""
    weights: str = ""
    float_val_accuracy: float | None = None

    @property
    def file(self) -> str:
        """Name of the file of its weights in the study's folder."""
        return self.weights or f"refits/{_name(self)}.safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A training of the finals that is wanted.

    Attributes:
        trial: Of the search.
        seed: Of weights, order and augmentation.
        is_twin: Whether it is to be trained without distillation, as many steps as the student.
        epochs: Of the student, once.
    """

    trial: int
    seed: int
    is_twin: bool
    epochs: int

    @property
    def name(self) -> str:
        """Of its files."""
        return _name(self)

    @property
    def training(self) -> str:
        """Of its checkpoints; a training of another length is another one."""
        return f"final-{self.name}-{self.epochs}"

    @property
    def title(self) -> str:
        """For people."""
        return f"trial {self.trial}, seed {self.seed}{', twin' if self.is_twin else ''}"

    def count_epochs(self, recipe: Recipe, *, n_labelled: int, n_unlabelled: int) -> int:
        """Epochs over the labelled pictures that it takes.

        Args:
            recipe: Of the student.
            n_labelled: Training pictures.
            n_unlabelled: Pictures without labels, which a distilled student sees too.

        Returns:
            For a twin as many steps as its student has, which may see more pictures, and may be
            trained several times over.
        """
        if not self.is_twin:
            return self.epochs
        n_more = n_unlabelled if recipe.is_distilled else 0
        return round(self.epochs * recipe.generations * (n_labelled + n_more) / n_labelled)

    def count_rounding_epochs(self, recipe: Recipe, *, n_labelled: int, n_unlabelled: int) -> int:
        """Epochs after these in which an INT8 student learns to bear its rounding.

        Args:
            recipe: Of the student.
            n_labelled: Training pictures.
            n_unlabelled: Pictures without labels.

        Returns:
            As many steps for a twin as for its student; 0 in FP32.
        """
        if recipe.precision == "fp32":
            return 0
        epochs = count_rounding_epochs(self.epochs)
        on_logits = dataclasses.replace(recipe, feature_loss="none")  # what is heard of the teacher
        n_more = n_unlabelled if self.is_twin and on_logits.is_distilled else 0
        return round(epochs * (n_labelled + n_more) / n_labelled)


def _name(training: Entry | Refit) -> str:
    """A training of another length leaves the files of this one alone, be it never finished."""
    return f"{_short_name(training)}-{training.epochs}"


def _short_name(training: Entry | Refit) -> str:
    """As it was before the length was in it."""
    return f"{training.trial}-{training.seed}-{'twin' if training.is_twin else 'kd'}"


def train_refit(
    entry: Entry,
    result: TrialResult,
    *,
    workshop: Workshop,
    test: TestData,
    weights: Path,
    on_epoch: OnEpoch,
) -> tuple[Refit | None, float]:
    """Trains one finalist or twin and asks the test split.

    Args:
        entry: Which.
        result: Of its trial; all trainings of it are computed as it says.
        workshop: What the study shares.
        test: The test split.
        weights: The trained student is written there, its file in INT8 beside it.
        on_epoch: Called after each epoch; may end the training.

    Returns:
        What came of it, none where it was ended before; and the seconds of training.
    """
    data = workshop.data
    start = time.perf_counter()
    student, recipe = build_student(workshop.space, result.sample, data=data.card, seed=entry.seed)
    n_pictures = {
        "n_labelled": len(data.train_images),
        "n_unlabelled": len(data.unlabelled_images),
    }
    plan = dataclasses.replace(
        workshop.plan,
        epochs=entry.count_epochs(recipe, **n_pictures),
        seed=entry.seed,
        engine=recall_engine(result, workshop),
    )
    taught = without_teacher(recipe) if entry.is_twin else recipe
    training = train_student(
        student,
        taught,
        data=data,
        teacher=workshop.teachers[recipe.taught_by],
        plan=plan,
        on_epoch=on_epoch,
        keepers=workshop.checkpoints.keepers(entry.training),
    )
    seconds = time.perf_counter() - start
    if training.is_stopped:
        return None, seconds
    save_student(student, weights)
    val_accuracy, curve = training.val_accuracy, training.curve
    precision: dict[str, Any] = {}
    if result.precision == "int8":
        quantized = quantize_finalist(
            student,
            taught,
            path=find_int8(weights),
            data=data,
            teacher=workshop.teachers[recipe.taught_by],
            plan=dataclasses.replace(
                plan, epochs=entry.count_rounding_epochs(recipe, **n_pictures)
            ),
            float_layers=result.float_layers if result.state == "complete" else None,
            n_before=len(curve),
            on_epoch=on_epoch,
            keeper=workshop.checkpoints.keepers(entry.training)(taught.generations),
            weight_bits=workshop.weight_bits,
        )
        seconds = time.perf_counter() - start
        if quantized.is_stopped:
            return None, seconds
        val_accuracy, curve = quantized.val_accuracy, (*curve, *quantized.curve)
        precision = {
            "is_aware": quantized.is_aware,
            "why_not_aware": quantized.reason,
            "float_val_accuracy": training.val_accuracy,
        }
    refit = Refit(
        trial=entry.trial,
        seed=entry.seed,
        is_twin=entry.is_twin,
        val_accuracy=val_accuracy,
        test_accuracy=measure_test(student, test, weights=weights, precision=result.precision),
        epochs=entry.epochs,
        curve=curve,
        engine=str(training.engine),
        answers=training.answers,
        **precision,
    )
    return refit, seconds


def measure_test(student: Student, test: TestData, *, weights: Path, precision: Precision) -> float:
    """Top-1 on the test split of what is deployed.

    Args:
        student: As it was trained.
        test: The test split.
        weights: Of the student; its INT8 file lies beside them.
        precision: In INT8 the file is scored, in the runtime.

    Returns:
        The accuracy in [0, 1].
    """
    if precision == "int8":
        return score_file(find_int8(weights), test.images, test.labels)
    engine = Engine(device=torch.device("cpu"))
    return evaluate(student, test.images, test.labels, engine=engine)[1]


def keep_refit(folder: StudyFolder, entry: Entry, refit: Refit) -> None:
    """Writes what came of an entry whose weights lie there already."""
    path = folder.refits / f"{entry.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(dump_json(refit), encoding="utf-8")
    temporary.replace(path)


def load_refit(folder: StudyFolder, entry: Entry) -> Refit | None:
    """What an earlier session has trained; none where there is none of this length."""
    for name in (entry.name, _short_name(entry)):
        path = folder.refits / f"{name}.json"
        if path.exists() and path.with_suffix(".safetensors").exists():
            known = _read(path)
            if known.epochs == entry.epochs:
                return known
    return None


def _read(path: Path) -> Refit:
    """A refit, with its weights where they lie: beside it."""
    refit = load_json(Refit, path.read_text(encoding="utf-8"))
    file = f"{path.parent.name}/{path.stem}.safetensors"
    return refit if refit.file == file else dataclasses.replace(refit, weights=file)


def load_refits(folder: StudyFolder, *, pattern: str = "*") -> dict[Path, Refit]:
    """What the finals of a study have trained so far.

    Args:
        folder: Of the study.
        pattern: Of the names of their files, without the ending.

    Returns:
        Each under its file, beside which its weights lie.
    """
    return {path: _read(path) for path in sorted(folder.refits.glob(f"{pattern}.json"))}


def find_weights(
    folder: StudyFolder, *, trial: int, same_as: int | None = None, is_twin: bool = False
) -> Path:
    """The best weights of a trial: of its refit that did best on validation, else its own."""
    refits = load_refits(folder, pattern=f"{trial}-*-{'twin' if is_twin else 'kd'}*")
    if refits:
        best = max(refits, key=lambda path: (refits[path].val_accuracy, -refits[path].seed))
        return best.with_suffix(".safetensors")
    return folder.weights / f"trial-{trial if same_as is None else same_as}.safetensors"


def name_weights(result: TrialResult) -> str:
    """The file of the weights that a trial was validated with, in the study's folder."""
    number = result.trial if result.same_as is None else result.same_as
    return f"weights/trial-{number}.safetensors"


def locate_weights(folder: StudyFolder, student: FrontStudent) -> Path:
    """The file of the weights of a student of the front."""
    if student.weights:
        return folder.path / student.weights
    return find_weights(folder, trial=student.trial, is_twin=student.is_twin)


def read_refit(weights: Path) -> Refit | None:
    """The refit whose weights lie here; none where they are a trial's."""
    path = weights.with_suffix(".json")
    return _read(path) if path.exists() else None


def find_int8(weights: Path) -> Path:
    """Where the INT8 file of a student lies whose weights lie here."""
    return weights.with_suffix(INT8_SUFFIX)


def without_teacher(recipe: Recipe) -> Recipe:
    """The same recipe with nobody to teach: what the student gains is measured against it."""
    return dataclasses.replace(
        recipe,
        alpha=0.0,
        alpha_end=0.0,
        alpha_schedule="constant",
        feature_loss="none",
        exits=0,
        generations=1,
    )
