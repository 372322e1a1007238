"""The MLflow UI on the run's own store, for this machine only."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import webbrowser
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from autokd.config import Config, TowerConfig
from autokd.errors import ConfigError, StudyError, TrackingError
from autokd.trackers.connection import build_client, is_remote, translated_errors
from autokd.trackers.stores import artifact_folder, tracking_uri

__all__ = ["serve_ui"]

_HOST = "127.0.0.1"
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 5.0


def serve_ui(
    config: Config | TowerConfig,
    *,
    port: int,
    is_opened: bool,
    on_ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve the MLflow UI until Ctrl-C; where a server is configured, only point at it.

    Args:
        config: Of the study that is shown.
        port: Of this machine's loopback interface; nobody else can connect.
        is_opened: Whether a browser is opened on the page.
        on_ready: Told the URL of the study's page as soon as it answers.
    """
    uri = tracking_uri(config)
    if not is_remote(uri):
        _require_free(port)
    page = _load_page(config, uri=uri)
    if is_remote(uri):
        _show(uri.rstrip("/") + page, is_opened=is_opened, on_ready=on_ready)
        return
    with _running_server(config, uri=uri, port=port) as server:
        _wait_until_ready(server, port=port)
        _show(f"http://{_HOST}:{port}{page}", is_opened=is_opened, on_ready=on_ready)
        server.wait()


def _show(url: str, *, is_opened: bool, on_ready: Callable[[str], None]) -> None:
    on_ready(url)
    if is_opened:
        webbrowser.open(url)


def _require_free(port: int) -> None:
    """Bind the port for a moment, as the server will."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except (OSError, OverflowError) as error:
            raise ConfigError(f"`--port` must be free, got {port}; pass another --port") from error


def _load_page(config: Config | TowerConfig, *, uri: str) -> str:
    """The path of the study's page: its parent run, or its experiment while there is none."""
    study = config.study_name
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise _unknown(study, known=[])  # asking would create the database
    client = build_client(uri)
    with translated_errors(uri):
        experiment = client.get_experiment_by_name(study)
        if experiment is None or experiment.lifecycle_stage == "deleted":
            known = [found.name for found in client.search_experiments()]
            raise _unknown(study, known=sorted(set(known) - {"Default"}))
        experiment_id = experiment.experiment_id
        runs = client.search_runs(
            [experiment_id], "tags.`autokd.kind` = 'search'", order_by=["attributes.start_time ASC"]
        )
    tail = f"/runs/{runs[0].info.run_id}" if runs else ""
    return f"/#/experiments/{experiment_id}{tail}"


def _unknown(study: str, *, known: list[str]) -> StudyError:
    remedy = f"known are {', '.join(known)}" if known else "run `autokd search` first"
    return StudyError(f"`--study` must be a tracked study, got {study}; {remedy}")


@contextmanager
def _running_server(
    config: Config | TowerConfig, *, uri: str, port: int
) -> Generator["subprocess.Popen[bytes]"]:
    """A server in its own process group, stopped with its children; Ctrl-C ends the block."""
    options = {"--host": _HOST, "--port": str(port), "--workers": "1", "--backend-store-uri": uri}
    if (artifacts := artifact_folder(config)) is not None:
        options["--default-artifact-root"] = artifacts.as_uri()
    command = [sys.executable, "-m", "mlflow", "server"]
    command += [word for option in options.items() for word in option]
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true", **os.environ}
    with _terminated_like_interrupted(), suppress(KeyboardInterrupt):
        server = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield server
        finally:
            _stop(server)


@contextmanager
def _terminated_like_interrupted() -> Generator[None]:
    """A SIGTERM stops the server too, instead of leaving it behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _stop(server: "subprocess.Popen[bytes]") -> None:
    """End the whole process group, kindly first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(_STOP_TIMEOUT_S)


def _wait_until_ready(server: "subprocess.Popen[bytes]", *, port: int) -> None:
    health = f"http://{_HOST}:{port}/health"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is this machine
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise TrackingError(
                f"the MLflow server must start, got exit code {server.returncode}; "
                f"try `mlflow server --port {port}`"
            )
        with suppress(OSError), direct.open(health, timeout=2):
            return
        time.sleep(0.2)
    raise TrackingError(f"the MLflow server must answer in {_START_TIMEOUT_S:.0f} s, got nothing")
