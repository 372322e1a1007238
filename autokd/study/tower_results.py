"""What comes of a light dual tower: its trainings, and the rows of its table."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import final

from autokd.distillation import Retrieval
from autokd.study.finalists import estimate
from autokd.study.tower_times import TowerTimes
from autokd.types import EpochLog, Estimate

__all__ = [
    "AlignedTowers",
    "TowerRow",
    "TowerTraining",
    "build_row",
    "list_figures",
    "name_training",
]


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class TowerRow:
    """A dual tower as the table shows it.

    Attributes:
        name: `student`, `twin` or `teacher`.
        recall: Mean recall at 1 of both directions on the test split, over the seeds.
        text_at_1: Of pictures whose nearest text is theirs.
        image_at_1: Of texts whose nearest picture is theirs.
        zero_shot: Top-1 on the folder of `--zero-shot`, if one was named.
        n_params: Parameters of both towers.
        image_ms: Latency of the image tower, batch 1; none of a teacher that cannot be timed.
        text_ms: Of the text tower.
    """

    name: str
    recall: Estimate
    text_at_1: float
    image_at_1: float
    zero_shot: float | None
    n_params: int
    image_ms: float | None
    text_ms: float | None


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignedTowers:
    """What came of `autokd distill-clip`.

    Attributes:
        study: Its name.
        student: Taught by the teacher.
        twin: The same without it, if it was trained.
        teacher: CLIP.
        gain: By the teacher, in mean recall at 1 on the test split, over seeds; none without a
            twin.
        n_pictures: Training, validation, test.
        files: Of the exported towers.
    """

    study: str
    student: TowerRow
    twin: TowerRow | None
    teacher: TowerRow
    gain: Estimate | None
    n_pictures: tuple[int, int, int]
    files: tuple[Path, ...]


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class TowerTraining:
    """What is kept of a training that came to its end.

    Attributes:
        seed: Of weights and draws.
        is_twin: Whether it had no teacher.
        curve: A row an epoch.
        seconds: Wall time.
        test: Recalls on the test split, read once.
        zero_shot: Top-1 on the folder of `--zero-shot`, if one was named.
        engine: How the steps were computed; empty of a study of before it was kept.
    """

    seed: int
    is_twin: bool
    curve: tuple[EpochLog, ...]
    seconds: float
    test: Retrieval
    zero_shot: float | None
    engine: str = ""

    @property
    def name(self) -> str:
        """Of its files and its run."""
        return name_training(self.seed, is_twin=self.is_twin)

    @property
    def val_recall(self) -> float:
        """Of its best epoch, whose weights were kept."""
        return max(row.val_accuracy for row in self.curve)


def name_training(seed: int, *, is_twin: bool) -> str:
    """What a training is called."""
    return f"{'twin' if is_twin else 'student'}-seed-{seed}"


def build_row(
    name: str, done: Sequence[TowerTraining], *, times: TowerTimes, n_params: int
) -> TowerRow:
    """Means over the seeds."""
    told = [one.zero_shot for one in done if one.zero_shot is not None]
    return TowerRow(
        name=name,
        recall=estimate([one.test.mean for one in done]),
        text_at_1=sum(one.test.text_at_1 for one in done) / len(done),
        image_at_1=sum(one.test.image_at_1 for one in done) / len(done),
        zero_shot=sum(told) / len(told) if told else None,
        n_params=n_params,
        image_ms=times.image_ms,
        text_ms=times.text_ms,
    )


def list_figures(found: AlignedTowers) -> dict[str, float]:
    """All numbers of a result by name."""
    figures: dict[str, float] = {}
    for row in (found.student, found.twin, found.teacher):
        if row is None:
            continue
        values = {
            "test_recall": row.recall.mean,
            "test_recall_ci95": row.recall.ci95,
            "text_at_1": row.text_at_1,
            "image_at_1": row.image_at_1,
            "zero_shot": row.zero_shot,
            "n_params": float(row.n_params),
            "image_ms": row.image_ms,
            "text_ms": row.text_ms,
        }
        figures |= {f"{row.name}_{k}": v for k, v in values.items() if v is not None}
    if found.gain is not None:
        figures["gain"] = found.gain.mean
        if found.gain.ci95 is not None:
            figures["gain_ci95"] = found.gain.ci95
    return figures
