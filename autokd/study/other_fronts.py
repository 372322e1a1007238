"""The fronts of the targets that are not searched for, of what was searched for another one."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import final

from autokd.candidate import explain_int8
from autokd.config import Config
from autokd.errors import MeasureError, TargetError
from autokd.spaces import Space
from autokd.study.findings import Findings
from autokd.study.folder import StudyFolder
from autokd.study.teaching import Faculty
from autokd.types import DataCard, Target, TeacherCard, TrialResult

__all__ = ["OtherFronts", "judge_elsewhere"]

_logger = logging.getLogger(__name__)


@final
class OtherFronts:
    """Keeps a front for each further target: accuracies of the search, latencies of the device."""

    def __init__(
        self,
        config: Config,
        *,
        space: Space,
        data: DataCard,
        faculty: Faculty,
        folder: StudyFolder,
        targets: dict[str, Target],
    ) -> None:
        """Measures the teacher on each target, and holds the study to the devices behind them.

        One that was there in an earlier session and is away now costs its front for this session.

        Args:
            config: Of the study; its limit of latency is one of the first target.
            space: What is searched.
            data: What is learnt from.
            faculty: The teacher as the first target knows it, and its ONNX files.
            folder: Of the study, for the fronts.
            targets: By name; who is away is taken out.

        Raises:
            MeasureError: A target that the study has never measured on cannot time the teacher.
            TargetError: Likewise, after it has failed again and again.
        """
        self._config = config.model_copy(update={"max_latency_ms": None})
        self._space, self._data, self._folder = space, data, folder
        self._teachers: dict[str, TeacherCard] = {}
        for name, target in list(targets.items()):
            try:
                latencies = [target.measure(one) for one in faculty.models]
            except (MeasureError, TargetError) as error:
                if not folder.find_device(name):  # a mistake is told before a night is spent on it
                    raise
                _logger.warning("no front of the target %s in this session: %s", name, error)
                del targets[name]
                continue
            folder.hold_to_device(latencies[0].device, target=name)
            self._teachers[name] = dataclasses.replace(
                faculty.card, latency_ms=sum(one.median_ms for one in latencies)
            )

    def save(self, results: Sequence[TrialResult]) -> None:
        """Writes all of them.

        Args:
            results: Of all trials.
        """
        wall_s, training_s = self._folder.read_time()
        for name, teacher in self._teachers.items():
            findings = Findings(
                self._config,
                [judge_elsewhere(one, target=name) for one in results],
                space=self._space,
                data=self._data,
                teacher=teacher,
            )
            front = findings.build_front(None, wall_s=wall_s, training_s=training_s)
            self._folder.save_front(front, target=name)


def judge_elsewhere(result: TrialResult, *, target: str) -> TrialResult:
    """A result of the search as it is on a further target.

    Args:
        result: Of any state.
        target: Its name.

    Returns:
        With the latencies there, none where it could not run; pruned where it is in INT8 and no
        faster there than its FP32 self.
    """
    latency, own = result.latencies.get(target), result.fp32_latencies.get(target)
    there = dataclasses.replace(result, latency=latency, fp32_latency=own)
    reason = explain_int8(latency, own)
    if not reason or result.state != "complete":
        return there
    return dataclasses.replace(there, state="pruned", reason=reason)
