"""Nothing lost: searches in which something is killed every few seconds, at random moments.

Each run is `autokd search` on digits with two workers and an MLflow server of its own. A process
that trains, the coordinator (started again with the same command) or the server (started again
a second later) is killed, with SIGKILL. Counted in the end: trials that are finished in Optuna,
trials or samples that are there twice, epochs that were trained again although they had been told
(the one that is cut never is), and trials of which MLflow says something else than Optuna.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import optuna
import psutil
from rich.console import Console

from autokd.study.journal import open_journal
from autokd.types import TrialResult, load_json

STUDY = "chaos"
EPOCHS = 4
VICTIMS = {"worker": 3, "coordinator": 2, "server": 1}
LIMIT_S = 900.0  # after which nothing more is killed

console = Console(stderr=True, highlight=False)


@dataclass(kw_only=True)
class Run:
    """What came of one search.

    Attributes:
        n_finished: Trials that Optuna has ended.
        n_duplicates: Trials beyond the budget, and samples that were trained twice.
        n_epochs_twice: Epochs told, and trained again all the same.
        n_unequal: Trials of which MLflow knows another state, curve or latency.
        kills: By what was killed.
        seconds: From the first start to the end.
    """

    n_finished: int
    n_duplicates: int
    n_epochs_twice: int
    n_unequal: int
    kills: dict[str, int] = field(default_factory=dict[str, int])
    seconds: float = 0.0

    @property
    def is_well(self) -> bool:
        """Whether nothing was lost and nothing is there twice."""
        return self.n_duplicates == self.n_epochs_twice == self.n_unequal == 0


class Server:
    """An MLflow server with a database in a folder."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._store = f"sqlite:///{folder}/server.db"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Starts it, without waiting."""
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self._port)]
        command += ["--workers", "1", "--backend-store-uri", self._store]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        log = (self._folder / "server.log").open("ab")
        self._process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, cwd=self._folder
        )
        log.close()

    def kill(self) -> None:
        """Kills it with all its children."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def wait(self) -> None:
        """Waits until it answers."""
        while True:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self._port), timeout=1),
            ):
                return
            time.sleep(0.2)


@contextlib.contextmanager
def serving(folder: Path) -> Generator[Server]:
    """A server that is there before anything is searched."""
    server = Server(folder)
    server.start()
    server.wait()
    try:
        yield server
    finally:
        server.kill()


def start_search(
    folder: Path, *, budget: int, tracking_uri: str, cache: Path
) -> subprocess.Popen[bytes]:
    """The coordinator, the same each time."""
    command = [sys.executable, "-m", "autokd", "search", "--study", STUDY, "--workers", "2"]
    command += ["--budget", str(budget), "--epochs", str(EPOCHS), "--train-limit", "600"]
    command += ["--no-refit", "--tracking-uri", tracking_uri]
    environment = {**os.environ, "AUTOKD_CACHE": str(cache)}
    with (folder / "search.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def kill_a_worker(search: subprocess.Popen[bytes], random_: random.Random) -> bool:
    """Whether there was a child that trains, to be killed."""
    with contextlib.suppress(psutil.Error):
        children = psutil.Process(search.pid).children()
        trainers = [one for one in children if one.memory_info().rss and _is_fork(one, search)]
        if trainers:
            random_.choice(trainers).kill()
            return True
    return False


def _is_fork(child: psutil.Process, parent: subprocess.Popen[bytes]) -> bool:
    """A fork has its parent's command line; the stopwatch has one of its own."""
    return child.cmdline() == psutil.Process(parent.pid).cmdline()


def run_once(folder: Path, *, budget: int, gap_s: Sequence[float], seed: int, cache: Path) -> Run:
    """One search, with kills until it ends."""
    random_, kills = random.Random(seed), Counter[str]()
    start = time.monotonic()
    with serving(folder) as server:
        search = start_search(folder, budget=budget, tracking_uri=server.uri, cache=cache)
        while True:
            is_calm = time.monotonic() - start > LIMIT_S
            try:
                search.wait(None if is_calm else random_.uniform(*gap_s))
            except subprocess.TimeoutExpired:
                victim = random_.choices(list(VICTIMS), list(VICTIMS.values()))[0]
                if victim == "server":
                    server.kill()
                    time.sleep(1)
                    server.start()
                elif victim == "coordinator":
                    search.kill()
                    search.wait()
                    search = start_search(
                        folder, budget=budget, tracking_uri=server.uri, cache=cache
                    )
                elif not kill_a_worker(search, random_):
                    continue
                kills[victim] += 1
                continue
            if search.returncode != 0:
                sys.exit(f"the search has failed; see {_keep(folder / 'search.log')}")
            break
        server.wait()
        drain = start_search(
            folder, budget=budget, tracking_uri=server.uri, cache=cache
        )  # sends what is left
        if drain.wait() != 0:
            sys.exit(f"the search has failed; see {_keep(folder / 'search.log')}")
        run = count(folder, budget=budget, tracking_uri=server.uri)
    run.kills, run.seconds = dict(kills), time.monotonic() - start
    return run


def _keep(log: Path) -> Path:
    kept = Path(tempfile.gettempdir()) / "autokd-chaos.log"
    kept.write_bytes(log.read_bytes())
    return kept


def count(folder: Path, *, budget: int, tracking_uri: str) -> Run:
    """What is there in the end."""
    storage = open_journal(folder / "mlruns/optuna.journal")
    trials = optuna.load_study(study_name=STUDY, storage=storage).trials
    results = {
        trial.number: load_json(TrialResult, trial.user_attrs["result"])
        for trial in trials
        if trial.state.is_finished()
    }
    trained = Counter(
        json.dumps(dict(result.sample), sort_keys=True)
        for result in results.values()
        if result.state == "complete" and result.same_as is None
    )
    told = Counter(_told_epochs(folder / f"mlruns/studies/{STUDY}/tracking/events.jsonl"))
    return Run(
        n_finished=len(results),
        n_duplicates=max(0, len(trials) - budget) + sum(n - 1 for n in trained.values()),
        n_epochs_twice=sum(n - 1 for n in told.values()),
        n_unequal=count_unequal(results, tracking_uri=tracking_uri),
    )


def _told_epochs(events: Path) -> Generator[tuple[int, int]]:
    for line in events.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["kind"] == "epoch_ended":
            yield event["trial"], event["epoch"]["epoch"]


def count_unequal(results: dict[int, TrialResult], *, tracking_uri: str) -> int:
    """Trials that MLflow does not have, or has with another state, curve or latency."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name(STUDY)
    if experiment is None:
        return len(results)
    runs: dict[int, list[Any]] = {}
    for run in client.search_runs([experiment.experiment_id]):
        if "autokd.trial" in run.data.tags:
            runs.setdefault(int(run.data.tags["autokd.trial"]), []).append(run)
    n_unequal = len(set(runs) - set(results))
    for number, result in results.items():
        mine = runs.get(number, [])
        n_unequal += len(mine) != 1 or not _is_equal(mine[0], result, client=client)
    return n_unequal


def _is_equal(run: Any, result: TrialResult, *, client: Any) -> bool:  # noqa: ANN401 - mlflow's
    history = client.get_metric_history(run.info.run_id, "val_accuracy")
    curve = sorted((row.epoch, row.val_accuracy) for row in result.curve)
    if (
        sorted((metric.step, metric.value) for metric in history) != curve
        and result.same_as is None
    ):
        return False
    metrics, latency = run.data.metrics, result.latency
    return (
        run.data.tags["autokd.state"] == result.state
        and metrics.get("best_val_accuracy") == result.val_accuracy
        and metrics.get("latency_ms") == (None if latency is None else latency.median_ms)
        and run.info.status != "RUNNING"
    )


def main() -> None:
    """Reads the arguments, kills, counts, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="2 runs of 12 trials")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--budget", type=int, default=20)
    parser.add_argument("--gap", type=float, nargs=2, default=(2.0, 12.0), help="seconds, from to")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    n_runs, budget = (2, 12) if arguments.quick else (arguments.runs, arguments.budget)
    runs: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="autokd-cache-") as cache:  # one teacher for all
        for number in range(n_runs):
            with tempfile.TemporaryDirectory(prefix="autokd-chaos-") as folder:
                run = run_once(
                    Path(folder),
                    budget=budget,
                    gap_s=arguments.gap,
                    seed=arguments.seed + number,
                    cache=Path(cache),
                )
            runs.append(run)
            kills = ", ".join(f"{n} x {victim}" for victim, n in sorted(run.kills.items()))
            console.print(
                f"run {number + 1}/{n_runs}: {run.n_finished} of {budget} trials in "
                f"{run.seconds:.0f} s, killed {kills or 'nothing'}; "
                f"{'well' if run.is_well else asdict(run)}"
            )
    figures = {
        "budget": budget,
        "n_runs": len(runs),
        "n_finished": [run.n_finished for run in runs],
        "n_kills": [sum(run.kills.values()) for run in runs],
        "n_duplicates": sum(run.n_duplicates for run in runs),
        "n_epochs_twice": sum(run.n_epochs_twice for run in runs),
        "n_unequal": sum(run.n_unequal for run in runs),
        "runs": [asdict(run) for run in runs],
    }
    print(json.dumps(figures) if arguments.json else json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
