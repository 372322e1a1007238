"""Latencies of the last table: teacher and the best trials timed by turns, in one process.

A trial is timed when its turn comes, and a machine may be twice as fast a minute later. Which of
two students is faster, and how much faster than the teacher, is therefore measured again where
it is decided.
"""

import dataclasses
import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import final

from autokd.candidate import Workshop, explain_int8, export_for, load_student
from autokd.errors import MeasureError
from autokd.study.folder import StudyFolder
from autokd.study.refits import find_int8, find_weights, name_weights
from autokd.types import Latency, Target, TeacherCard, TrialResult

__all__ = ["SideBySide", "compare_files", "measure_finals", "measure_side_by_side"]

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SideBySide:
    """What was timed together.

    Attributes:
        teacher_ms: Of the teacher; of several, the sum of theirs.
        students: By `TrialResult.artefact`; of an INT8 student, its FP32 self by its network too.
    """

    teacher_ms: float
    students: Mapping[str, Latency]

    def correct(self, result: TrialResult) -> TrialResult:
        """A result with the latencies that can be compared.

        Args:
            result: Of any state.

        Returns:
            The result; as it is if it was not among them, and pruned if it is in INT8 and is
            no faster than its FP32 self after all.
        """
        latency = self.students.get(result.artefact)
        if latency is None:
            return result
        if result.precision == "fp32":
            return dataclasses.replace(result, latency=latency)
        own = self.students.get(result.network, result.fp32_latency)
        corrected = dataclasses.replace(result, latency=latency, fp32_latency=own)
        reason = explain_int8(latency, own)
        if not reason or result.state != "complete":
            return corrected
        return dataclasses.replace(corrected, state="pruned", reason=reason)

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
    weights: Mapping[int, str] = MappingProxyType({}),
) -> SideBySide:
    """Time the teacher and trained students by turns.

    Args:
        results: Complete ones; the same file is timed once.
        teacher: ONNX files of the teacher, several if it is several.
        target: What they are timed on.
        workshop: Space and pictures.
        folder: Where the students' weights lie.
        weights: Which of them are meant, by trial, where those are not the trial's own.

    Returns:
        All their latencies.
    """
    files = {result.artefact: result for result in results}
    # In FP32 too, since who is no faster in INT8 is not offered.
    selves = {one.network: one for one in results if one.network not in files}
    with tempfile.TemporaryDirectory(prefix="autokd-") as scratch:
        finder = _Finder(Path(scratch), target, workshop, folder, weights)
        models = [*map(finder.find, files.values()), *map(finder.export, selves.values())]
        latencies = target.measure_together([*teacher, *models])
    n_teachers = len(teacher)
    return SideBySide(
        teacher_ms=sum(latency.median_ms for latency in latencies[:n_teachers]),
        students=dict(zip([*files, *selves], latencies[n_teachers:], strict=True)),
    )


def measure_finals(
    results: Sequence[TrialResult],
    *,
    rounded: Mapping[tuple[int, bool], Path],
    target: Target,
    folder: StudyFolder,
) -> dict[tuple[int, bool], float]:
    """How long INT8 files take that came of the finals, against those of the search.

    Quantization-aware training may quantize other layers than static quantization has.

    Args:
        results: Who was in the finals.
        rounded: Weights beside which such files lie: `Finals.rounded`.
        target: What they are timed on.
        folder: Where the files of the search lie.

    Returns:
        By trial, and whether it is its twin: the new time over the old one, infinite where it is
        not known.
    """
    pairs: dict[tuple[int, bool], tuple[Path, Path]] = {}
    for result in results:
        before = find_int8(folder.path / name_weights(result))
        for is_twin in (False, True):
            weights = rounded.get((result.trial, is_twin))
            if weights is not None:
                pairs[result.trial, is_twin] = before, find_int8(weights)
    ratios = compare_files(list(pairs.values()), target=target)
    return dict(zip(pairs, ratios, strict=True))


def compare_files(pairs: Sequence[tuple[Path, Path]], *, target: Target) -> list[float]:
    """How long one file of each pair takes against the other, all timed by turns.

    Args:
        pairs: The old file and the new one.
        target: What they are timed on.

    Returns:
        Of each pair the new time over the old one; infinite where one of them cannot be timed.
    """
    if not pairs:
        return []
    try:
        latencies = target.measure_together([file for pair in pairs for file in pair])
    except MeasureError as error:
        if len(pairs) > 1:  # which of them it is
            return [compare_files([pair], target=target)[0] for pair in pairs]
        _logger.warning("a file of the finals cannot be timed: %s", error)
        return [math.inf]
    times = [latency.median_ms for latency in latencies]
    return [after / before for before, after in zip(times[::2], times[1::2], strict=True)]


@final
@dataclasses.dataclass(frozen=True)
class _Finder:
    """Gives the files that are timed."""

    scratch: Path
    target: Target
    workshop: Workshop
    folder: StudyFolder
    weights: Mapping[int, str]

    def find(self, result: TrialResult) -> Path:
        """The file of the search, which `measure_finals` compares with; a refit's without one."""
        if result.precision == "fp32":
            return self.export(result)
        own = find_int8(self.folder.path / name_weights(result))
        if own.exists() and result.trial not in self.weights:
            return own
        return find_int8(self._weights_of(result))

    def export(self, result: TrialResult) -> Path:
        """The trained student in FP32, as it would be exported."""
        card = self.workshop.data.card
        student = load_student(
            self.workshop.space, result.sample, data=card, weights=self._weights_of(result)
        )
        return export_for(
            self.target,
            student,
            self.scratch / f"trial-{result.trial}.onnx",
            architecture=self.workshop.space.architecture_of(result.sample),
            shape=card.shape,
        )

    def _weights_of(self, result: TrialResult) -> Path:
        if result.trial in self.weights:
            return self.folder.path / self.weights[result.trial]
        return find_weights(self.folder, trial=result.trial, same_as=result.same_as)
