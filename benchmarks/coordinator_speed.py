"""How fast the coordinator is in a study that has many trials: its real classes and storages."""

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
from optuna.storages import BaseStorage, InMemoryStorage
from simulated_workers import EPOCH, LATENCY

from autokd.spaces import Space, build_space
from autokd.study.auto_sampler import CURVE, STOPPED, AutoSampler
from autokd.study.distributions import build_distribution
from autokd.study.rungs import REDUCTION
from autokd.study.sampling import build_sampler
from autokd.study.storages import open_storage
from autokd.study.trials import Trials
from autokd.surrogate import Advice, Encoding, Noise
from autokd.types import Prospect, Sample, TrialResult, dump_json

STUDY = "large"
EPOCHS = 16
POPULATION = 20  # of `--sampler nsga2`


class KnownSurveyor:
    """Knows sixteen traits of any network at once; touches no clock."""

    def __init__(self, space: Space) -> None:
        """For the networks of a space."""
        self._dimensions = [one for one in space.dimensions if one.room == "architecture"]

    def survey(self, samples: Sequence[Sample]) -> list[Prospect | None]:
        """Latency and other sums over what was chosen."""
        return [self.look(sample) for sample in samples]

    def look(self, sample: Sample) -> Prospect:
        """What is known of one network."""
        ranks = [
            one.choices.index(sample[one.label]) / max(1, len(one.choices) - 1)
            if one.choices
            else (float(sample[one.label]) - one.low) / (one.high - one.low)
            for one in self._dimensions
        ]
        log = 3.0 * statistics.fmean(ranks)
        sums = [math.fsum(ranks[start::15]) for start in range(15)]
        return Prospect(latency_ms=math.exp(log), traits=(log, *sums))


def build_joint_space() -> Space:
    """A study's usual space."""
    return build_space("mobile", recipe="default", input_shape=(3, 32, 32), n_classes=10)


class StudyMaker:
    """Fills studies with trials as a search leaves them."""

    def __init__(self, space: Space) -> None:
        """In a space."""
        self._space, self._encoding = space, Encoding(space.dimensions)
        self._surveyor = KnownSurveyor(space)
        self._rng = np.random.default_rng(0)
        self._distributions = {one.label: build_distribution(one) for one in space.dimensions}

    def fill(self, storage: BaseStorage, *, n_trials: int, has_rungs: bool) -> None:
        """Adds trials until there are so many; with rungs, one in four was not stopped."""
        with contextlib.suppress(optuna.exceptions.DuplicatedStudyError):
            optuna.create_study(
                storage=storage, study_name=STUDY, directions=["maximize", "minimize"]
            )
        study_id = storage.get_study_id_from_name(STUDY)
        for number in range(storage.get_n_trials(study_id), n_trials):
            is_stopped = has_rungs and number % REDUCTION != 0
            trial = self._trial(number, is_stopped=is_stopped)
            storage.create_new_trial(study_id, template_trial=trial)

    def result(self, number: int, sample: Sample, *, is_stopped: bool = False) -> TrialResult:
        """What a training came to."""
        prospect = self._surveyor.look(sample)
        accuracy = 0.6 + 0.1 * prospect.traits[0] + float(self._rng.normal(scale=0.02))
        n_epochs = EPOCHS // REDUCTION if is_stopped else EPOCHS
        return TrialResult(
            trial=number,
            state="stopped" if is_stopped else "complete",
            sample=sample,
            network=f"{number:064x}",
            val_accuracy=accuracy,
            latency=replace(LATENCY, median_ms=prospect.latency_ms),
            curve=tuple(
                replace(EPOCH, epoch=1 + i, val_accuracy=accuracy) for i in range(n_epochs)
            ),
        )

    def _trial(self, number: int, *, is_stopped: bool) -> optuna.trial.FrozenTrial:
        sample = self._encoding.random(self._rng)
        result = self.result(number, sample, is_stopped=is_stopped)
        latency_ms = result.latency.median_ms if result.latency else 1.0
        states = optuna.trial.TrialState
        return optuna.trial.create_trial(
            state=states.RUNNING if is_stopped else states.COMPLETE,
            params=dict(sample),
            distributions=self._distributions,
            values=None if is_stopped else [result.val_accuracy or 0.0, latency_ms],
            user_attrs={
                "result": dump_json(result),
                CURVE: [row.val_accuracy for row in result.curve],
                STOPPED: is_stopped,
            },
            system_attrs={"NSGAIISampler:generation": number // POPULATION},
        )


def opener(kind: str, folder: Path) -> Callable[[], BaseStorage]:
    """What opens a storage of a kind: the same one each time, from its file if it has one."""
    if kind == "memory":
        storage = InMemoryStorage()
        return lambda: storage
    url = f"sqlite:///{folder / 'study.db'}" if kind == "sqlite" else None
    return lambda: open_storage(url, runs_dir=folder)


def measure_sampler(
    name: str,
    open_: Callable[[], BaseStorage],
    *,
    maker: StudyMaker,
    space: Space,
    n_suggestions: int,
    has_rungs: bool = False,
) -> dict[str, float]:
    """Seconds of opening a study, of suggestions in it and of writing what came of them."""
    start = time.perf_counter()
    auto = AutoSampler(
        KnownSurveyor(space),
        dimensions=space.dimensions,
        advice=Advice(n_surveyed=8, reduction=REDUCTION, noise=Noise(n_val=3000)),
        rungs=(EPOCHS // REDUCTION,) if has_rungs else (),
    )
    sampler = build_sampler(name, auto=auto, seed=1)
    trials = Trials(STUDY, storage=open_(), sampler=sampler, space=space, referee=auto)
    trials.results()
    figures = {"open_s": time.perf_counter() - start}
    asked: list[tuple[float, float]] = []
    written: list[float] = []
    stood: list[float] = []
    for _ in range(n_suggestions + 1):
        start, cpu = time.perf_counter(), time.process_time()
        trial, sample = trials.begin()
        asked.append((time.perf_counter() - start, time.process_time() - cpu))
        result = maker.result(trial.number, sample)
        start = time.perf_counter()
        trials.save(trial, result)
        trials.end(trial, result)
        written.append(time.perf_counter() - start)
        if has_rungs:
            start = time.perf_counter()
            trials.standings()
            stood.append(time.perf_counter() - start)
    figures["first_s"] = asked[0][0]
    figures["suggest_s"] = statistics.median(wall for wall, _ in asked[1:])
    figures["suggest_mean_s"] = statistics.fmean(wall for wall, _ in asked[1:])
    figures["suggest_max_s"] = max(wall for wall, _ in asked[1:])
    figures["suggest_cpu_s"] = statistics.fmean(cpu for _, cpu in asked[1:])
    figures["suggestions_per_s"] = 1 / figures["suggest_mean_s"]
    figures["write_s"] = statistics.median(written)
    if has_rungs:
        figures["standings_s"] = statistics.median(stood[1:])
    return {key: float(f"{value:.3g}") for key, value in figures.items()}


def measure_all(
    *,
    storages: Sequence[str],
    sizes: Sequence[int],
    samplers: Sequence[str],
    n_suggestions: int,
    folder: Path,
    most_sqlite: int,
) -> Iterator[tuple[str, int, str, dict[str, float]]]:
    """Storage (in `_rungs` three in four trials are stopped), trials, sampler and figures."""
    space = build_joint_space()
    for kind in storages:
        for has_rungs in (False, True):
            if has_rungs and kind != "memory":
                continue
            maker, place = StudyMaker(space), folder / f"{kind}-{has_rungs}"
            place.mkdir(parents=True)
            open_ = opener(kind, place)
            for size in sorted(sizes):
                if kind == "sqlite" and size > most_sqlite:
                    continue
                maker.fill(open_(), n_trials=size, has_rungs=has_rungs)
                for name in ("tpe", "auto") if has_rungs else samplers:
                    figures = measure_sampler(
                        name, open_, maker=maker, space=space,
                        n_suggestions=n_suggestions, has_rungs=has_rungs,
                    )  # fmt: skip
                    yield kind + "_rungs" * has_rungs, size, name, figures
