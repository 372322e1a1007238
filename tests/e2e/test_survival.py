"""A search that outlives its disk, its tracking server, its machine and a second coordinator."""

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
import pytest

from autokd.study.journal import open_journal
from tests.e2e.agreement import check, count_done, wait_until

BUDGET = 12
SEARCH = ["search", "--study", "s", "--budget", BUDGET, "--train-limit", 300, "--epochs", 4,
          "--workers", 2, "--no-refit", "--json"]  # fmt: skip


def load_trials(folder):
    path = folder / "mlruns/optuna.journal"
    with contextlib.suppress(KeyError):
        if path.exists():
            return optuna.load_study(study_name="s", storage=open_journal(path)).trials
    return []


def wait_for_trials(folder, n):
    wait_until(lambda: load_trials(folder), lambda trials: count_done(trials) >= n)


def cut(path: Path, n: int) -> None:
    """Takes the last bytes off, as a power cut does."""
    os.truncate(path, max(0, path.stat().st_size - n))


def test_a_power_cut_costs_no_trial(start, run, tmp_path):
    first = start(tmp_path, *SEARCH)
    wait_for_trials(tmp_path, 4)
    first.kill()
    first.communicate()
    known = load_trials(tmp_path)
    with (tmp_path / "mlruns/optuna.journal").open("ab") as journal:
        journal.write(b'{"op_code": 8, "worker_id": "half a li')
    cut(tmp_path / "mlruns/studies/s/tracking/events.jsonl", 9)
    for checkpoint in (tmp_path / "mlruns/studies/s/checkpoints").iterdir():
        cut(checkpoint, 1000)
    code, out, err = run(tmp_path, *SEARCH)
    assert code == 0, err
    after = load_trials(tmp_path)
    for trial in known:
        if trial.state.is_finished():
            assert after[trial.number].values == trial.values
    check(tmp_path, after, out, budget=BUDGET)


@pytest.mark.slow
def test_a_second_coordinator_is_refused_and_the_first_goes_on(start, run, tmp_path):
    first = start(tmp_path, *SEARCH)
    wait_until(lambda: [*(tmp_path / "mlruns/studies/s").glob("settings.json")], bool)
    for words in ([], ["--remote", "--storage", f"sqlite:///{tmp_path}/other.db"]):
        code, _, err = run(tmp_path, *SEARCH, *words)
        assert code == 2
        assert "study `s` must not be searched twice at once" in err
    out, err = first.communicate(timeout=280)
    assert first.returncode == 0, err
    check(tmp_path, load_trials(tmp_path), out, budget=BUDGET)
    code, _, err = run(tmp_path, *SEARCH, "--storage", f"sqlite:///{tmp_path}/other.db")
    assert code == 2
    assert (
        "study `s` must go on with the trials that mlruns/studies/s was filled by, got none" in err
    )


@contextlib.contextmanager
def small_disk(folder, *, mebibytes):
    """A file system of its own."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    if os.name != "posix" or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a file system can only be mounted by root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_said_and_what_was_done_is_kept(run, tmp_path):
    folder = tmp_path / "small"
    with small_disk(folder, mebibytes=8):
        filler = folder / "filler"
        code, _, err = run(folder, *SEARCH, "--budget", 2)  # data bases and teacher find room
        assert code == 0, err
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(b"x" * 4096)
                file.flush()
        code, _, err = run(folder, *SEARCH)
        assert code == 2, err
        assert "the disk must have room for the study" in err
        n_before = count_done(load_trials(folder))
        assert n_before >= 2
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=512m", str(folder)], check=True)
        code, out, err = run(folder, *SEARCH)
        assert code == 0, err
        assert json.loads(out)["n_trials"] == BUDGET


@contextlib.contextmanager
def mlflow_server(folder, *, port):
    command = [sys.executable, "-m", "mlflow", "server", "--port", port, "--workers", 1,
               "--backend-store-uri", f"sqlite:///{folder}/server.db",
               "--artifacts-destination", folder / "artifacts"]  # fmt: skip
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(
            [*map(str, command)], stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    try:
        wait_until(lambda: _answers(port), bool)
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@pytest.mark.slow
def test_a_server_that_dies_gets_everything_when_it_is_back(start, run, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    search = [*SEARCH, "--tracking-uri", uri]
    with mlflow_server(tmp_path, port=port):
        first = start(tmp_path, *search)
        wait_for_trials(tmp_path, 3)
    out, err = first.communicate(timeout=280)
    assert first.returncode == 0, err
    assert "records are kept for MLflow, which cannot be reached" in err
    with mlflow_server(tmp_path, port=port):
        time.sleep(1)
        code, _, err = run(tmp_path, *search)
        assert code == 0, err
        check(tmp_path, load_trials(tmp_path), out, budget=BUDGET, uri=uri)
