"""The real command line in processes of its own, on tiny real data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TINY = ["--train-limit", "300", "--epochs", "1", "--refit-epochs", "1", "--seeds", "2"]


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """A cache of its own, so that the teacher is trained once for all tests of the folder."""
    cache = tmp_path_factory.mktemp("cache")
    unset = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    return {**unset, "XDG_CACHE_HOME": str(cache), "COLUMNS": "200"}


@pytest.fixture(scope="session")
def start(environment):
    """Starts autokd in a folder."""

    def start(folder: Path, *words: object) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "autokd", *map(str, words)],
            cwd=folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

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
def searched(run, tmp_path_factory):
    """A folder with a finished search, and what it printed as JSON."""
    folder = tmp_path_factory.mktemp("searched")
    code, out, err = run(folder, "search", "--budget", 6, "--study", "tiny", "--json", *TINY)
    assert code == 0, err
    return folder, json.loads(out), err
