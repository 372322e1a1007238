"""One session of a search: opens the study, runs trials until the budget is used up, reports."""

import dataclasses
import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import final

from autokd.candidate import StudentSurveyor
from autokd.config import Config, check_options
from autokd.data import load_data
from autokd.errors import ConstraintError
from autokd.jobs import JobQueue, open_engine
from autokd.latency import COMPARING, SCREENING, count_macs
from autokd.study.announcements import announce, dismiss, open_tracker
from autokd.study.benches import build_bench
from autokd.study.crew import Crew, InlineCrew
from autokd.study.crews import build_crew, tell_size
from autokd.study.figures import draw_figures
from autokd.study.finals import Finals
from autokd.study.findings import Findings
from autokd.study.folder import StudyFolder
from autokd.study.identity import keep_identity, open_own_storage
from autokd.study.interrupts import ending_gently
from autokd.study.joint_space import build_joint_space
from autokd.study.lessons import choose_noise, read_earlier
from autokd.study.limits import Limits, choose_limit
from autokd.study.loop import TrialLoop
from autokd.study.orders import Bench
from autokd.study.other_fronts import OtherFronts
from autokd.study.planning import choose_device
from autokd.study.progress import SearchProgress
from autokd.study.ray_cluster import RayCluster, join_cluster
from autokd.study.ray_crew import build_ray_crew
from autokd.study.remote_crew import call_workers
from autokd.study.rungs import Rungs, choose_rungs
from autokd.study.runtimes import hold_to_runtimes
from autokd.study.sampling import build_advice, build_auto_sampler, build_sampler, first_samples
from autokd.study.side_by_side import measure_finals, measure_side_by_side
from autokd.study.stillness import resting_while_measured
from autokd.study.storages import Check, held_alone
from autokd.study.targets import build_others, build_target
from autokd.study.teaching import Faculty
from autokd.study.trials import Trials, count_trials
from autokd.types import Front, StudyClosed, Tracker, TrialEnded, TrialResult

__all__ = ["search"]

_HOPELESS = 10  # trials over the latency limit, the smallest student among them


def search(
    config: Config, *, progress: SearchProgress | None = None, tracker: Tracker | None = None
) -> Front:
    """Searches the Pareto-best students; goes on where an earlier session stopped.

    Args:
        config: What to search, on what, how long.
        progress: Where to show it; nothing is shown if none.
        tracker: Where to log; MLflow as configured if none.

    Returns:
        The front; after the refit unless the configuration says otherwise.

    Raises:
        ConstraintError: No student meets the limits.
    """
    folder = StudyFolder(config.study_dir)
    check_options(config, command="search", is_known=folder.is_known)
    progress = progress or SearchProgress(is_silent=True)
    start = time.monotonic()
    alone = held_alone(config.storage, runs_dir=config.runs_dir, study=config.study_name)
    with folder.locked(), alone as check:
        session = _open_session(config, folder=folder, progress=progress, start=start, check=check)
        session.check_alone = check
        session.tracker = tracker or open_tracker(config)
        with _closing(session), resting_while_measured(session.tracker):
            session.announce()
            for step in (session.run_trials, session.compare):
                step()
                if not session.findings.front():
                    raise ConstraintError(session.findings.describe_misery())
            session.close_search()
            session.crew.dismiss()
        return folder.load_front()


@final
class _Session:
    """What one process knows of the study that it is working on."""

    tracker: Tracker
    check_alone: Check

    def __init__(  # noqa: PLR0913 - everything that a session joins
        self,
        config: Config,
        folder: StudyFolder,
        *,
        cluster: RayCluster | None,
        bench: Bench,
        faculty: Faculty,
        trials: Trials,
        rungs: Rungs,
        surveyor: StudentSurveyor,
        crew: Crew,
        progress: SearchProgress,
        start: float,
    ) -> None:
        self.config, self.folder = config, folder
        self.bench, self.workshop = bench, bench.workshop
        self.teacher, self.trials, self.crew = faculty.card, trials, crew
        self._rungs, self._cluster = rungs, cluster
        self.progress, self._teacher_models = progress, faculty.models
        self.results, self._surveyor = trials.results(), surveyor
        self._n_before = len(self.results)
        surveyor.remember(self.results)
        space, data = self.workshop.space, self.workshop.data.card
        self.findings = Findings(config, self.results, space=space, data=data, teacher=self.teacher)
        self._others = OtherFronts(
            config,
            space=space,
            data=data,
            faculty=faculty,
            folder=folder,
            targets=self.workshop.others,
        )
        self._mark, self._training_s = start, faculty.training_s

    # ------------------------------------------------------------------ the trials

    def run_trials(self) -> None:
        """Trials until the budget or the time is used up."""
        budget = self.config.budget
        self.progress.begin("trials", total=budget, done=len(self.results))
        self.keep_time()
        loop = TrialLoop(
            self.config,
            bench=self.bench,
            trials=self.trials,
            rungs=self._rungs,
            surveyor=self._surveyor,
            crew=self.crew,
            tracker=self.tracker,
            progress=self.progress,
        )
        with ending_gently(self._halt):
            loop.run(
                self.results,
                take=self._take,
                spend=self._spend,
                is_late=self._is_late,
                before=self.check_alone,
                after=self._give_up_if_hopeless,
            )
        self.progress.end()

    def _halt(self) -> None:
        self.crew.halt()
        self.progress.say("ending after this epoch; Ctrl-C again ends at once")

    def _spend(self, training_s: float) -> None:
        self._training_s += training_s / self.crew.size

    def _take(self, result: TrialResult) -> None:
        """Adds a result to what is known, saved and shown."""
        self.results.append(result)
        self._surveyor.remember([result])
        front = self.findings.front()
        self.keep_time()
        self._save_front()
        self.tracker.log(
            TrialEnded(result=result, hypervolume=self.findings.hypervolume(), time_ms=_now_ms())
        )
        self.progress.trial(
            result,
            n_done=len(self.results),
            budget=self.config.budget,
            is_on_front=any(one.trial == result.trial for one in front),
        )

    def _is_late(self) -> bool:
        limit, since_s = self.config.timeout_s, time.monotonic() - self._mark
        return limit is not None and self.folder.read_time()[0] + since_s >= limit

    def _give_up_if_hopeless(self) -> None:
        """Ends a session in which no candidate is within the limits, which may differ next time."""
        states = [one.state for one in self.results[self._n_before :]]
        if len(states) < _HOPELESS or any(state != "pruned" for state in states):
            return
        if any(one.state == "complete" for one in self.results):
            return
        if not (self.crew.running or self.trials.stopped()):
            raise ConstraintError(self.findings.describe_misery())

    # ------------------------------------------------------------------ time

    def keep_time(self) -> None:
        """Writes the time since the last call to the study's clock."""
        now = time.monotonic()
        self.folder.add_time(wall_s=now - self._mark, training_s=self._training_s)
        self._mark, self._training_s = now, 0.0

    # ------------------------------------------------------------------ begin and end

    def announce(self) -> None:
        """Tells the tracker and the user what is about to be searched."""
        announce(
            self.config,
            workshop=self.workshop,
            teacher=self.teacher,
            tracker=self.tracker,
            progress=self.progress,
        )
        limit_ms = self.workshop.max_latency_ms
        if limit_ms is not None and self.config.max_latency_ms is None:
            self.progress.say(
                f"students slower than the teacher, {limit_ms:.4g} ms, are not trained; "
                "--max-latency-ms sets another limit"
            )
        if self.results:
            self.progress.say(self.findings.describe_past(limit_ms))

    def compare(self) -> None:
        """Times whatever may be on the front once more, by turns with the teacher."""
        self.progress.say("timing the best students and the teacher side by side")
        times = measure_side_by_side(
            self.findings.contenders(),
            teacher=self._teacher_models,
            target=build_target(self.config, form=COMPARING, cluster=self._cluster),
            workshop=self.workshop,
            folder=self.folder,
        )
        self.findings.settle(times)

    def close_search(self) -> None:
        """Trains the finalists, asks the test split once, saves the front."""
        finals = Finals(
            self.config,
            self.folder,
            bench=self.bench,
            crew=self.crew,
            progress=self.progress,
        )
        try:
            first, finalists = self.findings.first(), self.findings.finalists()
            entrants = [*finalists, *([first] if first else [])]
            with ending_gently(self._halt):
                finals.run(finalists, baseline=first)
            if rounded := finals.rounded():
                finals.retime(
                    measure_finals(
                        entrants,
                        rounded=rounded,
                        target=build_target(self.config, form=COMPARING, cluster=self._cluster),
                        folder=self.folder,
                    )
                )
        finally:
            self._training_s += finals.training_s
            self.keep_time()
        self._save_front(finals)

    def _save_front(self, finals: Finals | None = None) -> None:
        wall_s, training_s = self.folder.read_time()
        front = self.findings.build_front(finals, wall_s=wall_s, training_s=training_s)
        self.folder.save_front(front)
        self._others.save(self.results)

    def draw(self) -> tuple[Path, ...]:
        """Pictures of what was found so far."""
        return draw_figures(
            self.folder.load_front(),
            results=self.findings.results,
            dimensions=self.workshop.space.dimensions,
            seed=self.config.seed,
            folder=self.folder.report,
        )


@contextmanager
def _closing(session: _Session) -> Generator[None]:
    """However the session ends, the tracker learns of it and what was found is drawn."""
    is_finished = False
    try:
        yield
        is_finished = True
    except ConstraintError:
        session.crew.dismiss()  # until somebody changes the limits
        raise
    finally:
        front: Front | None = None
        files: tuple[Path, ...] = ()
        try:
            session.keep_time()
            session.crew.close()
            session.progress.end()
            if session.folder.has_front:
                front = session.folder.load_front()
                files = session.draw() if front.students else ()
        finally:
            dismiss(
                session.tracker,
                StudyClosed(is_finished=is_finished, front=front, files=files, time_ms=_now_ms()),
                progress=session.progress,
            )


def _open_session(
    config: Config, *, folder: StudyFolder, progress: SearchProgress, start: float, check: Check
) -> _Session:
    """Data, space, teacher and study, checked in the order of what they cost."""
    device = choose_device(config)
    cluster = join_cluster(config) if config.ray else None
    crew = InlineCrew() if cluster else build_crew(config.workers, device=device)
    tell_size(crew, config, device=device, say=progress.say)
    queue = JobQueue(open_engine(config.storage)) if config.remote else None
    storage = open_own_storage(config, folder=folder)
    earlier = read_earlier(config, storage=storage)
    data = load_data(config)
    space = build_joint_space(config, data.card, has_assistant=bool(config.assistant))
    lessons = [one.teach(space) for one in earlier]
    target = build_target(config, form=SCREENING, cluster=cluster)
    bench, faculty = build_bench(
        config,
        folder,
        data=data,
        space=space,
        target=target,
        others=build_others(config, cluster=cluster),
        crew=crew,
        progress=progress,
    )
    folder.hold_to_device(faculty.latency_device)
    hold_to_runtimes(folder.path, config, cluster=cluster)
    surveyor = StudentSurveyor(bench.workshop)
    limit_ms = choose_limit(config, surveyor=surveyor, teacher=faculty.card)
    workshop = dataclasses.replace(bench.workshop, max_latency_ms=limit_ms)
    bench, space = dataclasses.replace(bench, workshop=workshop), workshop.space
    n_begun = count_trials(config.study_name, storage=storage)
    most, seed = max(config.budget, n_begun), config.seed + 1000 * n_begun
    stops = choose_rungs(workshop.plan.epochs, budget=most) if config.rungs else ()
    auto = build_auto_sampler(
        build_advice(
            config,
            max_latency_ms=limit_ms,
            n_classes=data.card.n_classes,
            noise=choose_noise(folder, n_val=data.card.n_val, earlier=earlier),
            seed=seed,
        ),
        surveyor=surveyor,
        space=space,
        rungs=stops,
        lessons=lessons,
    )
    for one, lesson in zip(earlier, lessons, strict=True):
        progress.say(f"learning from {len(lesson)} trials of the study {one.name}")
    sampler = build_sampler(config.sampler, auto=auto, seed=seed)
    trials = Trials(
        config.study_name,
        storage=storage,
        sampler=sampler,
        space=space,
        referee=auto,
        limits=Limits(max_latency_ms=limit_ms, min_accuracy=config.min_accuracy),
    )
    keep_identity(folder, config, storage=storage)
    if trials.n_finished == 0:
        trials.enqueue(first_samples(space, partial(count_macs, shape=data.card.shape)))
    if queue is not None:
        crew = call_workers(
            queue,
            config,
            bench=bench,
            faculty=faculty,
            stopped=list(trials.stopped()),
            say=progress.say,
            check_alone=check,
        )
    if cluster is not None:
        crew = build_ray_crew(cluster, config, bench=bench, faculty=faculty, say=progress.say)
    return _Session(
        config,
        folder,
        cluster=cluster,
        bench=bench,
        faculty=faculty,
        trials=trials,
        rungs=Rungs(stops, standings=trials.standings),
        surveyor=surveyor,
        crew=crew,
        progress=progress,
        start=start,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
