"""Latencies of the last table: teacher and the best trials timed by turns, in one process.

A trial is timed when its turn comes, and a machine may be twice as fast a minute later. Which of
two students is faster, and how much faster than the teacher, is therefore measured again where
it is decided.
"""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from autokd.candidate import Workshop, export_for, load_student
from autokd.study.folder import StudyFolder
from autokd.study.refits import find_weights
from autokd.types import Latency, Target, TeacherCard, TrialResult

__all__ = ["SideBySide", "measure_side_by_side"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SideBySide:
    """What was timed together.

    Attributes:
        teacher_ms: Median of the teacher; of several, the sum of theirs.
        students: By hash of the network.
    """

    teacher_ms: float
    students: Mapping[str, Latency]

    def correct(self, result: TrialResult) -> TrialResult:
        """A result with the latency that can be compared; as it is if it was not among them."""
        latency = self.students.get(result.network, result.latency)
        return dataclasses.replace(result, latency=latency)

    def correct_teacher(self, card: TeacherCard) -> TeacherCard:
        """The teacher with the latency that can be compared."""
        return dataclasses.replace(card, latency_ms=self.teacher_ms)


def measure_side_by_side(
    results: Sequence[TrialResult],
    *,
    teacher: Sequence[Path],
    target: Target,
    workshop: Workshop,
    folder: StudyFolder,
) -> SideBySide:
    """Time the teacher and trained students by turns.

    Args:
        results: Complete ones; the same network is timed once.
        teacher: ONNX files of the teacher, several if it is several.
        target: What they are timed on.
        workshop: Space and pictures.
        folder: Where the students' weights lie.

    Returns:
        All their latencies.
    """
    networks = {result.network: result for result in results}
    with tempfile.TemporaryDirectory(prefix="autokd-") as scratch:
        models = [
            _export(result, Path(scratch), target=target, workshop=workshop, folder=folder)
            for result in networks.values()
        ]
        latencies = target.measure_together([*teacher, *models])
    n_teachers = len(teacher)
    return SideBySide(
        teacher_ms=sum(latency.median_ms for latency in latencies[:n_teachers]),
        students=dict(zip(networks, latencies[n_teachers:], strict=True)),
    )


def _export(
    result: TrialResult,
    scratch: Path,
    *,
    target: Target,
    workshop: Workshop,
    folder: StudyFolder,
) -> Path:
    """The trained student as it would be exported."""
    card = workshop.data.card
    student = load_student(
        workshop.space,
        result.sample,
        data=card,
        weights=find_weights(folder, trial=result.trial, same_as=result.same_as),
    )
    return export_for(
        (target,),
        student,
        scratch / f"trial-{result.trial}.onnx",
        architecture=workshop.space.architecture_of(result.sample),
        shape=card.shape,
    )
