"""A search whose processes are killed every few seconds: is anything lost, or done twice?

Each run is `autokd search` on digits with two workers and an MLflow server. Every few seconds one
of them gets SIGKILL: a worker, the coordinator or the server. The coordinator is started again with
the same command until it finishes, the server at once. Counted afterwards, from Optuna's journal,
the events of the study and MLflow's database: finished trials, trials that repeat another one,
epochs that were trained again after they had been told, and trials that MLflow shows otherwise
than Optuna. All but the first should be 0.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import optuna
import psutil
from matched import describe_machine
from mlflow import MlflowClient
from mlflow.entities import Run
from output import print_figures, reserve_stdout

from autokd.study.journal import open_journal
from autokd.types import TrialResult, dump_json, load_json

STUDY = "chaos"
TARGETS = {"worker": 0.5, "coordinator": 0.2, "server": 0.3}  # how often each is struck
STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
STARTS_WITHIN_S, RUN_LIMIT_S, WORKERS_WITHIN_S = 120.0, 1800.0, 10.0


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all runs share: the command's options, and the teacher's cache."""

    n_trials: int
    epochs: int
    every_s: float
    environment: Mapping[str, str]

    def start_search(self, folder: Path, *, uri: str, n_trials: int | None = None) -> "Process":
        """The command, the same each time."""
        words = ["search", "--data", "digits", "--study", STUDY, "--workers", 2, "--no-refit"]
        words += ["--budget", n_trials or self.n_trials, "--epochs", self.epochs, "--json"]
        words += ["--tracking-uri", uri]
        return self.start(folder, "autokd", *words)

    def start(self, folder: Path, module: str, *words: object) -> "Process":
        """A module as a process of its own; what it says goes to a file."""
        log = (folder / f"{module}.log").open("ab")
        return Process(
            [sys.executable, "-m", module, *map(str, words)],
            cwd=folder,
            env=self.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


class Process(subprocess.Popen[bytes]):
    """One that is killed with all that it has started."""

    def strike(self) -> None:
        """SIGKILL to the whole group."""
        os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def find_workers(self) -> list[int]:
        """Forked children, which have the command line of their parent."""
        with contextlib.suppress(psutil.Error):
            me = psutil.Process(self.pid)
            return [one.pid for one in me.children() if one.cmdline() == me.cmdline()]
        return []


class Server:
    """An MLflow server on a database in the folder."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        """Started, and waited for: its first migrations are not autokd's business."""
        self._folder, self._setting = folder, setting
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self.database = f"sqlite:///{folder}/server.db"
        self._process = self._start()
        self.wait()

    def _start(self) -> Process:
        words = ["server", "--host", "127.0.0.1", "--port", self._port, "--workers", 1]
        words += ["--backend-store-uri", self.database]
        words += ["--artifacts-destination", self._folder / "server-artifacts"]
        return self._setting.start(self._folder, "mlflow", *words)

    def wait(self) -> None:
        """Until it answers."""
        end = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        sys.exit(f"the MLflow server must answer within {STARTS_WITHIN_S:.0f} s, got nothing")

    def strike(self) -> None:
        """Killed, and started again: it is away for as long as that takes."""
        self._process.strike()
        self._process = self._start()

    def close(self) -> None:
        """Killed for good."""
        self._process.strike()


@dataclass(kw_only=True)
class Tally:
    """What came of one run.

    Attributes:
        kills: By target.
        seconds: Of the whole run.
        n_crashes: Ends of the coordinator that were neither a success nor a kill.
        n_finished: Trials trained to their end or stopped at a rung for good.
        n_failed: Trials given up.
        n_duplicates: Trials with the sample of an earlier one, and second ends of a trial that
            differ from its first.
        n_epochs: Told.
        n_epochs_twice: Told a second time.
        unequal: Each difference between MLflow and Optuna, in words.
    """

    kills: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0
    n_crashes: int = 0
    n_finished: int = 0
    n_failed: int = 0
    n_duplicates: int = 0
    n_epochs: int = 0
    n_epochs_twice: int = 0
    unequal: list[str] = field(default_factory=list[str])


def run_once(folder: Path, setting: Setting, *, seed: int, title: str) -> Tally:
    """One search among kills, and what it left."""
    chance, tally, start = random.Random(seed), Tally(), time.monotonic()
    folder.mkdir()
    server = Server(folder, setting)
    search = setting.start_search(folder, uri=server.uri)
    try:
        while time.monotonic() < start + RUN_LIMIT_S:
            try:
                code = search.wait(setting.every_s * chance.uniform(0.2, 1.8))
            except subprocess.TimeoutExpired:
                struck = strike(chance, search=search, server=server)
                tally.kills.update([struck] if struck else [])
                if struck != "coordinator":
                    continue
            else:
                if code == 0:
                    break
                tally.n_crashes += 1
                log = (folder / "autokd.log").read_text(encoding="utf-8")
                say(f"{title}: exit code {code}\n{log[-3000:]}")
            say(f"{title}: {time.monotonic() - start:.0f} s, killed {dict(tally.kills)}; again")
            search = setting.start_search(folder, uri=server.uri)
        if search.poll() is None:
            search.strike()
        server.wait()
        if is_unsent(folder):  # the server was away at the end: the same command sends the rest
            setting.start_search(folder, uri=server.uri).wait()
    finally:
        server.close()
        if search.poll() is None:
            search.strike()
    tally.seconds = time.monotonic() - start
    inspect(folder, tally, database=server.database)
    return tally


def strike(chance: random.Random, *, search: Process, server: Server) -> str:
    """Kills something; gives what, or nothing where no worker runs."""
    target = chance.choices(list(TARGETS), weights=list(TARGETS.values()))[0]
    if target == "server":
        server.strike()
    elif target == "coordinator":
        os.kill(search.pid, signal.SIGKILL)  # what it has forked must end of its own
        search.wait()
    elif workers := wait_for_workers(search):
        with contextlib.suppress(ProcessLookupError):  # it has just ended of itself
            os.kill(chance.choice(workers), signal.SIGKILL)
    else:
        return ""
    return target


def wait_for_workers(search: Process) -> list[int]:
    """Those that train, as soon as there are any: trials are short, starts are long."""
    end = time.monotonic() + WORKERS_WITHIN_S
    while time.monotonic() < end and search.poll() is None:
        if workers := search.find_workers():
            return workers
        time.sleep(0.02)
    return []


def is_unsent(folder: Path) -> bool:
    """Whether the spool holds what MLflow has not been told."""
    spool = folder / "mlruns/studies" / STUDY / "tracking"
    sent = spool / "events.sent"
    n_sent = int(sent.read_text()) if sent.exists() else 0
    return n_sent < (spool / "events.jsonl").stat().st_size


def inspect(folder: Path, tally: Tally, *, database: str) -> None:
    """Counts; adds to the tally."""
    storage = open_journal(folder / "mlruns/optuna.journal")
    trials = optuna.load_study(study_name=STUDY, storage=storage).get_trials()
    states = Counter(trial.state.name for trial in trials)
    tally.n_finished, tally.n_failed = states["COMPLETE"] + states["PRUNED"], states["FAIL"]
    samples = Counter(json.dumps(trial.params, sort_keys=True) for trial in trials)
    events = folder / "mlruns/studies" / STUDY / "tracking/events.jsonl"
    told, ends = count_events(events)
    tally.n_duplicates = sum(samples.values()) - len(samples)
    tally.n_duplicates += sum(len(different) - 1 for different in ends.values())
    tally.n_epochs, tally.n_epochs_twice = sum(told.values()), sum(told.values()) - len(told)
    tally.unequal = compare(trials, MlflowClient(database))


def count_events(path: Path) -> tuple[Counter[tuple[int, int]], dict[int, set[str]]]:
    """How often each epoch of each trial was told, and with what results each trial ended."""
    told: Counter[tuple[int, int]] = Counter()
    ends: dict[int, set[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["kind"] == "epoch_ended":
            told[event["trial"], event["epoch"]["epoch"]] += 1
        elif event["kind"] == "trial_ended":
            result = json.dumps(event["result"], sort_keys=True)
            ends.setdefault(event["result"]["trial"], set()).add(result)
    return told, ends


def compare(trials: Sequence[optuna.trial.FrozenTrial], client: MlflowClient) -> list[str]:
    """Where MLflow shows something else than Optuna has."""
    experiment = client.get_experiment_by_name(STUDY)
    if experiment is None:
        return ["no experiment"]
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    found: dict[int, list[Run]] = {}
    for run in runs:
        if "autokd.trial" in run.data.tags:
            found.setdefault(int(run.data.tags["autokd.trial"]), []).append(run)
    parents = [run.info.status for run in runs if run.data.tags.get("autokd.kind") == "search"]
    unequal = [] if parents == ["FINISHED"] else [f"runs of the search: {parents}"]
    strangers = sorted(set(found) - {trial.number for trial in trials})
    unequal += [f"trial {number} is not in Optuna" for number in strangers]
    for trial in trials:
        mine = found.get(trial.number, [])
        if len(mine) != 1:
            unequal.append(f"trial {trial.number} has {len(mine)} runs")
        elif different := differ(trial, mine[0], client):
            unequal.append(f"trial {trial.number}: {different}")
    return unequal


def differ(trial: optuna.trial.FrozenTrial, run: Run, client: MlflowClient) -> str:
    """What is not the same in a trial and its run, in words; nothing where all is."""
    if "result" not in trial.user_attrs:
        return "no result"
    result = load_json(TrialResult, trial.user_attrs["result"])
    latency_ms = None if result.latency is None else result.latency.median_ms
    if trial.state.name == "COMPLETE" and trial.values != [result.val_accuracy, latency_ms]:
        return f"Optuna has values {trial.values}, its result {dump_json(result)}"
    history = client.get_metric_history(run.info.run_id, "val_accuracy")
    pairs = {
        "status": (STATUS.get(trial.state.name), run.info.status),
        "val_accuracy": (result.val_accuracy, run.data.metrics.get("best_val_accuracy")),
        "latency_ms": (latency_ms, run.data.metrics.get("latency_ms")),
        "curve": (
            [(row.epoch, row.val_accuracy) for row in result.curve],
            sorted((metric.step, metric.value) for metric in history),
        ),
    }
    return "; ".join(
        f"{name} {ours} in Optuna, {theirs} in MLflow"
        for name, (ours, theirs) in pairs.items()
        if ours != theirs
    )


# ---------------------------------------------------------------------- the command line


def summarise(tallies: Sequence[Tally]) -> dict[str, object]:
    """The figures of all runs."""
    kills = sum((tally.kills for tally in tallies), Counter[str]())
    return {
        "n_runs": len(tallies),
        "n_finished": [tally.n_finished for tally in tallies],
        "n_failed": [tally.n_failed for tally in tallies],
        "n_kills": kills.total(),
        "kills": dict(sorted(kills.items())),
        "n_crashes": sum(tally.n_crashes for tally in tallies),
        "n_duplicates": sum(tally.n_duplicates for tally in tallies),
        "n_epochs": sum(tally.n_epochs for tally in tallies),
        "n_epochs_twice": sum(tally.n_epochs_twice for tally in tallies),
        "n_unequal": sum(len(tally.unequal) for tally in tallies),
        "seconds": [round(tally.seconds, 1) for tally in tallies],
    }


def warm(folder: Path, setting: Setting) -> None:
    """Trains the teacher, which all runs read from the cache."""
    folder.mkdir(parents=True)
    say("the teacher is trained, nothing is killed")
    search = setting.start_search(folder, uri=f"sqlite:///{folder}/warm.db", n_trials=1)
    if search.wait() != 0:
        sys.exit(f"the first search must end well, got exit code {search.returncode}")


def main() -> None:
    """Reads the arguments, kills, counts, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="1 run of 12 trials")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--every-s", type=float, default=5.0, help="mean time between two kills")
    parser.add_argument("--seed", type=int, default=0, help="of what is killed when")
    parser.add_argument("--keep", type=Path, help="folder that the runs are left in")
    arguments, out = parser.parse_args(), reserve_stdout()
    if arguments.quick:
        arguments.runs, arguments.trials = 1, 12
    tallies: list[Tally] = []
    with tempfile.TemporaryDirectory(prefix="autokd-chaos-") as name:
        top = (arguments.keep or Path(name)).resolve()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        environment |= {
            "AUTOKD_CACHE": str(top / "cache"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # processes outside its group
        }
        setting = Setting(
            n_trials=arguments.trials,
            epochs=arguments.epochs,
            every_s=arguments.every_s,
            environment=environment,
        )
        warm(top / "warm", setting)
        for number in range(arguments.runs):
            folder, title = top / f"run-{number}", f"run {number + 1}/{arguments.runs}"
            seed = 1000 * arguments.seed + number
            tallies.append(run_once(folder, setting, seed=seed, title=title))
            report(tallies, title=title)
    figures = {**describe_machine(), **summarise(tallies)}
    print_figures(figures, as_json=arguments.json, out=out)


def report(tallies: Sequence[Tally], *, title: str) -> None:
    """One line for the run that has ended, and one for each difference."""
    tally = tallies[-1]
    mean_s = statistics.fmean(one.seconds for one in tallies)
    say(
        f"{title}: {tally.n_finished} finished, {tally.n_failed} failed after "
        f"{tally.kills.total()} kills, {tally.n_crashes} crashes, {tally.n_duplicates} duplicates, "
        f"{tally.n_epochs_twice} of {tally.n_epochs} epochs twice, {len(tally.unequal)} unequal; "
        f"{mean_s:.0f} s a run"
    )
    for difference in tally.unequal:
        say(f"  {difference}")


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
