"""What a study of `autokd distill-clip` keeps: settings, and trainings that are over."""

import json
from collections.abc import Mapping
from typing import Any, final

import torch

from autokd.candidate import move_engine
from autokd.config import TowerConfig
from autokd.distillation import Engine
from autokd.errors import StudyError
from autokd.study.folder import TOWERS, StudyFolder
from autokd.study.records import read_record, write_file, write_record
from autokd.study.tower_results import TowerTraining
from autokd.types import dump_json, load_json

__all__ = ["TowerRecords"]


@final
class TowerRecords:
    """The records of one study."""

    def __init__(self, folder: StudyFolder) -> None:
        """Names the folder; nothing is read or made."""
        self._folder = folder
        self._file = folder.path / TOWERS

    def check_settings(self, config: TowerConfig, *, digests: Mapping[str, str]) -> dict[str, Any]:
        """Holds a known study to its settings.

        Args:
            config: Of this session.
            digests: Of pairs and teacher.

        Returns:
            Those of this session, to be kept once all that they name has been found good.

        Raises:
            StudyError: It was made with others, or is a study of another command.
        """
        if self._folder.is_known:
            raise StudyError(
                f"study `{config.study_name}` must be one of `autokd distill-clip`, got one "
                "that was searched or distilled; pass another --study"
            )
        now = json.loads(json.dumps({**config.settings(), "digests": dict(digests)}))
        if self._file.exists():
            known = read_record(self._file)["settings"]
            for key, value in now.items():
                if known.get(key) != value:
                    raise StudyError(
                        f"study `{config.study_name}` was made with {key}={known.get(key)}, "
                        f"got {value}; pass another --study"
                    )
        return now

    def keep_settings(
        self, config: TowerConfig, *, settings: dict[str, Any], engine: Engine
    ) -> None:
        """Remembers what all trainings have in common.

        Args:
            config: Of this session.
            settings: As `check_settings` gives them.
            engine: As `find_engine` gives it.
        """
        kept = {"config": config.model_dump(mode="json"), "settings": settings}
        write_record(self._file, {**kept, "engine": str(engine)})

    def find_engine(self, device: torch.device) -> Engine:
        """How trainings are computed: with the numbers of the first one, be they slow here.

        A student in bfloat16 beside a twin in FP32 would differ in more than the teacher.

        Args:
            device: Of this session.

        Returns:
            On a GPU bfloat16, where nothing has been trained yet.
        """
        known = read_record(self._file).get("engine", "") if self._has_begun else ""
        if not known:  # also in a study of before it was kept
            return Engine(device=device, is_bf16=device.type == "cuda")
        return move_engine(Engine.parse(known), device=device)

    @property
    def _has_begun(self) -> bool:
        """Whether anything is there that another training would be compared with."""
        kept = (self._folder.path / "trainings").glob("*.json")
        return self._file.exists() and (
            any(kept) or any(self._folder.checkpoints.glob("*.checkpoint"))
        )

    def load(self, name: str) -> TowerTraining | None:
        """What came of a training; none where it has not come to its end."""
        file = self._folder.path / "trainings" / f"{name}.json"
        if not file.exists():
            return None
        return load_json(TowerTraining, file.read_text(encoding="utf-8"))

    def keep(self, done: TowerTraining) -> None:
        """Writes the record of a training whose weights lie there, and drops its checkpoints."""
        file = self._folder.path / "trainings" / f"{done.name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_file(file, dump_json(done))
        for old in self._folder.checkpoints.glob(f"{done.name}.*"):
            old.unlink()
