"""The trainings of one site: round after round with the others, then once without them."""

import dataclasses
import time
from collections.abc import Callable
from functools import cached_property, partial
from typing import final

import numpy as np
from jaxtyping import Float32

from autokd.candidate import (
    CheckpointFolder,
    answer_public,
    build_student,
    load_student,
    move_engine,
    save_student,
    train_round,
    train_student,
)
from autokd.config import Config
from autokd.data import SearchData, TestData, load_test
from autokd.distillation import Engine, OnEpoch, Plan, Student, Training
from autokd.errors import ConfigError, DivergedError
from autokd.federation import Answers, Meeting, Patience, build_consensus
from autokd.spaces import Space
from autokd.study.crew import InlineCrew, Job
from autokd.study.folder import StudyFolder
from autokd.study.planning import build_plan, choose_device
from autokd.study.progress import SearchProgress
from autokd.study.refits import Entry, Refit, keep_refit, load_refit, measure_test, without_teacher
from autokd.study.rounds import Round, RoundFolder
from autokd.types import EpochLog, Recipe, Sample

__all__ = ["Site", "choose_sample", "count_epochs_alone"]

_FIRST = 3  # times as long as the others is the first training: they stand on what it has learnt
_PRIOR = {
    "alpha": 0.5,  # sites that still learn are no teachers to rely on by 0.9
    "alpha_end": 0.5,
    # A mixture of sites that know different classes is soft as it is.
    "temperature": 1.0,
    "temperature_end": 1.0,
    "temperature_schedule": "constant",
}


@final
class Site:
    """What one process knows of its site's part.

    Attributes:
        data: Private pictures with labels, public ones without.
        meeting: That it has joined.
        recipe: Of its student.
        architecture: Likewise.
        rounds: That are over.
        training_s: Spent on training in this process.
    """

    def __init__(
        self,
        config: Config,
        folder: StudyFolder,
        *,
        data: SearchData,
        space: Space,
        meeting: Meeting,
        progress: SearchProgress,
    ) -> None:
        self.data, self.meeting, self.training_s = data, meeting, 0.0
        self.rounds: list[Round] = []
        self._config, self._folder, self._space, self._progress = config, folder, space, progress
        self._sample, self.recipe = choose_sample(space, config, data=data)
        self.architecture = space.architecture_of(self._sample)
        self._crew, self._kept = InlineCrew(), RoundFolder(folder.path)
        self._plan = build_plan(config, data=data, device=choose_device(config))
        first = config.first_epochs or _FIRST * self._plan.epochs
        self._first = dataclasses.replace(self._plan, epochs=first)
        self._checkpoints = CheckpointFolder(
            folder.checkpoints, limit_bytes=round(config.checkpoints_gb * 2**30)
        )

    @cached_property
    def test(self) -> TestData:
        """The test split, read when all is trained."""
        return load_test(self._config)

    def run(self) -> tuple[Refit, Refit | None]:
        """All rounds, then the student alone; nothing that is done already is done again.

        Returns:
            Both; none of the student alone where that training diverges, which it would do again.
        """
        self._checkpoints.collect(needed=())
        card, charter = self.data.card, self.meeting.charter
        self._progress.say(
            f"site {self.meeting.site}: {card.n_train} training, {card.n_val} validation, "
            f"{card.n_test} test pictures of {card.n_classes} classes; {charter.public_shape[0]} "
            f"public ones in {charter.views} views; {charter.rounds} exchanges with "
            f"{charter.n_sites - 1} other sites, {self._first.epochs} epochs before the first and "
            f"{self._plan.epochs} after each"
        )
        for number in range(charter.rounds + 1):
            done = self._kept.load(number) or self._train_round(number)
            if number < charter.rounds:
                done = dataclasses.replace(done, sent_bytes=self._publish(number))
            self.rounds.append(done)
            self._progress.say(
                f"round {number}: {done.val_accuracy:.2%} on validation, "
                f"{f'taught by {len(done.heard)} sites' if done.heard else 'alone'}"
            )
        student = self._finish()
        try:
            alone = self._train_alone()
        except DivergedError as error:
            self._progress.say(f"warning: the student alone is left out, and so is a gain: {error}")
            return student, None
        if alone.val_accuracy > student.val_accuracy:
            self._progress.say(
                f"trained alone it is better on validation, {alone.val_accuracy:.2%} against "
                f"{student.val_accuracy:.2%}; the others may know other classes or pictures"
            )
        return student, alone

    def halt(self) -> None:
        """Ends after this epoch, or ends the waiting."""
        self._crew.halt()
        self._progress.say("ending after this epoch; Ctrl-C again ends at once")

    def load(self, file: str) -> Student:
        """A trained student of this site, by the name of its file in the study's folder."""
        return load_student(
            self._space, self._sample, data=self.data.card, weights=self._folder.path / file
        )

    def _train_round(self, number: int) -> Round:
        """One training of the student, from where the round before has left it."""
        plan = self._first if number == 0 else self._plan
        name = f"round-{number}-{plan.epochs}"
        if number == 0:
            student, heard = self._build(), ()
            train = self._learn_alone(student, plan=plan, name=name)
        else:
            student = self.load(self._kept.weights_of(number - 1))
            consensus, heard = self._hear(number - 1)
            train = partial(
                train_round,
                student,
                self.recipe,
                number=number,
                data=self.data,
                consensus=consensus,
                plan=dataclasses.replace(plan, engine=self._engine),
                keeper=self._checkpoints.keepers(name)(0),
            )
        training = self._train(f"round {number}", train, epochs=plan.epochs)
        save_student(student, self._folder.path / self._kept.weights_of(number))
        done = Round(
            number=number,
            val_accuracy=training.val_accuracy,
            heard=heard,
            curve=training.curve,
            seconds=training.seconds,
            engine=str(training.engine),
        )
        self._kept.keep(done)
        self._checkpoints.drop(name)
        return done

    @property
    def _engine(self) -> Engine:
        """What the first round was computed with; a matched baseline must be matched."""
        return move_engine(Engine.parse(self.rounds[0].engine), device=self._plan.device)

    @property
    def _patience(self) -> Patience:
        """With the other sites, and with a folder that is away."""
        return Patience(
            wait_s=self._config.wait_s,
            is_over=lambda: self._crew.is_halting,
            say=self._progress.say,
        )

    def _hear(
        self, number: int
    ) -> tuple[Float32[np.ndarray, "views pictures classes"], tuple[str, ...]]:
        """What all sites say after a round, waited for once and then kept."""
        kept = self._kept.load_consensus(number)
        if kept is not None:
            return kept
        answers = self.meeting.gather(
            number,
            expected=self.rounds[number].heard,  # who stayed away once is not waited for again
            patience=self._patience,
        )
        consensus = build_consensus(answers, vote=self.meeting.charter.vote)
        sites = tuple(one.site for one in answers)
        self._kept.keep_consensus(number, consensus, sites=sites)
        return consensus, sites

    def _publish(self, number: int) -> int:
        """Lays the answers of a round into the meeting, unless they lie there; their bytes."""
        sent_bytes = self.meeting.find_published(number, patience=self._patience)
        if sent_bytes:
            return sent_bytes
        logs = answer_public(
            self.load(self._kept.weights_of(number)),
            self.recipe,
            self.data.unlabelled_images,
            n_views=self.meeting.charter.views,
            device=self._plan.device,
        )
        answers = Answers(site=self.meeting.site, n_pictures=self.data.card.n_train, logs=logs)
        return self.meeting.publish(answers, number=number, patience=self._patience)

    def _finish(self) -> Refit:
        """The student of the last round, asked about the test split."""
        last = self.rounds[-1]
        n_epochs = self._first.epochs + self._plan.epochs * (len(self.rounds) - 1)
        entry = Entry(trial=0, seed=self._config.seed, is_twin=False, epochs=n_epochs)
        return load_refit(self._folder, entry) or self._keep(
            entry,
            self.load(self._kept.weights_of(last.number)),
            val_accuracy=last.val_accuracy,
            curve=tuple(row for one in self.rounds for row in one.curve),
        )

    def _train_alone(self) -> Refit:
        """The same student trained in one go without the others, for as many steps."""
        epochs = count_epochs_alone(
            len(self.data.train_images),
            n_public=len(self.data.unlabelled_images),
            plan=self._plan,
            first_epochs=self._first.epochs,
            n_rounds=len(self.rounds) - 1,
        )
        plan = dataclasses.replace(self._plan, epochs=epochs, engine=self._engine)
        entry = Entry(trial=0, seed=self._config.seed, is_twin=True, epochs=plan.epochs)
        known = load_refit(self._folder, entry)
        if known is not None:
            return known
        student = self._build()
        train = self._learn_alone(student, plan=plan, name=entry.training)
        training = self._train("the student alone", train, epochs=plan.epochs)
        refit = self._keep(entry, student, val_accuracy=training.val_accuracy, curve=training.curve)
        self._checkpoints.drop(entry.training)
        return refit

    def _build(self) -> Student:
        """The student as every training from scratch begins."""
        seed = self._config.seed
        return build_student(self._space, self._sample, data=self.data.card, seed=seed)[0]

    def _learn_alone(self, student: Student, *, plan: Plan, name: str) -> Callable[..., Training]:
        """A training on the labels alone, which goes on from its checkpoint."""
        return partial(
            train_student,
            student,
            without_teacher(self.recipe),
            data=self.data,
            teacher=None,
            plan=plan,
            keepers=self._checkpoints.keepers(name),
        )

    def _train(self, title: str, train: Callable[..., Training], *, epochs: int) -> Training:
        """A training in this process, shown; one that the user ends goes on next time.

        Args:
            title: For people.
            train: Takes `on_epoch`.
            epochs: It will take.

        Returns:
            What came of it.

        Raises:
            KeyboardInterrupt: The user has ended it.
        """
        start = time.monotonic()
        if self._crew.is_halting:
            raise KeyboardInterrupt

        def show(_: Job, row: EpochLog) -> None:
            self._progress.step(done=row.epoch)
            self._progress.epoch(title, row, epochs=epochs)

        self._progress.begin(f"epochs of {title}", total=epochs)
        work: Callable[[OnEpoch], Training] = lambda on_epoch: train(on_epoch=on_epoch)  # noqa: E731
        self._crew.start(Job(key=None, title=title, epochs=epochs, work=work, is_wide=True))
        try:
            training: Training = self._crew.wait(show).result
        finally:
            self._progress.end()
            self.training_s += time.monotonic() - start
        if training.is_stopped:
            raise KeyboardInterrupt
        return training

    def _keep(
        self, entry: Entry, student: Student, *, val_accuracy: float, curve: tuple[EpochLog, ...]
    ) -> Refit:
        """A trained student with its accuracy on test, kept as one of the finals is."""
        weights = self._folder.refits / f"{entry.name}.safetensors"
        save_student(student, weights)
        refit = Refit(
            trial=entry.trial,
            seed=entry.seed,
            is_twin=entry.is_twin,
            val_accuracy=val_accuracy,
            test_accuracy=measure_test(student, self.test, weights=weights, precision="fp32"),
            epochs=entry.epochs,
            curve=curve,
        )
        keep_refit(self._folder, entry, refit)
        return refit


def count_epochs_alone(
    n_private: int, *, n_public: int, plan: Plan, first_epochs: int, n_rounds: int
) -> int:
    """Epochs on private pictures alone that have as many steps as all rounds of a federation.

    Args:
        n_private: Training pictures.
        n_public: Pictures that are learnt from beside them in each round but the first.
        plan: Batch and epochs of those rounds.
        first_epochs: Of the first one.
        n_rounds: After the first.

    Returns:
        At least 1; within half an epoch.
    """
    alone, together = (n // min(plan.batch_size, n) for n in (n_private, n_private + n_public))
    n_steps = first_epochs * alone + n_rounds * plan.epochs * together
    return max(1, round(n_steps / alone))


def choose_sample(space: Space, config: Config, *, data: SearchData) -> tuple[Sample, Recipe]:
    """The one student and its recipe, once they are known to suit a federation.

    Args:
        space: As `--student` and `--recipe` say.
        config: What of the recipe the user has said, and the seed of the weights.
        data: Shape and classes.

    Returns:
        The sample and the recipe.

    Raises:
        ConfigError: The recipe wants what several sites cannot give.
    """
    sample = space.first_choice(_PRIOR)
    _, recipe = build_student(space, sample, data=data.card, seed=config.seed)
    for name in ("alpha", "temperature"):  # of which a recipe of the user's may say nothing
        if recipe.has_logit_loss and not space.has_field(name):
            value = {name: _PRIOR[name], f"{name}_end": _PRIOR[name]}
            recipe = dataclasses.replace(recipe, **value)
    faults = {
        "learn from what the others say": (not recipe.has_logit_loss, "pass --alpha above 0"),
        "have no loss on features": (recipe.has_feature_loss, "nobody sees the others' layers"),
        "have no exits and one generation": (recipe.is_self_distilled, "use another --recipe"),
        "be in fp32": (recipe.precision != "fp32", "quantize the exported file"),
    }
    for rule, (is_broken, remedy) in faults.items():
        if is_broken:
            raise ConfigError(f"`--loss` and `--recipe` must {rule} in a federation; {remedy}")
    if "exact" in (recipe.mix_targets, config.fix.get("mix_targets")):
        raise ConfigError(
            "`mix_targets` must be mixed in a federation, got exact; nobody can ask all sites "
            "about a mixture of two pictures"
        )
    return sample, dataclasses.replace(recipe, is_balanced=recipe.is_balanced or config.balanced)
