"""The real command line in processes of its own, on tiny real data."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from filelock import FileLock

from autokd import cli as cli_module
from tests.e2e.started import Started

TINY = ["--train-limit", "300", "--epochs", "1", "--refit-epochs", "1", "--seeds", "2"]


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id):
    """A folder of all test processes of this run."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def environment(shared):
    """A cache of its own, so that the teacher is trained once for all tests of the folder."""
    unset = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    return {**unset, "XDG_CACHE_HOME": str(shared / "cache"), "COLUMNS": "200"}


if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell starts what stands before `&` deaf to Ctrl-C, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def start(environment):
    """Starts autokd in a folder."""

    def start(folder: Path, *words: object) -> Started:
        return Started(folder, list(map(str, words)), environment)

    return start


@pytest.fixture(scope="session")
def run(start):
    """Runs autokd in a folder to its end: exit code, standard output, standard error."""

    def run(folder: Path, *words: object) -> tuple[int, str, str]:
        process = start(folder, *words)
        out, err = process.communicate(timeout=280)
        return process.returncode, out, err

    return run


@pytest.fixture(scope="session")
def searched(environment, shared):
    """A folder with a finished search, and what it printed as JSON; made once for all."""
    folder = shared / "searched"
    with FileLock(shared / "searched.lock"):
        if not folder.exists():
            folder.mkdir()
            words = ["search", "--budget", "6", "--study", "tiny", "--json", *TINY]
            done = subprocess.run(
                [sys.executable, "-m", "autokd", *words], cwd=folder, env=environment,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            (folder / "out.json").write_text(done.stdout)
            (folder / "err.txt").write_text(done.stderr)
    return folder, json.loads((folder / "out.json").read_text()), (folder / "err.txt").read_text()


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """The command line in this process; what it would have printed and its exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr("autokd.cli.running._leave", leave)
    # Torch has computed gradients in this process, so that the probe waits in vain for 10 s.
    monkeypatch.setattr("autokd.study.crews.can_fork", lambda: False)

    def invoke(*words):
        monkeypatch.setattr("sys.argv", ["autokd", *map(str, words)])
        runner = CliRunner()
        with runner.isolation() as streams:
            try:
                cli_module.main()
                code = 0
            except SystemExit as error:
                code = error.code
            return code, streams[0].getvalue().decode() + streams[1].getvalue().decode()

    return invoke
