"""From the front to folders that can be deployed, and to MLflow's registry."""

import dataclasses
import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from autokd.candidate import load_student
from autokd.config import Config
from autokd.data import TestData, load_test
from autokd.errors import (
    ConfigError,
    ExportError,
    MeasureError,
    StorageError,
    StudyError,
    TrackingError,
)
from autokd.exporters import Bundle, OnnxNetwork, export_bundle
from autokd.latency import COMMAND, FINAL
from autokd.spaces import Space
from autokd.study.alumni import recall_data
from autokd.study.appraisal import Appraiser
from autokd.study.credentials import describe_student, find_quantized
from autokd.study.figures import draw_study
from autokd.study.folder import StudyFolder, find_study
from autokd.study.front import PICKS, pick_student
from autokd.study.joint_space import build_joint_space
from autokd.study.progress import SearchProgress
from autokd.study.records import read_mark
from autokd.study.refits import locate_weights
from autokd.study.targets import build_target
from autokd.trackers import register_model
from autokd.types import DataCard, Front, FrontStudent

__all__ = ["Depot", "build_alias", "export", "export_all", "names_of", "register_bundle"]

_UNITS = (("ms", 1), ("us", 1_000), ("ns", 1_000_000))


def export(  # noqa: PLR0913 - all that a student may be picked by
    study: str | None = None,
    *,
    out: Path = Path("student"),
    pick: str | None = None,
    max_latency_ms: float | None = None,
    target: str = "",
    runs_dir: Path = Path("mlruns"),
    is_registered: bool = True,
    progress: SearchProgress | None = None,
) -> Bundle:
    """Writes one student of the front to a folder, checked against what was trained.

    Args:
        study: Its name; the last one worked on if none.
        out: The folder to write.
        pick: `knee`, `fastest`, `most-accurate` or the number of a trial on the front; if none,
            the knee, or the most accurate one under `max_latency_ms`.
        max_latency_ms: Only students under it.
        target: One of the study's, whose front and latencies are meant; the first if empty.
        runs_dir: Where studies lie.
        is_registered: Whether it is logged to MLflow and registered under the study's name.
        progress: Where to tell what is done.

    Returns:
        Files and figures.
    """
    folder = find_study(study, runs_dir=runs_dir)
    student = pick_student(
        folder.load_front(target=target).students,
        pick=pick or ("knee" if max_latency_ms is None else "most-accurate"),
        max_latency_ms=max_latency_ms,
    )
    alias = build_alias(pick, max_latency_ms=max_latency_ms)
    depot = _open_depot(
        folder, target=target, runs_dir=runs_dir, is_registered=is_registered, progress=progress
    )
    return depot.deliver(student, out, aliases=[alias])


def export_all(
    study: str | None = None,
    *,
    out: Path = Path("students"),
    max_latency_ms: float | None = None,
    target: str = "",
    runs_dir: Path = Path("mlruns"),
    is_registered: bool = True,
    progress: SearchProgress | None = None,
) -> list[Bundle]:
    """Writes every student of the front, each to a folder of its own, and an index of them.

    Args:
        study: Its name; the last one worked on if none.
        out: The folder of the folders, `trial-7` and so on.
        max_latency_ms: Only students under it.
        target: One of the study's, whose front and latencies are meant; the first if empty.
        runs_dir: Where studies lie.
        is_registered: Whether they are logged to MLflow and registered under the study's name.
        progress: Where to tell what is done.

    Returns:
        Files and figures of each, the fastest student first.

    Raises:
        ConfigError: The index cannot be written.
        ExportError: Some could not be exported; the others were, and are in the index.
    """
    folder = find_study(study, runs_dir=runs_dir)
    students = folder.load_front(target=target).students
    # There must be one.
    best = pick_student(students, pick="most-accurate", max_latency_ms=max_latency_ms)
    able = [s for s in students if max_latency_ms is None or s.latency_ms <= max_latency_ms]
    depot = _open_depot(
        folder, target=target, runs_dir=runs_dir, is_registered=is_registered, progress=progress
    )
    bundles: list[Bundle] = []
    rows: list[dict[str, object]] = []
    failures: list[str] = []
    for student in sorted(able, key=lambda one: one.latency_ms):
        names = names_of(student, students)
        if max_latency_ms is not None and student.trial == best.trial:
            names.append(build_alias(None, max_latency_ms=max_latency_ms))
        name = f"trial-{student.trial}"
        try:
            bundle = depot.deliver(student, out / name, aliases=[name, *names])
        except (ExportError, MeasureError, StudyError) as error:
            failures.append(f"{name}: {error}")
            continue
        bundles.append(bundle)
        rows.append(
            {
                "folder": name,
                "aliases": names,
                "precision": student.recipe.precision,
                "test_accuracy": bundle.deployed_test_accuracy,
                "latency_ms": bundle.latency_ms,
                "n_params": student.n_params,
            }
        )
    try:
        for name in _find_former(out, rows):
            depot.progress.say(f"warning: {out / name} is of an earlier export, not in the index")
        (out / "index.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
        (out / "index.md").write_text(_render_index(depot.front.study, rows), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"`--out` must be a folder to write to, got {out}: {error}") from error
    if failures:
        raise ExportError(
            f"{len(failures)} of {len(able)} students could not be exported ({'; '.join(failures)})"
            f"; the others are in {out / 'index.md'}"
        )
    return bundles


def _find_former(out: Path, rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Folders of students beside those that were just written."""
    written = {row["folder"] for row in rows}
    found = (path.parent.name for path in out.glob("trial-*/card.json"))
    return sorted(name for name in found if name not in written)


def names_of(student: FrontStudent, students: Sequence[FrontStudent]) -> list[str]:
    """Which of `fastest`, `knee` and `most-accurate` a student of a front is."""
    picked = {name: pick_student(students, pick=name, max_latency_ms=None) for name in PICKS}
    return [name for name, one in picked.items() if one.trial == student.trial]


def build_alias(pick: str | None, *, max_latency_ms: float | None) -> str:
    """What the registered version of a picked student is called.

    MLflow allows no dot in an alias: a limit that is no whole number of milliseconds is told in
    micro- or nanoseconds.

    Args:
        pick: As typed, or none.
        max_latency_ms: The limit that it was picked under, or none.

    Returns:
        `knee`, `trial-7`, `under-2ms`, `under-500us`, `fastest-under-2ms`, ...
    """
    name = f"trial-{int(pick)}" if pick is not None and pick.isdecimal() else pick
    if max_latency_ms is None or (name is not None and name.startswith("trial-")):
        return name or "knee"
    unit, factor = next(
        (
            (unit, factor)
            for unit, factor in _UNITS
            if abs(max_latency_ms * factor - round(max_latency_ms * factor)) < 1e-9
        ),
        _UNITS[-1],
    )
    limit = f"under-{max(1, round(max_latency_ms * factor))}{unit}"
    return limit if name is None else f"{name}-{limit}"


def _name_on(alias: str, target: str) -> str:
    """What a version is called that was picked from the front of a further target."""
    if not target:
        return alias
    slug = re.sub(r"[^a-z0-9]+", "-", target.lower()).strip("-")[:40]
    digest = hashlib.sha256(target.encode()).hexdigest()[:8]
    return f"{alias}-on-{slug}-{digest}" if target.startswith(COMMAND) else f"{alias}-on-{slug}"


def _open_depot(
    folder: StudyFolder,
    *,
    target: str,
    runs_dir: Path,
    is_registered: bool,
    progress: SearchProgress | None,
) -> "Depot":
    """What is needed to export the students of a study; draws the front of a further target."""
    config = folder.load_config().model_copy(update={"runs_dir": runs_dir})
    front, target = folder.load_front(target=target), folder.find_target(target)
    progress = progress or SearchProgress(is_silent=True)
    undrawn, on = "", f" on the target {target}" if target else ""
    if target or folder.is_drawn_late:
        try:
            draw_study(
                folder.path.name,
                folder=folder.report_of(target),
                runs_dir=runs_dir,
                target=target,
            )
        except (ConfigError, StorageError) as error:  # no database, or no room in the folder
            undrawn = "it could not be drawn when the student was exported"
            progress.say(f"no new pictures of the study{on}: {error}")
    data, test = recall_data(config, folder=folder), load_test(config)
    return Depot(
        config=config,
        folder=folder,
        front=front,
        data=data.card,
        space=build_joint_space(config, data.card, has_assistant=bool(config.assistant)),
        test=test,
        appraiser=Appraiser(
            config=config,
            folder=folder,
            front=front,
            data=data,
            test=test,
            progress=progress,
            target=target,
            undrawn=undrawn,
        ),
        target=target,
        is_registered=is_registered,
        progress=progress,
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Depot:
    """Where the students of one study are made ready.

    Attributes:
        config: Of the study.
        folder: Where their weights lie.
        front: What they are compared with.
        data: What they learnt from.
        space: Where they come from.
        test: The test split.
        appraiser: Who looks at them.
        is_registered: Whether they are logged to MLflow and registered.
        progress: Where to tell what is done.
        target: The further one whose front it is; empty of the first.
    """

    config: Config
    folder: StudyFolder
    front: Front
    data: DataCard
    space: Space
    test: TestData
    appraiser: Appraiser
    is_registered: bool
    progress: SearchProgress
    target: str = ""

    def deliver(self, student: FrontStudent, out: Path, *, aliases: Sequence[str]) -> Bundle:
        """Writes, checks and registers one student of the front.

        Args:
            student: Which.
            out: The folder to write.
            aliases: What the registered version is called, on a further target `...-on-TARGET`.

        Returns:
            Files and figures.
        """
        self.progress.say(f"exporting trial {student.trial} of {self.front.study}")
        weights = locate_weights(self.folder, student)
        network = load_student(self.space, student.architecture, data=self.data, weights=weights)
        card = {
            **describe_student(student, front=self.front, config=self.config, data=self.data),
            **({"target": self.target} if self.target else {}),
            **({"searched_on": device} if (device := self.folder.find_device(self.target)) else {}),
        }
        target = build_target(self.config, form=FINAL, cluster=None, name=self.target)
        quantized = find_quantized(student, weights, test=self.test)
        with tempfile.TemporaryDirectory(prefix="autokd-") as pictures:
            appraisal = self.appraiser.appraise(
                network,
                student,
                folder=Path(pictures),
                int8=None if quantized is None else quantized.path,
            )
            bundle = export_bundle(
                network,
                out,
                data=self.data,
                test=self.test,
                target=target,
                card={**card, **appraisal.facts},
                extras=appraisal.files,
                int8=quantized,
                precision=FINAL.precision,
            )
        for warning in filter(None, (bundle.card.get(key) for key in ("elsewhere", "vain"))):
            self.progress.say(f"warning: {warning}")
        if self.is_registered:
            register_bundle(
                self.config,
                bundle,
                pictures=self.test.images,
                aliases=[_name_on(alias, self.target) for alias in aliases],
                progress=self.progress,
                mark=read_mark(self.folder.path),
            )
        return bundle


def register_bundle(
    config: Config,
    bundle: Bundle,
    *,
    pictures: UInt8[Tensor, "n c h w"],
    aliases: Sequence[str],
    progress: SearchProgress,
    mark: str = "",
) -> None:
    """Logs a student to MLflow; a server that is away costs this, not the files.

    Args:
        config: Of the study.
        bundle: Its files.
        pictures: A few of them are uploaded as an example.
        aliases: What the registered version is called.
        progress: Where to tell how it went.
        mark: Of the study's folder, where its run in MLflow has one.
    """
    deployed = "model.onnx" if bundle.int8_test_accuracy is None else "model.int8.onnx"
    model = next(path for path in bundle.files if path.name == deployed)
    few = pictures[:4]
    inputs = (few.float() / 255).numpy()
    outputs = OnnxNetwork(model).predict(few).numpy()
    try:
        uri = register_model(
            config,
            onnx_file=model,
            files=[path for path in bundle.files if path != model],
            aliases=aliases,
            card=bundle.card,
            example=(inputs, outputs),
            mark=mark,
        )
    except TrackingError as error:
        progress.say(f"not registered in MLflow: {error}")
    else:
        progress.say(f"registered as {uri}")


def _render_index(study: str, rows: Sequence[dict[str, object]]) -> str:
    """The front as a page, a line for each folder."""
    lines = [
        f"# Students of {study}",
        "",
        "| folder | precision | test accuracy | latency | parameters | |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        aliases = ", ".join(map(str, row["aliases"])) if isinstance(row["aliases"], list) else ""
        lines.append(
            f"| [{row['folder']}]({row['folder']}/card.md) | {row['precision']} "
            f"| {row['test_accuracy']:.2%} | {row['latency_ms']:.4f} ms | {row['n_params']:,} "
            f"| {aliases} |"
        )
    return "\n".join(lines) + "\n"
