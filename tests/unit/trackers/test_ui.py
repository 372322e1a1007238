"""The UI is served on this machine only, and nothing of it stays behind."""

import os
import socket
import subprocess
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from autokd.config import Config
from autokd.errors import ConfigError, StudyError
from autokd.trackers import MlflowTracker, serve_ui
from autokd.trackers import ui as module
from tests.contracts.tracker_contract import closed, copy_store, opened

# mlflow's own mappers, under a recent SQLAlchemy


def find_free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = copy_store(tmp_path)
    tracker = MlflowTracker(uri, artifacts=tmp_path / "artifacts", study="digits")
    tracker.log_all([opened(), closed()])
    return Config(runs_dir=tmp_path, study="digits")


def test_a_port_in_use_is_refused_before_anything_starts(config, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = f"`--port` must be free, got {port}; pass another --port"
        with pytest.raises(ConfigError, match=f"^{message}$"):
            serve_ui(config, port=port, is_opened=False)


def test_an_unknown_study_names_the_known_ones(config, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    other = config.model_copy(update={"study": "other"})
    with pytest.raises(StudyError, match=r"got other; known are digits$"):
        serve_ui(other, port=find_free_port(), is_opened=False)


def test_without_a_store_nothing_is_created(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(StudyError, match=r"run `autokd search` first$"):
        serve_ui(Config(runs_dir=tmp_path / "x"), port=find_free_port(), is_opened=False)
    assert not list(tmp_path.iterdir())


def test_a_configured_server_is_only_pointed_at(config, monkeypatch):
    opened_pages, shown = [], []
    local = f"sqlite:///{config.runs_dir}/mlflow.db"
    build_client = module.build_client
    monkeypatch.setattr(module, "build_client", lambda _: build_client(local))
    monkeypatch.setattr(module.webbrowser, "open", opened_pages.append)
    remote = config.model_copy(update={"tracking_uri": "http://server:1/"})
    serve_ui(remote, port=1, is_opened=True, on_ready=shown.append)
    assert shown == opened_pages
    assert shown[0].startswith("http://server:1/#/experiments/1/runs/")


def find_processes(word):
    """Command lines of this machine that contain the word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if word in line and path.parent.name != str(os.getpid()):
            found.append(line)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="lists processes by /proc")
def test_the_ui_shows_the_study_until_ctrl_c_and_leaves_nothing_behind(config):
    port, seen = find_free_port(), {}

    def look(url):
        base, _, page = url.partition("/#/")
        with urllib.request.urlopen(base, timeout=10) as answer:
            seen["html"] = answer.read().decode()
        run_id = page.rpartition("/")[2]
        query = f"{base}/get-artifact?path=front.json&run_uuid={run_id}"
        with urllib.request.urlopen(query, timeout=10) as answer:
            seen["front"] = answer.read().decode()
        seen["processes"] = find_processes(str(config.runs_dir))
        raise KeyboardInterrupt

    serve_ui(config, port=port, is_opened=False, on_ready=look)
    assert "<title>MLflow</title>" in seen["html"]
    assert '"study": "digits"' in seen["front"]
    assert seen["processes"]
    assert find_processes(str(config.runs_dir)) == []
    module._require_free(port)


def test_a_proxy_is_not_asked_after_a_server_of_this_machine(monkeypatch):
    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Nothing."""

    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{find_free_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with HTTPServer(("127.0.0.1", 0), Healthy) as server:
        Thread(target=server.handle_request, daemon=True).start()
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as running:
            module._wait_until_ready(running, port=server.server_address[1])
            running.kill()
