"""autokd in processes that are forked from one that has imported it: no test waits for torch.

What is started is the command line as a user's shell starts it, but for the imports; the search
that all tests share begins with those, too.
"""

import atexit
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(
    ["autokd.cli", "autokd.study", "mlflow", "onnx", "onnxruntime", "torch.onnx", "torch.export"]
)
_OUT, _ERR = 1, 2


class Started:
    """A command that runs; of `subprocess.Popen` what the tests need."""

    def __init__(self, folder: Path, words: list[str], environment: dict[str, str]):
        self._files = [tempfile.NamedTemporaryFile("r") for _ in (_OUT, _ERR)]  # noqa: SIM115
        names = [file.name for file in self._files]
        self._process = _FORKING.Process(target=_begin, args=(folder, words, environment, names))
        # Torch reads it when it is imported, before the command could set it.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it has printed, once it has ended."""
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired("autokd", timeout)
        printed, complained = (Path(file.name).read_text() for file in self._files)
        return printed, complained


def _begin(folder: Path, words: list[str], environment: dict[str, str], names: list[str]) -> None:
    """What the interpreter does before and after `python -m autokd`."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, name in zip((_OUT, _ERR), names, strict=True):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND), number)
    sys.path.insert(0, str(folder))
    sys.argv = ["autokd", *words]
    from autokd.cli import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()
