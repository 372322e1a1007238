"""A search whose students are trained by other processes; all of them, and the database, fail."""

import contextlib
import signal
import time

import optuna
import psutil
import pytest

from tests.e2e.agreement import check, count_done, wait_until
from tests.postgres import running_postgres

BUDGET = 12
OUTAGE_S = 15.0  # of the database


@pytest.fixture(scope="module")
def server():
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def url(server):
    return server.url


@pytest.fixture
def trials(url):
    """What Optuna knows."""
    # Makes its tables before anybody else does, and finds its server again after a stop.
    storage = optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})

    def trials():
        try:
            return optuna.load_study(study_name="s", storage=storage).trials
        except KeyError:
            return []

    yield trials
    storage.engine.dispose()


@pytest.fixture
def searching(start, tmp_path, url):
    """Starts a coordinator or a worker; whatever still runs in the end is killed."""
    processes = []

    def launch(command, *words):
        process = start(tmp_path, command, "--study", "s", "--storage", url, *words)
        processes.append(process)
        return process

    yield launch
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def kill_a_trainer(worker):
    """Kills a process of a worker that trains."""
    for child in psutil.Process(worker.pid).children():
        if child.cpu_times().user > 0.3:
            child.kill()
            return


def test_whoever_is_killed_nothing_is_lost(searching, tmp_path, trials, server):
    search = ["search", "--remote", "--budget", BUDGET, "--train-limit", 300, "--epochs", 4,
              "--refit-epochs", 1, "--seeds", 1, "--json"]  # fmt: skip
    first, worker = searching(*search), searching("worker", "--workers", 2)
    wait_until(trials, lambda trials: count_done(trials) >= 3)
    kill_a_trainer(worker)
    other = searching("worker", "--workers", 1)
    wait_until(trials, lambda trials: count_done(trials) >= 5)
    worker.send_signal(signal.SIGKILL)
    first.send_signal(signal.SIGKILL)
    second = searching(*search)
    wait_until(trials, lambda trials: count_done(trials) >= 7)
    server.stop()
    time.sleep(OUTAGE_S)
    server.start()
    out, err = second.communicate(timeout=280)
    assert second.returncode == 0, err
    check(tmp_path, trials(), out, budget=BUDGET)
    _, err = other.communicate(timeout=60)
    assert other.returncode == 0, err
    assert "study s is over" in err


def test_a_worker_says_what_is_wrong(run, tmp_path, url):
    code, _, err = run(tmp_path, "worker", "--study", "none", "--storage", url, "--wait", 0)
    assert code == 2
    assert err.startswith("StudyError: `--study` must be searched with --remote in this storage")
    code, _, err = run(tmp_path, "worker", "--study", "s", "--storage", "journal:x")
    assert code == 2
    assert "`--storage` must be a database that workers reach" in err
    code, _, err = run(tmp_path, "search", "--remote")
    assert code == 2
    assert "`--storage` must be a database that workers reach, got a journal file" in err
