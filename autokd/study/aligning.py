"""A light dual tower under CLIP: trained beside its twin without a teacher, timed, exported."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from autokd.candidate import CheckpointFolder, PairLesson, build_towers, save_student
from autokd.config import TowerConfig
from autokd.data import NamedPictures, load_named_pictures, load_pairs
from autokd.distillation import Alignment, DualTower, Plan, align
from autokd.errors import ConfigError, DivergedError, TrackingError
from autokd.exporters import check_folder, export_towers
from autokd.latency import FINAL, SCREENING, Form
from autokd.reports import draw_recalls
from autokd.study.finalists import estimate
from autokd.study.folder import StudyFolder
from autokd.study.interrupts import ending_gently
from autokd.study.planning import choose_device
from autokd.study.progress import SearchProgress
from autokd.study.records import keep_mark
from autokd.study.tower_records import TowerRecords
from autokd.study.tower_results import (
    AlignedTowers,
    TowerRow,
    TowerTraining,
    build_row,
    list_figures,
    name_training,
)
from autokd.study.tower_times import TowerTimes, measure_towers, open_tower_target
from autokd.teachers import ClipTeacher, load_clip
from autokd.trackers import TrainedTowers, explain_namesake, log_towers
from autokd.types import EpochLog, Estimate, Recipe

__all__ = ["distill_clip"]

_ALONE = ("contrastive",)
_CHECKPOINT_BYTES = 4 * 2**30


def distill_clip(
    config: TowerConfig,
    *,
    out: Path = Path("towers"),
    progress: SearchProgress | None = None,
) -> AlignedTowers:
    """Trains a light dual tower, and its twin without a teacher; the same call goes on.

    Args:
        config: Pairs, teacher, towers, how long.
        out: The folder to write.
        progress: Where to show it; nothing is shown if none.

    Returns:
        Recalls, latencies and files.

    Raises:
        ConfigError: No pairs are named, or the target runs no ONNX files.
    """
    if config.pairs is None:
        raise ConfigError(
            "`--pairs` must name pictures and captions, got nothing; pass --pairs FILE.csv"
        )
    check_folder(out)
    if open_tower_target(config, form=SCREENING).needs_program:
        raise ConfigError(
            f"`--target` must run ONNX files, of which two towers are made, got {config.target}; "
            "pass onnxruntime, openvino or command:PROGRAM ... {model}"
        )
    progress = progress or SearchProgress(is_silent=True)
    folder = StudyFolder(config.study_dir)
    with folder.locked():
        return _Session(config, folder, progress=progress).run(out)


class _Session:
    """What one process knows of the towers that it trains."""

    def __init__(
        self, config: TowerConfig, folder: StudyFolder, *, progress: SearchProgress
    ) -> None:
        """Loads pairs and teacher, and refuses what does not fit.

        Args:
            config: Of the study.
            folder: Of the study.
            progress: Where to show it.
        """
        self.config, self.folder, self.progress = config, folder, progress
        self.device = choose_device(config)
        pairs = load_pairs(
            config.pairs or Path(),
            val_ratio=config.val_ratio,
            test_ratio=config.test_ratio,
            limit=config.train_limit,
            seed=config.seed,
        )
        self.classes: NamedPictures | None = None
        if config.zero_shot is not None:
            self.classes = load_named_pictures(config.zero_shot, option="--zero-shot")
        teacher = load_clip(
            config.teacher, weights=config.teacher_weights, pretrained=config.teacher_pretrained
        )
        self.teacher: ClipTeacher = teacher.to(self.device)
        self.n_pictures = len(pairs.train), len(pairs.val), len(pairs.test)
        if pairs.skipped:
            progress.say(f"warning: {pairs.skipped}")
        n_captions = sum(map(len, pairs.captions))
        progress.say(
            f"study {config.study_name}: {self.n_pictures[0]} training, {self.n_pictures[1]} "
            f"validation, {self.n_pictures[2]} test pictures, {n_captions} captions"
        )
        self.names = self._name_classes()
        self.lesson = PairLesson(
            pairs, self.teacher, config=config, device=self.device, names=self.names
        )
        towers = self._build(config.seed)
        digests = {"pairs": pairs.digest, "teacher": teacher.digest, "towers": _describe(towers)}
        if self.classes is not None:
            self.classes.read(side=self.teacher.side)  # can be read
            digests["zero_shot"] = self.classes.digest
        self.records = TowerRecords(folder)
        settings = self.records.check_settings(config, digests=digests)
        self.engine = self.records.find_engine(self.device)
        self.records.keep_settings(config, settings=settings, engine=self.engine)
        self.checkpoints = CheckpointFolder(folder.checkpoints, limit_bytes=_CHECKPOINT_BYTES)
        self.is_halted = False

    def run(self, out: Path) -> AlignedTowers:
        """From fresh towers to exported ones."""
        self.checkpoints.collect(needed=())
        for line in self._measure(self._build(self.config.seed), form=SCREENING).describe():
            self.progress.say(line)
        kinds = [False, True] if self._has_twin else [False]
        wanted = [(self.config.seed + n, twin) for n in range(self.config.seeds) for twin in kinds]
        done: list[TowerTraining] = []
        self.progress.begin("trainings", total=len(wanted))
        try:
            with ending_gently(self._halt):
                for number, (seed, is_twin) in enumerate(wanted, start=1):
                    done.extend(self._try_to_train(seed, is_twin=is_twin))
                    self.progress.step(done=number)
        finally:
            self.progress.end()
        return self._deliver(done, out)

    @property
    def _has_twin(self) -> bool:
        return self.config.baseline and self.config.losses != _ALONE

    def _build(self, seed: int) -> DualTower:
        return build_towers(
            self.config, teacher=self.teacher, context=self.lesson.context, seed=seed
        )

    def _measure(self, towers: DualTower, *, form: Form) -> TowerTimes:
        return measure_towers(
            towers,
            self.teacher,
            side=self.config.image_size or self.teacher.side,
            context=self.lesson.context,
            target=open_tower_target(self.config, form=form),
            device=self.device,
        )

    def _try_to_train(self, seed: int, *, is_twin: bool) -> list[TowerTraining]:
        """A training; none where it diverges, which it would do again."""
        if self.is_halted:
            raise KeyboardInterrupt
        try:
            return [self._train(seed, is_twin=is_twin)]
        except DivergedError as error:
            name = name_training(seed, is_twin=is_twin)
            self.progress.say(f"warning: {name} is left out: {error}")
            return []

    def _train(self, seed: int, *, is_twin: bool) -> TowerTraining:
        """A training, unless it is done."""
        name = name_training(seed, is_twin=is_twin)
        known = self.records.load(name)
        if known is not None:
            return known
        towers, config = self._build(seed), self.config
        training = align(
            towers,
            self.lesson,
            losses=_ALONE if is_twin else config.losses,
            recipe=Recipe(
                optimiser="adamw",
                learning_rate=config.learning_rate,
                weight_decay=config.weight_decay,
            ),
            plan=Plan(
                epochs=config.epochs,
                batch_size=config.batch_size,
                seed=seed,
                device=self.device,
                engine=self.engine,
            ),
            on_epoch=lambda row: self._take(name, row),
            keeper=self.checkpoints.keepers(name)(0),
        )
        if training.is_stopped:
            raise KeyboardInterrupt
        return self._keep(towers, training, seed=seed, is_twin=is_twin)

    def _take(self, name: str, row: EpochLog) -> bool:
        self.progress.epoch(name, row, epochs=self.config.epochs)
        return not self.is_halted

    def _halt(self) -> None:
        self.is_halted = True
        self.progress.say("ending after this epoch; Ctrl-C again ends at once")

    def _keep(
        self, towers: DualTower, training: Alignment, *, seed: int, is_twin: bool
    ) -> TowerTraining:
        """The towers' weights, and what they do on the test split, read once."""
        done = TowerTraining(
            seed=seed,
            is_twin=is_twin,
            curve=training.curve,
            seconds=training.seconds,
            test=self.lesson.report(towers),
            zero_shot=self._tell_classes(towers),
            engine=training.engine,
        )
        save_student(towers, self.folder.weights / f"{done.name}.safetensors")
        self.records.keep(done)
        self.progress.say(
            f"{done.name}: recall at 1 {done.val_recall:.1%} on validation, {done.seconds:.0f} s"
        )
        return done

    def _name_classes(self) -> list[str]:
        """What pictures of each class of `--zero-shot` are called."""
        classes = () if self.classes is None else self.classes.classes
        return [self.config.template.replace("{}", each) for each in classes]

    def _tell_classes(self, towers: DualTower | None) -> float | None:
        if self.classes is None:
            return None
        return self.lesson.tell_classes(self.classes, names=self.names, towers=towers)

    def _deliver(self, done: Sequence[TowerTraining], out: Path) -> AlignedTowers:
        """Times what is exported, writes it, and tells MLflow."""
        ours = [one for one in done if not one.is_twin]
        twins = [one for one in done if one.is_twin]
        if not ours:
            raise DivergedError(
                f"all {self.config.seeds} trainings have diverged; pass a lower --lr"
            )
        best = max(ours, key=lambda one: (one.val_recall, -one.seed))
        towers = self._build(best.seed)
        towers.load_state_dict(load_file(self.folder.weights / f"{best.name}.safetensors"))
        self.progress.say("timing both towers and the teacher side by side")
        times = self._measure(towers.eval(), form=FINAL)
        n_params = sum(value.numel() for value in towers.parameters())
        student = build_row("student", ours, times=times, n_params=n_params)
        twin = build_row("twin", twins, times=times, n_params=n_params) if twins else None
        gain = _compare(ours, twins)
        found = AlignedTowers(
            study=self.config.study_name,
            student=student,
            twin=twin,
            teacher=self._build_teacher_row(times),
            gain=gain,
            n_pictures=self.n_pictures,
            files=(),
        )
        picture = draw_recalls(
            {
                name: [one.curve for one in some]
                for name, some in (("student", ours), ("twin without teacher", twins))
                if some
            },
            teacher=self.lesson.examine_teacher().mean,
            title=f"Recall of {self.config.study_name}",
            file=self.folder.report / "recalls.png",
        )
        figures = list_figures(found)
        files = self._export(towers, out, figures=figures, extras=[picture])
        self._log(done, figures=figures, files=[picture, *files])
        return dataclasses.replace(found, files=files)

    def _build_teacher_row(self, times: TowerTimes) -> TowerRow:
        found, zero_shot = self.lesson.report(None), self._tell_classes(None)
        weights = {
            id(value): value.numel()
            for tower in (self.teacher.image, self.teacher.text)
            for value in tower.parameters()
        }
        return TowerRow(
            name="teacher",
            recall=Estimate(mean=found.mean, ci95=None, n=1),
            text_at_1=found.text_at_1,
            image_at_1=found.image_at_1,
            zero_shot=zero_shot,
            n_params=sum(weights.values()),
            image_ms=times.teacher_image_ms,
            text_ms=times.teacher_text_ms,
        )

    def _export(
        self, towers: DualTower, out: Path, *, figures: Mapping[str, float], extras: Sequence[Path]
    ) -> tuple[Path, ...]:
        card: dict[str, Any] = {
            "study": self.config.study_name,
            "teacher": self.teacher.name,
            "side": self.config.image_size or self.teacher.side,
            "context": self.lesson.context,
            "padding": self.teacher.padding,
            "scale": float(towers.scale.detach()),
            "figures": dict(figures),
            "settings": self.config.settings(),
        }
        return export_towers(
            towers,
            out,
            card=card,
            examples=self.lesson.examples(),
            tokeniser=self.teacher.tokeniser,
            extras=extras,
        )

    def _log(
        self, done: Sequence[TowerTraining], *, figures: Mapping[str, float], files: Sequence[Path]
    ) -> None:
        trainings = [
            TrainedTowers(
                number=2 * one.seed + one.is_twin,
                name=one.name,
                curve=one.curve,
                metrics={
                    "test_recall": one.test.mean,
                    "test_text_at_1": one.test.text_at_1,
                    "test_text_at_5": one.test.text_at_5,
                    "test_image_at_1": one.test.image_at_1,
                    "test_image_at_5": one.test.image_at_5,
                    **({} if one.zero_shot is None else {"zero_shot": one.zero_shot}),
                },
                params={
                    "seed": str(one.seed),
                    "loss": "+".join(_ALONE if one.is_twin else self.config.losses),
                    **({"engine": one.engine} if one.engine else {}),
                },
            )
            for one in done
        ]
        try:
            mark = keep_mark(self.folder.path)
            is_beside = log_towers(self.config, trainings, mark=mark, metrics=figures, files=files)
        except TrackingError as error:
            self.progress.say(f"warning: {error}; the same command logs it")
        else:
            if is_beside:
                self.progress.say(explain_namesake(self.config.study_name))


def _describe(towers: DualTower) -> str:
    """A hash of what towers are made of, so that another file under the same name is noticed."""
    parts = [(name, list(value.shape)) for name, value in towers.state_dict().items()]
    text = json.dumps([parts, str(towers)])
    return hashlib.sha256(text.encode()).hexdigest()


def _compare(ours: Sequence[TowerTraining], twins: Sequence[TowerTraining]) -> Estimate | None:
    """The gain over the seeds that both were trained with; none where there is no such seed."""
    without = {one.seed: one.test.mean for one in twins}
    gains = [one.test.mean - without[one.seed] for one in ours if one.seed in without]
    return estimate(gains) if gains else None
