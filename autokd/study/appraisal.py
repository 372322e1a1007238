"""What the card of an exported student tells and shows beside its accuracy and latency."""

import dataclasses
import json
import shlex
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from autokd.config import Config, write_command
from autokd.data import SearchData, TestData
from autokd.errors import StudyError, TeacherError
from autokd.exporters import OnnxNetwork
from autokd.reports import (
    count_confusions,
    draw_calibration,
    draw_confusions,
    find_confusions,
    measure_calibration,
)
from autokd.study.alumni import recall_teacher
from autokd.study.explaining import N_COMPARED, draw_gazes
from autokd.study.folder import StudyFolder
from autokd.study.gazes import (
    TeacherGaze,
    ask_int8,
    choose_classes,
    compare_gazes,
    mean_similarity,
    watch_teacher,
)
from autokd.study.planning import choose_device
from autokd.study.progress import SearchProgress
from autokd.study.refits import load_refits, locate_weights
from autokd.teachers import AnyTeacher
from autokd.types import Front, FrontStudent

__all__ = ["JUDGED", "Appraisal", "Appraiser", "judge_student", "predict"]

JUDGED = {"calibration": "calibration.png", "confusion": "confusion.png"}
"""Pictures that `judge_student` draws, by what they show."""

_DRAWN = ("front", "curves")
_OF_SEVERAL = ("coordinates", "importance")  # trials
_BATCH = 256
_N_ASKED = 2000  # test pictures that the teacher is asked about, at the most
_N_SHOWN = 8  # on the sheet of a card
_MOST_CLASSES = 100  # of a confusion matrix that is written out


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Appraisal:
    """What is found of one student.

    Attributes:
        facts: For the card: plain values; under `pictures` the names of files by what they show,
            under `missing` why something is not there.
        files: Those pictures, and `appraisal.json` with all figures behind them.
    """

    facts: dict[str, Any]
    files: tuple[Path, ...]


@final
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Appraiser:
    """Looks at students that are exported; the teacher is asked once for all of them.

    Nothing is chosen by what is found here: the test split is read for the card alone.

    Attributes:
        config: Of the study.
        folder: Where its pictures lie.
        front: What the study has found.
        data: Training and validation pictures.
        test: The test split.
        progress: Where to tell what is left out.
        target: The further one whose front it is; empty of the first.
        undrawn: Why pictures of the study are not there; empty where the search has not ended.
    """

    config: Config
    folder: StudyFolder
    front: Front
    data: SearchData
    test: TestData
    progress: SearchProgress
    target: str = ""
    undrawn: str = ""

    def appraise(
        self,
        network: nn.Module,
        student: FrontStudent,
        *,
        folder: Path,
        int8: Path | None = None,
    ) -> Appraisal:
        """Judges a student on the test split, and compares it with its teacher.

        Args:
            network: The trained student, in evaluation mode, on the CPU.
            student: What is known of it.
            folder: For the files; an empty one.
            int8: Its INT8 file, if that is what is deployed; what it says is judged then, while
                the gaze is that of the network.

        Returns:
            Facts and files. What cannot be found, as the gaze of an ONNX teacher, is told as
            missing.
        """
        name = f"trial {student.trial} of {self.front.study}"
        logits = (
            predict(network, self.test.images)
            if int8 is None
            else OnnxNetwork(int8).predict(self.test.images)
        )
        facts, figures = judge_student(
            logits,
            labels=self.test.labels,
            classes=self.data.card.classes,
            name=name,
            folder=folder,
        )
        drawn, missing = self._copy_drawn(folder)
        pictures = {**JUDGED, **drawn}
        try:
            facts |= self._compare_answers(logits)
        except TeacherError as error:
            missing["agreement"] = missing["looks"] = str(error)
        else:
            try:
                facts |= self._compare_gazes(
                    network, name=name, file=folder / "looks.png", int8=int8
                )
                pictures["looks"] = "looks.png"
            except (TeacherError, StudyError) as error:
                missing["looks"] = str(error)
        for reason in sorted(set(missing.values())):
            self.progress.say(f"the card lacks something: {reason}")
        facts["made_again"] = self._describe_making(student)
        text = json.dumps({**facts, **figures}, indent=1, default=str)
        (folder / "appraisal.json").write_text(text + "\n", encoding="utf-8")
        return Appraisal(
            facts={**facts, "pictures": pictures, "missing": missing},
            files=tuple(sorted(folder.iterdir())),
        )

    def _copy_drawn(self, folder: Path) -> tuple[dict[str, str], dict[str, str]]:
        """Pictures of the study as a whole; and why one is not there that should be."""
        report = self.folder.report_of(self.target)
        known = {what: report / f"{what}.png" for what in (*_DRAWN, *_OF_SEVERAL)}
        pictures = {
            what: Path(shutil.copy(file, folder)).name
            for what, file in known.items()
            if file.exists()
        }
        absent = [what for what in _DRAWN if what not in pictures]
        missing = dict.fromkeys(absent, self.undrawn or "the search has not come to its end")
        if "coordinates" in pictures and "importance" not in pictures:
            missing["importance"] = "too few trials, or all alike, tell no dimension's importance"
        return pictures, missing

    def _compare_answers(self, logits: Float[Tensor, "n classes"]) -> dict[str, Any]:
        """How often student and teacher choose the same class of a test picture."""
        asked, answers = self._answers
        labels = self.test.labels[asked]
        return {
            "teacher_agreement": float((answers == logits[asked].argmax(1)).double().mean()),
            "teacher_agreement_n": len(asked),
            "teacher_test_accuracy": float((answers == labels).double().mean()),
        }

    def _compare_gazes(
        self, network: nn.Module, *, name: str, file: Path, int8: Path | None
    ) -> dict[str, Any]:
        """How alike student and teacher look at validation pictures."""
        gazes = compare_gazes(network, self._gaze, says=ask_int8(int8, self._gaze))
        similarity = mean_similarity(gazes.similarities, seed=self.config.seed)
        draw_gazes(
            gazes,
            n_shown=_N_SHOWN,
            card=self.data.card,
            title=f"Where {name} and its teacher look",
            similarity=similarity,
            is_int8=int8 is not None,
            file=file,
        )
        shuffled = mean_similarity(gazes.shuffled, seed=self.config.seed)
        return {
            "cam_similarity": None if similarity is None else similarity.mean,
            "cam_similarity_ci95": None if similarity is None else similarity.ci95,
            "cam_similarity_n": 0 if similarity is None else similarity.n,
            "cam_similarity_shuffled": None if shuffled is None else shuffled.mean,
        }

    def _describe_making(self, student: FrontStudent) -> dict[str, Any]:
        """All that it takes to make it again."""
        weights = locate_weights(self.folder, student)
        refit = load_refits(self.folder, pattern=weights.stem).get(weights.with_suffix(".json"))
        teacher, data = self.front.teacher, self.data.card
        again = {
            "command": write_command(self.config),
            "seed": self.config.seed,
            "seed_of_weights": self.config.seed if refit is None else refit.seed,
            "data": data.name,
            "data_digest": data.digest,
            "teacher": teacher.name,
            "teacher_digest": teacher.digest,
        }
        if data.n_unlabelled:
            again["unlabelled_digest"] = data.unlabelled_digest
        if self.config.student is None:
            words = ["autokd", "export", "--study", self.front.study, "--pick", str(student.trial)]
            words += ["--target", self.target] if self.target else []
            again["export"] = shlex.join(words)
        return again

    @cached_property
    def _teacher(self) -> AnyTeacher:
        device = choose_device(self.config, is_looking=True)
        return recall_teacher(
            self.front.teacher,
            config=self.config,
            data=self.data,
            device=device,
            accuracies=self.folder.load_accuracies(),
        )

    @cached_property
    def _answers(self) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]]:
        """Places of test pictures, drawn at random, and what the teacher says of them."""
        order = np.random.default_rng(self.config.seed).permutation(len(self.test.labels))
        asked = torch.from_numpy(np.sort(order[:_N_ASKED]))
        answers = choose_classes(self._teacher, self.test.images[asked].to(self._teacher.device))
        return asked, answers.cpu()

    @cached_property
    def _gaze(self) -> TeacherGaze:
        return watch_teacher(
            self._teacher, data=self.data, n_pictures=N_COMPARED, seed=self.config.seed
        )


def judge_student(
    logits: Float[Tensor, "n classes"],
    *,
    labels: Int64[Tensor, " n"],
    classes: tuple[str, ...],
    name: str,
    folder: Path,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """How sure a student is and what it mixes up.

    Args:
        logits: What it says of the test pictures.
        labels: Theirs.
        classes: Names in the order of the labels.
        name: Of the student, for people.
        folder: For the pictures, which `JUDGED` names.

    Returns:
        Facts of the card, and all figures.
    """
    calibration = measure_calibration(logits, labels)
    counts = count_confusions(logits.argmax(1), labels, n_classes=len(classes))
    draw_calibration(calibration, title=f"Calibration of {name}", folder=folder)
    draw_confusions(counts, classes=classes, title=f"Confusions of {name}", folder=folder)
    facts = {
        "ece": calibration.ece,
        "confusions": [
            {"class": right, "taken_for": taken, "n": n, "share": share}
            for right, taken, n, share in find_confusions(counts, classes=classes)
        ],
    }
    figures: dict[str, Any] = {"calibration": dataclasses.asdict(calibration)}
    if len(classes) <= _MOST_CLASSES:
        figures["confusion_matrix"] = counts.tolist()
    return facts, figures


@torch.no_grad()
def predict(network: nn.Module, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
    """Logits of any number of pictures."""
    return torch.cat([network(part.float() / 255) for part in images.split(_BATCH)])
