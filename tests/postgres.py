"""A real PostgreSQL server of the test's own, which can be stopped and started again."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


class PostgresServer:
    """Lives in a folder; the user `postgres` runs it where we are root, which it refuses."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._bin = folder, _FOLDERS[-1]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._run("initdb", "-D", folder / "data", "-U", "tester", "-A", "trust", "-N")

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://tester@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-D", self._folder / "data", "-l", self._folder / "log", "-w",
                  "-o", options, "start")  # fmt: skip

    def stop(self) -> None:
        """As a power cut does."""
        self._run("pg_ctl", "-D", self._folder / "data", "-m", "immediate", "-w", "stop")

    def _run(self, program: str, *words: object) -> None:
        command = [str(self._bin / program), *map(str, words)]
        if os.getuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, timeout=60)


@contextmanager
def running_postgres() -> Generator[PostgresServer]:
    """A started server; the test is skipped where there can be none."""
    if not _FOLDERS:
        pytest.skip("PostgreSQL's server is not installed")
    if os.getuid() == 0 and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and runuser is not installed")
    pytest.importorskip("psycopg", reason="pip install 'autokd[postgres]'")
    folder = Path(tempfile.mkdtemp(prefix="autokd-postgres-"))
    if os.getuid() == 0:
        shutil.chown(folder, "postgres")
    try:
        server = PostgresServer(folder)
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
