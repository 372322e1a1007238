"""The trials of a study, as many side by side as the crew is large."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, final

import optuna

from autokd.candidate import (
    StudentSurveyor,
    explain_slowness,
    inherit_candidate,
    learn_engine,
    recall_candidate,
    screen_candidate,
    settle_latency,
)
from autokd.config import Config
from autokd.study.crew import Crew, Done, Job
from autokd.study.orders import Bench, Order, carry_out
from autokd.study.progress import SearchProgress
from autokd.study.rungs import Rungs
from autokd.study.trials import Trials
from autokd.types import (
    EpochEnded,
    EpochLog,
    Recipe,
    Tracker,
    TrialInterrupted,
    TrialResult,
    TrialResumed,
    TrialStarted,
)

__all__ = ["TrialLoop"]

Take = Callable[[TrialResult], None]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Running:
    """A trial that is being trained.

    Attributes:
        trial: Optuna's.
        before: All that was known of it when this training began.
        rows: Of its learning curve, by epoch, those before among them.
        answers: Whether it goes on, by the epoch after which that was said.
    """

    trial: optuna.Trial
    before: TrialResult
    rows: dict[int, EpochLog]
    answers: dict[int, bool] = dataclasses.field(default_factory=dict[int, bool])

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to end at a rung."""
        return not all(self.answers.values())

    @property
    def so_far(self) -> TrialResult:
        """The result as it would be if it was stopped now."""
        if not self.rows:
            return self.before
        curve = tuple(self.rows[epoch] for epoch in sorted(self.rows))
        best = max(row.val_accuracy for row in curve)
        return dataclasses.replace(self.before, state="stopped", curve=curve, val_accuracy=best)


@final
class TrialLoop:
    """Asks for candidates, measures them while nobody trains, has them trained, ends them.

    Those that are stopped at a rung wait here, their checkpoints on disk, until it is their turn
    to go on or the budget is used up.
    """

    def __init__(  # noqa: PLR0913 - everything that meets here
        self,
        config: Config,
        *,
        bench: Bench,
        trials: Trials,
        rungs: Rungs,
        surveyor: StudentSurveyor,
        crew: Crew,
        tracker: Tracker,
        progress: SearchProgress,
    ) -> None:
        """Begins nothing yet.

        Args:
            config: Budget and limits.
            bench: What all candidates share, and where they are trained if the crew does it here.
            trials: Optuna's side.
            rungs: Where trials may be stopped.
            surveyor: Told what was measured.
            crew: Who trains.
            tracker: Told of everything that happens to a trial but its end.
            progress: Shows the epochs.
        """
        self._config, self._bench, self._trials = config, bench, trials
        self._workshop = bench.workshop
        self._rungs, self._surveyor, self._crew = rungs, surveyor, crew
        self._tracker, self._progress = tracker, progress
        self._stopped = trials.stopped()
        surveyor.remember(self._stopped.values())

    def run(
        self,
        results: Sequence[TrialResult],
        *,
        take: Take,
        spend: Callable[[float], None] = lambda _: None,
        is_late: Callable[[], bool],
        before: Callable[[], None] = lambda: None,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """Trials until the budget or the time is used up.

        Args:
            results: Of finished trials; the caller's list, which `take` lets grow.
            take: Given each final result, before Optuna is told.
            spend: Told the seconds of each training, finished or not.
            is_late: Whether no new training should begin.
            before: Called before anything is done with a trial; may end the loop by raising,
                where the study is another's by now.
            after: Called when trials have ended and nothing is left half told; may end the loop
                by raising.

        Raises:
            KeyboardInterrupt: The user stopped it; what was running is back in the queue.
        """
        for result in results:
            self._learn_engine(result)
        self._collect()
        try:
            while True:
                before()
                if self._start_next(results, take=take, is_late=is_late):
                    after()
                    continue
                if not self._crew.running:
                    break
                done = self._crew.wait(self._hear)
                if done is not None:
                    before()
                    self._end(done, take=take, spend=spend)
                    after()
        except KeyboardInterrupt:
            before()
            self._requeue()
            raise
        if self._crew.is_halting:
            self._requeue()
            raise KeyboardInterrupt
        self._trials.requeue()
        if not is_late():
            self._end_stopped(take=take)

    # ------------------------------------------------------------------ what to train

    def _start_next(
        self, results: Sequence[TrialResult], *, take: Take, is_late: Callable[[], bool]
    ) -> bool:
        """Whether there was something to begin or to go on with, and room for it."""
        if len(self._crew.running) >= self._crew.size or self._crew.is_halting or is_late():
            return False
        n_begun = len(results) + len(self._stopped) + len(self._crew.running)
        has_room = n_begun <= self._config.budget
        if self._stopped and not self._rungs.epochs and has_room:  # by a session that had rungs
            self._resume(min(self._stopped), take=take)
            return True
        has_budget = n_begun < self._config.budget
        chosen = (
            self._rungs.next(is_last_call=not has_budget, among=self._stopped)
            if self._stopped
            else None
        )
        if chosen is not None:
            self._resume(chosen.key, take=take)
        elif has_budget:
            self._begin(results, take=take)
        return chosen is not None or has_budget

    def _begin(self, results: Sequence[TrialResult], *, take: Take) -> None:
        """Measures the next candidate; whoever is idle trains it if it is worth it."""
        known = _known(results)
        self._trials.requeue(held=[job.key.trial.number for job in self._crew.running])
        trial, sample = self._trials.begin()
        result = self._trials.saved_result(trial)
        if result is None or not result.curve:
            started = TrialStarted(trial=trial.number, sample=sample, time_ms=_now_ms())
            self._tracker.log(started)
        else:
            self._tracker.log(TrialResumed(trial=trial.number, time_ms=_now_ms()))

        if result is None:
            result = screen_candidate(sample, self._workshop, trial=trial.number, known=known)
            if result.state == "measured" and self._config.warm_start == "relatives":
                trained = [*results, *self._stopped.values()]
                result = inherit_candidate(result, self._workshop, results=trained)
            self._trials.save(trial, result)
        result = self._hold_to_limit(result)
        self._surveyor.remember([result])
        if result.state in ("measured", "stopped"):
            self._train(trial, result)
        else:
            self._finish(trial, result, take=take)

    def _resume(self, number: int, *, take: Take) -> None:
        """Has a stopped trial trained on."""
        before = self._hold_to_limit(self._stopped.pop(number))
        if before.state == "pruned":
            self._finish(self._trials.find(number), before, take=take)
            return
        self._tracker.log(TrialResumed(trial=number, time_ms=_now_ms()))
        self._train(self._trials.resume(number), before)

    def _hold_to_limit(self, result: TrialResult) -> TrialResult:
        """A result that was begun by an earlier session, pruned if it is too slow for this one."""
        limit_ms = self._workshop.max_latency_ms
        reason = explain_slowness(result.latency, max_latency_ms=limit_ms)
        if not reason or result.state not in ("measured", "stopped"):
            return result
        return dataclasses.replace(result, state="pruned", reason=reason)

    def _train(self, trial: optuna.Trial, before: TrialResult) -> None:
        generations = before.recipe.generations if before.recipe else 1
        rows = {row.epoch: row for row in before.curve}
        passed = max(rows, default=0)  # rungs beyond were not decided, wherever the checkpoint is
        kept = recall_candidate(before, self._workshop)
        if kept is not None:  # a coordinator that was killed has heard of epochs and not saved them
            rows = {row.epoch: row for row in kept.curve} | rows
        order = Order(result=before)
        self._crew.start(
            Job(
                key=_Running(trial=trial, before=before, rows=rows),
                title=f"trial {trial.number}",
                epochs=self._workshop.plan.epochs * generations,
                work=partial(carry_out, order, self._bench),
                stops=[epoch for epoch in self._rungs.stops(trial.number) if epoch > passed],
                order=order,
            )
        )

    # ------------------------------------------------------------------ what came of it

    def _hear(self, job: Job, row: EpochLog) -> bool:
        """Takes note of an epoch; whether the trial goes on. One that asks again hears the same."""
        running: _Running = job.key
        if row.epoch not in running.answers:
            if row.epoch not in running.rows:  # else its training was cut off after it
                event = EpochEnded(trial=running.trial.number, epoch=row, time_ms=_now_ms())
                self._tracker.log(event)
            running.rows[row.epoch] = row
            self._progress.epoch(job.title, row, epochs=job.epochs)
            running.answers[row.epoch] = row.epoch not in job.stops or self._decide(running)
        return running.answers[row.epoch]

    def _decide(self, running: _Running) -> bool:
        """Whether a trial that has reached a rung goes on."""
        number = running.trial.number
        self._trials.stop(running.trial, running.so_far)
        first = self._rungs.next()
        if first is None or first.key != number:
            return False
        self._trials.resume(number)
        return True

    def _end(self, done: Done, *, take: Take, spend: Callable[[float], None]) -> None:
        running: _Running = done.job.key
        if done.fault:
            result = dataclasses.replace(running.so_far, state="failed", reason=done.fault)
        else:
            result = done.result.result
        curve = tuple(running.rows.get(row.epoch, row) for row in result.curve)  # without pauses
        result = dataclasses.replace(result, curve=curve)
        training_s = max(0.0, result.training_s - done.paused_s)
        spend(max(0.0, training_s - running.before.training_s))
        result = dataclasses.replace(result, training_s=training_s)
        result = settle_latency(result, self._workshop)
        if result.state != "stopped":
            self._finish(running.trial, result, take=take)
        elif running.is_stopping:
            self._stop(running.trial, result)
        else:  # by the user
            self._trials.save(running.trial, result)
            self._interrupt(running.trial.number, state="interrupted")

    def _stop(self, trial: optuna.Trial, result: TrialResult) -> None:
        """Lets a trial wait."""
        reason = self._rungs.explain(
            trial.number, epoch=len(result.curve), epochs=self._workshop.plan.epochs
        )
        result = dataclasses.replace(result, reason=reason)
        self._trials.stop(trial, result)
        self._learn_engine(result)
        self._stopped[trial.number] = result
        self._interrupt(trial.number, state="stopped")
        self._progress.say(f"trial {trial.number:>3}   {result.val_accuracy:6.1%}  {reason}")
        self._collect()

    def _finish(self, trial: optuna.Trial, result: TrialResult, *, take: Take) -> None:
        """Keeps a result and ends its trial.

        In this order a kill between any two steps loses nothing: a saved result is taken up
        again, and what was told to the tracker is told again.
        """
        self._trials.save(trial, result)
        self._learn_engine(result)
        take(result)
        self._trials.end(trial, result)
        self._drop(trial.number)

    def _end_stopped(self, *, take: Take) -> None:
        """Ends what will not go on any more."""
        if self._stopped:
            self._progress.say(f"{len(self._stopped)} trials stay stopped; the others are done")
        for number in sorted(self._stopped):
            self._finish(self._trials.find(number), self._stopped.pop(number), take=take)

    def _requeue(self) -> None:
        """Puts what was being trained back into the queue."""
        cut_off = [job.key.trial.number for job in self._crew.running]
        self._crew.close()
        self._trials.requeue()
        for number in cut_off:
            self._interrupt(number, state="interrupted")

    def _interrupt(self, number: int, *, state: Literal["interrupted", "stopped"]) -> None:
        self._tracker.log(TrialInterrupted(trial=number, time_ms=_now_ms(), state=state))

    # ------------------------------------------------------------------ checkpoints, engines

    def _drop(self, number: int) -> None:
        """Forgets the checkpoints of a trial that is over."""
        self._workshop.checkpoints.drop(f"trial-{number}")

    def _collect(self) -> None:
        """Keeps the checkpoints under their limit; a trial without one begins anew if ever."""
        needed = [f"trial-{job.key.trial.number}" for job in self._crew.running]
        gone = self._workshop.checkpoints.collect(needed=needed)
        if gone:
            self._progress.say(f"checkpoints over the limit, not kept: {', '.join(gone)}")

    def _learn_engine(self, result: TrialResult) -> None:
        learn_engine(result, self._workshop)


def _known(results: Sequence[TrialResult]) -> dict[tuple[str, Recipe], TrialResult]:
    return {
        (result.network, result.recipe): result
        for result in reversed(results)
        if result.state == "complete" and result.recipe is not None
    }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
