"""A real tracking server dies in mid-study and comes back."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from autokd.trackers import MlflowTracker, SpooledTracker
from tests.contracts.tracker_contract import copy_store, study

# mlflow's own mappers, under a recent SQLAlchemy


class Server:
    """`mlflow server` on a store, started and killed at will."""

    def __init__(self, folder):
        self.store = copy_store(folder)
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        words = ["--port", str(self.port), "--workers", "1", "--backend-store-uri", self.store]
        words += ["--artifacts-destination", str(self.folder / "artifacts")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health"):
                return
            time.sleep(0.2)
        raise TimeoutError

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "server")
    server.start()
    yield server
    server.kill()


@pytest.mark.slow
def test_a_study_survives_the_death_of_the_server(server, tmp_path):
    from mlflow import MlflowClient

    spool = SpooledTracker(
        lambda: MlflowTracker(server.uri, artifacts=None, study="digits"),
        folder=tmp_path / "spool",
        first_wait_s=0.1,
        longest_wait_s=0.5,
    )
    events = study()
    for event in events[:4]:
        spool.log(event)
    wait_until(lambda: spool.n_unsent == 0)
    server.kill()
    begin = time.perf_counter()
    for event in events[4:]:
        spool.log(event)
    assert time.perf_counter() - begin < 0.5
    wait_until(lambda: spool.last_error is not None)
    assert spool.n_unsent == len(events) - 4
    server.start()
    wait_until(lambda: spool.n_unsent == 0)
    spool.close()

    client = MlflowClient(server.store)
    experiment = client.get_experiment_by_name("digits")
    runs = client.search_runs([experiment.experiment_id])
    shown = sorted((run.info.run_name, run.info.status) for run in runs)
    names = ["search", "trial-0", "trial-1", "trial-2"]
    assert shown == list(zip(names, ["FINISHED", "FINISHED", "FAILED", "KILLED"], strict=True))


def wait_until(condition):
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    raise TimeoutError
