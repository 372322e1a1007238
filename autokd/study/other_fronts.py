"""The fronts of the targets that are not searched for, of what was searched for another one."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

from autokd.config import Config
from autokd.spaces import Space
from autokd.study.findings import Findings
from autokd.study.folder import StudyFolder
from autokd.types import DataCard, Target, TeacherCard, TrialResult

__all__ = ["OtherFronts"]


@final
class OtherFronts:
    """Keeps a front for each further target: accuracies of the search, latencies of the device."""

    def __init__(
        self,
        config: Config,
        *,
        space: Space,
        data: DataCard,
        teacher: TeacherCard,
        models: Sequence[Path],
        targets: Mapping[str, Target],
    ) -> None:
        """Measures the teacher on each target.

        Args:
            config: Of the study; its limit of latency is one of the first target.
            space: What is searched.
            data: What is learnt from.
            teacher: As the first target knows it.
            models: ONNX files of the teacher.
            targets: By name.
        """
        self._config = config.model_copy(update={"max_latency_ms": None})
        self._space, self._data = space, data
        self._teachers = {
            name: dataclasses.replace(
                teacher, latency_ms=sum(target.measure(one).median_ms for one in models)
            )
            for name, target in targets.items()
        }

    def save(self, results: Sequence[TrialResult], *, folder: StudyFolder) -> None:
        """Writes all of them.

        Args:
            results: Of all trials.
            folder: Of the study; its clock is read.
        """
        wall_s, training_s = folder.read_time()
        for name, teacher in self._teachers.items():
            findings = Findings(
                self._config,
                [
                    dataclasses.replace(one, latency=one.latencies.get(name), fp32_latency=None)
                    for one in results
                ],
                space=self._space,
                data=self._data,
                teacher=teacher,
            )
            front = findings.build_front(None, wall_s=wall_s, training_s=training_s)
            folder.save_front(front, target=name)
