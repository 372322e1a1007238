"""A search on a real Ray cluster of two nodes, one of which dies, and its coordinator too."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import optuna
import psutil
import pytest

from autokd.study.journal import open_journal
from tests.e2e.agreement import check, count_done, wait_until

pytest.importorskip("ray", reason="pip install 'autokd[ray]'")

BUDGET = 12
SEARCH = ["search", "--study", "s", "--budget", BUDGET, "--train-limit", 300, "--epochs", 4,
          "--no-refit", "--json"]  # fmt: skip


class Cluster:
    """Nodes of this test's own on loopback."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._folder = folder
        self.nodes = []

    def start(self, *words):
        """A node, once it is up; gives its process."""
        port = self.address.rsplit(":", 1)[1]
        head = ["--head", "--port", port, "--include-dashboard", "false"]
        where = ["--address", self.address] if self.nodes else head
        command = [Path(sys.executable).with_name("ray"), "start", "--block", *where, *words]
        command += ["--num-cpus", "1", "--disable-usage-stats",
                    "--node-ip-address", "127.0.0.1"]  # fmt: skip
        log = self._folder / f"node-{time.monotonic_ns()}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*map(str, command)], stdout=file, stderr=file, start_new_session=True,
                env={**os.environ, "RAY_TMPDIR": str(self._folder)},
            )  # fmt: skip
        self.nodes.append(process)
        wait_until(lambda: log.read_text(), lambda text: "Ray runtime started" in text)
        return process

    def kill(self, node):
        """As a power cut does."""
        self.nodes.remove(node)
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(node.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        node.kill()
        node.wait(60)

    def stop(self):
        for node in reversed(self.nodes.copy()):
            self.kill(node)


@pytest.fixture
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("ray"))
    yield cluster
    cluster.stop()


def load_trials(folder):
    path = folder / "mlruns/optuna.journal"
    with contextlib.suppress(KeyError):
        if path.exists():
            return optuna.load_study(study_name="s", storage=open_journal(path)).trials
    return []


@pytest.mark.slow
@pytest.mark.timeout(1200)  # Ray gives its workers the lowest priority
def test_a_node_and_the_coordinator_die_and_nothing_is_lost(start, run, cluster, tmp_path):
    cluster.start()
    doomed = cluster.start("--resources", '{"latency_device": 1}')
    search = [*SEARCH, "--ray", cluster.address]
    first = start(tmp_path, *search)
    wait_until(lambda: load_trials(tmp_path), lambda trials: count_done(trials) >= 3)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second = start(tmp_path, *search)
    wait_until(lambda: load_trials(tmp_path), lambda trials: count_done(trials) >= 6)
    cluster.start("--resources", '{"latency_device": 1}')
    cluster.kill(doomed)
    out, err = second.communicate(timeout=600)
    assert second.returncode == 0, err
    assert "Ray cluster of 2 nodes, 2 trials side by side" in err
    check(tmp_path, load_trials(tmp_path), out, budget=BUDGET)
    (kept,) = (tmp_path / "mlruns/latency").glob("reference-*.json")  # of whoever measured first
    assert json.loads(kept.read_text())["ms"] > 0
    code, _, err = run(tmp_path, *search, "--cpus-per-trial", 64, "--study", "other")
    assert code == 2
    assert "must fit one node of the cluster, got 64 and 0" in err


def test_what_is_wrong_with_a_cluster_is_said(run, tmp_path):
    code, _, err = run(tmp_path, *SEARCH, "--ray", "127.0.0.1:9", "--remote")
    assert code == 2
    assert err == "ConfigError: `--ray` must stand without --remote, got 127.0.0.1:9 and --remote\n"
    for address in ("nowhere", "127.0.0.1:9"):
        code, _, err = run(tmp_path, *SEARCH, "--ray", address)
        assert code == 2
        assert f"`--ray` must be the address of a running cluster, got {address}" in err
