import json
import logging
import os
import shutil
import subprocess
import time
from contextlib import contextmanager

import onnx
import psutil
import pytest
import torch
from torch import nn

from autokd.errors import MeasureError
from autokd.exporters import export_onnx, quantize_onnx
from autokd.latency import Form, StopwatchTarget, stopwatch_target
from autokd.latency.reference import recall_quiet_ms
from autokd.latency.stopwatch.cores import choose_cores

SHORT = Form(least_s=0.02, most_s=0.3, precision=0.05)


class Quiet:
    """Notes when it was entered and left."""

    def __init__(self):
        self.times = []

    @contextmanager
    def __call__(self):
        self.times.append(time.monotonic())
        yield
        self.times.append(time.monotonic())


@pytest.fixture(autouse=True)
def calibrated(monkeypatch):
    monkeypatch.setattr(stopwatch_target, "_CALIBRATION", SHORT)


def wide(n: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, n), nn.ReLU(), nn.Linear(n, 10))


def export(tmp_path, n: int):
    return export_onnx(wide(n), tmp_path / f"{n}.onnx", shape=(1, 8, 8))


def test_others_stand_still_only_while_the_clock_runs(tmp_path):
    model = export(tmp_path, 16)
    StopwatchTarget(form=SHORT).measure(model)  # the reference is known after it
    quiet = Quiet()
    start = time.monotonic()
    latency = StopwatchTarget(form=SHORT, quiet=quiet).measure(model)
    entered, left = quiet.times
    assert latency.median_ms > 0
    assert start < entered < left
    assert left - entered >= SHORT.least_s


def test_nobody_stands_still_for_a_file_that_does_not_load(tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"no network")
    StopwatchTarget(form=SHORT).measure(export(tmp_path, 16))
    quiet = Quiet()
    with pytest.raises(MeasureError, match=r"onnxruntime must run model\.onnx, got .*onnx"):
        StopwatchTarget(form=SHORT, quiet=quiet).measure(model)
    assert quiet.times == []


def test_an_operator_that_the_runtime_lacks_is_told_by_its_name(tmp_path):
    model = onnx.load(export(tmp_path, 16))
    model.graph.node[0].op_type = "NoSuchOperator"
    path = tmp_path / "strange.onnx"
    onnx.save(model, path)
    with pytest.raises(MeasureError, match=r"^onnxruntime must run .*NoSuchOperator") as caught:
        StopwatchTarget(form=SHORT).measure(path)
    assert "\n" not in str(caught.value)


SPY = """
import atexit, json, os, sys

def tell():
    if "stopwatch.rounds" in sys.modules:
        facts = {"cores": sorted(os.sched_getaffinity(0)), "modules": sorted(sys.modules)}
        with open(os.environ["SPY"], "a") as file:
            print(json.dumps(facts), file=file)

atexit.register(tell)
"""


def test_the_process_that_measures_is_pinned_and_holds_neither_autokd_nor_torch(
    tmp_path, monkeypatch
):
    model = export(tmp_path, 16)
    StopwatchTarget(form=SHORT).measure(model)  # the reference is known after it
    (tmp_path / "spy").mkdir()
    (tmp_path / "spy" / "sitecustomize.py").write_text(SPY)
    path = [str(tmp_path / "spy"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.setenv("SPY", str(tmp_path / "seen"))
    StopwatchTarget(form=SHORT).measure(model)
    (line,) = (tmp_path / "seen").read_text().splitlines()
    seen = json.loads(line)
    assert seen["cores"] == choose_cores(1)
    rooms = {name.split(".")[0] for name in seen["modules"]}
    assert "onnxruntime" in rooms
    assert not rooms & {"autokd", "torch", "mlflow", "optuna"}


def test_a_network_behind_links_is_timed_in_a_python_that_trusts_no_folder(tmp_path, monkeypatch):
    model, beside = tmp_path / "links/model.onnx", "model.onnx_data"
    model.parent.mkdir()
    network = onnx.load(export(tmp_path, 512))
    for tensor in network.graph.initializer:
        onnx.external_data_helper.set_external_data(tensor, beside)
    (tmp_path / "blobs").mkdir()
    onnx.save(network, tmp_path / "blobs" / model.name)
    (tmp_path / "blobs" / beside).rename(tmp_path / "blobs/b")
    (tmp_path / "blobs" / model.name).rename(tmp_path / "blobs/a")
    model.symlink_to("../blobs/a")
    (model.parent / beside).symlink_to("../blobs/b")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    assert StopwatchTarget(form=SHORT).measure(model).median_ms > 0


def test_a_file_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    StopwatchTarget(form=SHORT).measure(export(tmp_path, 16))
    beside = SHORT.most_s + SHORT.patience_s  # that it may take longer
    monkeypatch.setattr(stopwatch_target, "_TIMEOUT_S", 0.01 - beside)
    with pytest.raises(MeasureError, match="within 0 s, got no result"):
        StopwatchTarget(form=SHORT).measure(export(tmp_path, 16))


def test_what_is_quiet_does_not_make_another_target():
    assert StopwatchTarget(quiet=Quiet()) == StopwatchTarget()
    assert str(StopwatchTarget(quiet=Quiet())) == str(StopwatchTarget())


def test_a_longer_form_is_another_target_for_the_cache():
    assert str(StopwatchTarget(form=SHORT)) != str(StopwatchTarget())
    assert str(StopwatchTarget(shape=(3, 32, 32))) != str(StopwatchTarget())
    assert str(StopwatchTarget(runtime="torch")) != str(StopwatchTarget())


def test_an_interval_that_stays_too_wide_is_said(tmp_path, caplog):
    form = Form(least_s=0.01, most_s=0.05, precision=1e-9)
    with caplog.at_level(logging.WARNING):
        latency = StopwatchTarget(form=form).measure(export(tmp_path, 16))
    assert latency.precision > 0
    assert "16.onnx is known to ±" in caplog.text
    assert "too noisy" in caplog.text


def test_the_reference_is_timed_once_on_a_device(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOKD_CACHE", str(tmp_path / "cache"))
    for _ in range(2):
        StopwatchTarget(form=SHORT).measure(export(tmp_path, 16))
        files = list((tmp_path / "cache/latency").glob("reference-*.json"))
        assert len(files) == 1
        files[0].write_text(files[0].read_text().replace('"ms": ', '"ms": 1'))
    doubted = StopwatchTarget(form=SHORT).measure(export(tmp_path, 16))
    assert doubted.drift < 0.5  # the kept time counts, however wrong it is here


def test_the_machine_being_faster_than_it_was_known_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(stopwatch_target, "recall_quiet_ms", lambda _, **_how: 1000.0)
    with caplog.at_level(logging.WARNING):
        StopwatchTarget(form=SHORT).measure(export(tmp_path, 16))
    assert "times as fast as when its reference was timed" in caplog.text


def test_which_of_two_is_faster_is_seen_in_one_process(tmp_path):
    small, large = export(tmp_path, 16), export(tmp_path, 4096)
    found = StopwatchTarget(form=SHORT).compare(small, large)
    assert found.ratio <= found.ratio_ci95[1] < 1
    assert StopwatchTarget(form=SHORT).compare(large, small).ratio_ci95[0] > 1


def test_several_processes_count_together(tmp_path):
    form = Form(least_s=0.02, most_s=0.1, precision=0.5, n_processes=2)
    models = [export(tmp_path, 16), export(tmp_path, 4096)]
    one, other = StopwatchTarget(form=form).measure_together(models)
    assert one.median_ms < other.median_ms  # although the second process has them reversed
    assert one.n_runs >= 2 * 3 * 8  # processes, runs of a block, the fewest rounds


def test_the_reference_outlives_the_cache_beside_a_study(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOKD_CACHE", str(tmp_path / "cache"))
    timed = []
    for _ in range(2):
        recall_quiet_ms(lambda: timed.append(1) or 1.5, home=tmp_path / "home")
        shutil.rmtree(tmp_path / "cache")
    assert recall_quiet_ms(lambda: 2.5, home=tmp_path / "home") == 1.5
    assert timed == [1]
    assert recall_quiet_ms(lambda: 2.5) == 1.5  # the cache knows it again


def test_ctrl_c_of_the_terminal_does_not_reach_the_stopwatch(tmp_path, monkeypatch):
    how = {}

    class Spy(subprocess.Popen):
        def __init__(self, *words, **options):
            how.update(options)
            super().__init__(*words, **options)

    monkeypatch.setattr(stopwatch_target.subprocess, "Popen", Spy)
    StopwatchTarget(form=SHORT).measure(export(tmp_path, 16))
    assert how["start_new_session"]


class Killing:
    """Kills the stopwatch that was about to start, as often as it was told to."""

    def __init__(self, n_times: int):
        self.n_times = n_times

    @contextmanager
    def __call__(self):
        if self.n_times:
            self.n_times -= 1
            (stopwatch,) = [
                child for child in psutil.Process().children() if "stopwatch" in child.cmdline()
            ]
            stopwatch.kill()
        yield


def test_a_stopwatch_that_was_killed_starts_again(tmp_path, caplog):
    model = export(tmp_path, 16)
    StopwatchTarget(form=SHORT).measure(model)  # the reference is known after it
    with caplog.at_level(logging.WARNING):
        assert StopwatchTarget(form=SHORT, quiet=Killing(1)).measure(model).median_ms > 0
    assert "killed, timing 16.onnx: it starts again" in caplog.text


def test_a_stopwatch_that_is_killed_again_is_given_up(tmp_path):
    model = export(tmp_path, 16)
    StopwatchTarget(form=SHORT).measure(model)
    with pytest.raises(MeasureError, match=r"must run 16\.onnx, got exit code -9"):
        StopwatchTarget(form=SHORT, quiet=Killing(2)).measure(model)


def test_tflite_times_no_float_network_in_place_of_an_int8_one(tmp_path, monkeypatch):
    monkeypatch.setattr(stopwatch_target, "recall_quiet_ms", lambda *_, **__: 1.0)
    pictures = torch.zeros(8, 1, 8, 8, dtype=torch.uint8)
    model = quantize_onnx(export(tmp_path, 16), tmp_path / "16.int8.onnx", pictures=pictures)
    target = StopwatchTarget(runtime="tflite", form=SHORT)
    with pytest.raises(MeasureError, match=r"must have 16\.int8\.tflite beside an INT8 file"):
        target.measure(model)
