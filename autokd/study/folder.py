"""The study's own folder: settings, lock, clock, refits, front; every file written at once."""

import contextlib
import hashlib
import json
import re
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

from autokd.config import Config, TowerConfig, build_config
from autokd.errors import StudyError
from autokd.study.locks import held_file
from autokd.study.records import read_record, write_file, write_record
from autokd.types import Dimension, Front, dump_json, is_same_device, load_json

__all__ = ["TOWERS", "StudyFolder", "find_study", "find_tracked", "list_studies", "load_front"]

TOWERS = "towers.json"
"""What a study of `autokd distill-clip` has in place of its settings."""

_DEVICES = "device.json"

_FREE = frozenset(
    {
        "study",
        "budget",
        "timeout_s",
        "sampler",
        "learn_from",
        "max_latency_ms",
        "min_accuracy",
        "storage",
        "refit",
        "refit_epochs",
        "seeds",
        "baseline",
        "device",
        "workers",
        "remote",
        "ray",
        "cpus_per_trial",
        "gpus_per_trial",
        "bank",
        "rungs",
        "checkpoints_gb",
        "runs_dir",
        "tracking_uri",
        "latency_timeout_s",
        "download",
        "data_root",
        "meeting",
        "wait_s",
    }
)
"""Settings that may differ when a study goes on; all others make its numbers incomparable."""


@final
class StudyFolder:
    """`mlruns/studies/NAME`: what autokd itself must remember of a study."""

    def __init__(self, path: Path) -> None:
        """Names the folder; nothing is read or made."""
        self.path = path

    @property
    def weights(self) -> Path:
        """Where the students' weights lie."""
        return self.path / "weights"

    @property
    def checkpoints(self) -> Path:
        """Where trainings lie that may go on."""
        return self.path / "checkpoints"

    @property
    def refits(self) -> Path:
        """Where the refits' results lie."""
        return self.path / "refits"

    @property
    def teacher(self) -> Path:
        """Where the teacher's ONNX files lie."""
        return self.path / "teacher"

    @property
    def report(self) -> Path:
        """Where the pictures lie."""
        return self.path / "report"

    def report_of(self, target: str) -> Path:
        """Where the pictures of a further target lie; those of the first one if empty."""
        return self.report / _slug(target) if target else self.report

    @property
    def is_drawn_late(self) -> bool:
        """Whether the pictures are older than the front, as when a search was killed."""
        drawn = self.report / "front.png"
        front = self.path / "front.json"
        return drawn.exists() and front.stat().st_mtime > drawn.stat().st_mtime

    @property
    def is_known(self) -> bool:
        """Whether a study was begun here."""
        return (self.path / "settings.json").exists()

    @contextlib.contextmanager
    def locked(self) -> Generator[None]:
        """The study is this process's alone; the lock dies with the process.

        A `StudyError` says that another process has it, a `ConfigError` that it cannot be written.

        Yields:
            Nothing.
        """
        with held_file(self.path / "lock", study=self.path.name, option="--runs-dir"):
            yield

    def check_settings(self, config: Config, *, dimensions: Sequence[Dimension]) -> None:
        """Holds a known study to its own settings; says nothing of a new one.

        Args:
            config: Of this session.
            dimensions: Of the space, as searched.

        Raises:
            StudyError: The study was made with other settings, or by `autokd distill-clip`.
        """
        if (self.path / TOWERS).exists():
            raise StudyError(
                f"study `{self.path.name}` must not be one of `autokd distill-clip`; pass another "
                "--study"
            )
        if not self.is_known:
            return
        now, before = config.model_dump(mode="json"), self._read("settings.json")
        defaults = build_config().model_dump(mode="json")  # of options that there were not then
        for key in sorted(set(now) - _FREE):
            known = before["config"].get(key, defaults[key])
            if known != now[key]:
                raise StudyError(
                    f"study `{self.path.name}` was made with {key}={known},"
                    f" got {now[key]}; pass another --study"
                )
        if before["dimensions"] != _shape(dimensions):
            raise StudyError(
                f"study `{self.path.name}` was made with other dimensions than "
                f"{config.space} and {config.recipe} have now; pass another --study"
            )

    def check_digests(self, digests: Mapping[str, str]) -> None:
        """Holds a known study to what its settings stood for; says nothing of a new one.

        Args:
            digests: Of pictures and teachers, by what they are called.

        Raises:
            StudyError: Some are others than those that the study was begun with.
        """
        known = self._read("settings.json").get("digests", {}) if self.is_known else {}
        for what, digest in digests.items():
            if known.get(what, digest) != digest:
                raise StudyError(
                    f"study `{self.path.name}` must go on with the {what} that it was made with, "
                    "got others under the same name (a teacher that is trained here differs from "
                    "device to device, and another version of autokd or Pillow may read pictures "
                    "otherwise); put them back, or pass another --study"
                )

    def keep_engine(self, trial: int, engine: str) -> None:
        """Remembers how the trainings of a finalist are computed."""
        self.refits.mkdir(parents=True, exist_ok=True)
        self._write_text(f"refits/{trial}.engine", engine)

    def load_engine(self, trial: int) -> str:
        """What `keep_engine` was last told of a trial; empty where it was not."""
        path = self.refits / f"{trial}.engine"
        return path.read_text(encoding="utf-8").strip() if path.exists() else ""

    def find_device(self, target: str = "") -> str:
        """What latencies of a target are measured on, by default the first; empty if unknown."""
        known = self._read(_DEVICES) if (self.path / _DEVICES).exists() else {}
        return known.get(target or "latency_device", "")

    def hold_to_device(self, device: str, *, target: str = "") -> None:
        """Holds a study to what its first latency was measured on.

        Args:
            device: What latencies are measured on now; empty where that is not known.
            target: A further one of the study; the one that is searched for if empty.

        Raises:
            StudyError: Those of earlier sessions were measured on another one.
        """
        known = self.find_device(target)
        if device and known and not is_same_device(known, device):
            raise StudyError(
                f"study `{self.path.name}` must go on with latencies of {known}, got {device}; "
                "measure there (with --ray: on nodes of that kind with the resource "
                f"latency_device), or pass another --study and --learn-from {self.path.name}"
            )
        if device and device != known:
            devices = self._read(_DEVICES) if (self.path / _DEVICES).exists() else {}
            self._write(_DEVICES, {**devices, target or "latency_device": device})

    def keep_settings(
        self,
        config: Config,
        *,
        dimensions: Sequence[Dimension],
        digests: Mapping[str, str],
        accuracies: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Remembers the settings, once all that they name has been found good.

        Args:
            config: Of this session.
            dimensions: As they were checked.
            digests: Likewise.
            accuracies: Of teachers on the validation split, by digest.
        """
        settings = {"config": config.model_dump(mode="json"), "dimensions": _shape(dimensions)}
        kept = {"digests": dict(digests), "accuracies": dict(accuracies)}
        self._write("settings.json", settings | kept)

    def load_accuracies(self) -> dict[str, float]:
        """What the teachers were found to be; nothing of an older study."""
        return self._read("settings.json").get("accuracies", {}) if self.is_known else {}

    def load_dimensions(self) -> list[Dimension]:
        """What was searched in the last session, without what was held fast."""
        known = self._read("settings.json")["dimensions"]
        return [load_json(Dimension, json.dumps(one)) for one in known]

    def load_config(self) -> Config:
        """The configuration of the last session."""
        return Config.model_validate(self._read("settings.json")["config"])

    def add_time(self, *, wall_s: float, training_s: float) -> None:
        """Adds to the study's clock."""
        before = self.read_time()
        clock = {"wall_s": before[0] + wall_s, "training_s": before[1] + training_s}
        self._write("clock.json", clock)

    def read_time(self) -> tuple[float, float]:
        """Seconds that the study has taken so far, and those of training among them."""
        if not (self.path / "clock.json").exists():
            return 0.0, 0.0
        clock = self._read("clock.json")
        return clock["wall_s"], clock["training_s"]

    def save_front(self, front: Front, *, target: str = "") -> None:
        """Keeps the front, for `autokd front` and `autokd export`; or that of a further target."""
        self._write_text(_front_name(target), dump_json(front))

    @property
    def has_front(self) -> bool:
        """Whether a front was saved, be it an empty one."""
        return (self.path / _front_name("")).exists()

    def load_front(self, *, target: str = "") -> Front:
        """The front as it was last saved.

        Args:
            target: One of the study's; the one that is searched for if empty.

        Returns:
            The front.

        Raises:
            StudyError: No trial has finished yet.
        """
        path = self.path / _front_name(self.find_target(target))
        if not path.exists():
            raise StudyError(
                f"study `{self.path.name}` must have a finished trial, got none; "
                "run `autokd search` first"
            )
        return load_json(Front, path.read_text(encoding="utf-8"))

    def find_target(self, name: str) -> str:
        """What a target's files go by: its name, of the first nothing; it must be the study's."""
        if not name:
            return ""
        config = self.load_config()
        unnamed = "onnxruntime" if config.latency_table is None else ""
        first, *others = config.target or (unnamed,)
        if name not in (first, *others):
            shown = ", ".join([first, *others]) or "none, but a table"
            raise StudyError(f"`--target` must be one of the study's ({shown}), got {name}")
        return "" if name == first else name

    def _read(self, name: str) -> dict[str, Any]:
        return read_record(self.path / name)

    def _write(self, name: str, values: dict[str, Any]) -> None:
        write_record(self.path / name, values)

    def _write_text(self, name: str, text: str) -> None:
        write_file(self.path / name, text + "\n")


def _front_name(target: str) -> str:
    """The file of a target's front."""
    return f"front-{_slug(target)}.json" if target else "front.json"


def _slug(target: str) -> str:
    """A target as a file's name has it."""
    slug = re.sub(r"[^A-Za-z0-9]+", "-", target)[:40]
    return f"{slug}-{hashlib.sha256(target.encode()).hexdigest()[:8]}"


def _shape(dimensions: Sequence[Dimension]) -> list[dict[str, Any]]:
    """Dimensions as JSON has them."""
    return [json.loads(dump_json(dimension)) for dimension in dimensions]


def list_studies(runs_dir: Path) -> list[str]:
    """Names of the studies in a runs folder, the one last worked on first."""
    paths = (runs_dir / "studies").glob("*/settings.json")
    return [path.parent.name for path in sorted(paths, key=lambda p: -p.stat().st_mtime)]


def find_study(name: str | None, *, runs_dir: Path) -> StudyFolder:
    """The folder of a study, of the last one if no name is given.

    Args:
        name: Of the study.
        runs_dir: Where studies lie.

    Returns:
        An existing folder.

    Raises:
        StudyError: There is no such study, or none at all.
    """
    known = list_studies(runs_dir)
    if not known:
        raise StudyError(f"{runs_dir} must hold a study, got none; run `autokd search` first")
    if name is not None and name not in known:
        shown = ", ".join(known[:5])
        raise StudyError(f"`--study` must be one of {shown}, got {name}")
    return StudyFolder(runs_dir / "studies" / (name or known[0]))


def find_tracked(name: str | None, *, runs_dir: Path) -> Config | TowerConfig:
    """The configuration of a study of any command, of the last one if no name is given.

    Args:
        name: Of the study.
        runs_dir: Where studies lie.

    Returns:
        With the runs folder as it is called now; a `StudyError` says that there is none.
    """
    towers = sorted((runs_dir / "studies").glob(f"*/{TOWERS}"), key=lambda p: -p.stat().st_mtime)
    known = list_studies(runs_dir)
    chosen = [path for path in towers if name in (None, path.parent.name)]
    if not chosen or name in known or (name is None and known and _is_later(known[0], chosen[0])):
        config = find_study(name, runs_dir=runs_dir).load_config()
        return config.model_copy(update={"runs_dir": runs_dir})
    kept = read_record(chosen[0])["config"]
    return TowerConfig.model_validate({**kept, "runs_dir": runs_dir})


def _is_later(study: str, towers: Path) -> bool:
    """Whether a study was worked on after that of some towers."""
    other = towers.parent.parent / study / "settings.json"
    return other.stat().st_mtime > towers.stat().st_mtime


def load_front(
    study: str | None = None, *, runs_dir: Path = Path("mlruns"), target: str = ""
) -> Front:
    """The front of a study that has been searched, or is being searched.

    Args:
        study: Its name; the last one worked on if none.
        runs_dir: Where studies lie.
        target: A further one of the study; the one that is searched for if empty.

    Returns:
        The front as it was last saved.
    """
    return find_study(study, runs_dir=runs_dir).load_front(target=target)
