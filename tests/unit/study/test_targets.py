"""What a study measures on, and what it remembers of that."""

import dataclasses

import pytest

from autokd.config import Config, TowerConfig
from autokd.errors import ConfigError, MeasureError, StudyError, TargetError
from autokd.latency import (
    COMPARING,
    FINAL,
    SCREENING,
    CommandTarget,
    StopwatchTarget,
    device_fingerprint,
    load_table,
)
from autokd.latency.reference import write_reference
from autokd.study import runtimes
from autokd.study.ray_cluster import LatencyNode, RayCluster
from autokd.study.runtimes import hold_to_runtimes, name_runtimes
from autokd.study.targets import build_others, build_target, check_precision
from autokd.study.tower_times import open_tower_target
from autokd.testing import FakeTarget

NODE = LatencyNode(
    device="board", runtimes=(("onnxruntime", "9", "board"), ("torch", "8", "board")), weight_bits=8
)


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (Config(), ["onnxruntime"]),
        (Config(target=("torch", "command:true {model}", "onnxruntime")), ["torch", "onnxruntime"]),
        (Config(latency_table="t.csv"), []),
        (Config(latency_table="t.csv", target=("onnxruntime",)), ["onnxruntime"]),
    ],
)
def test_what_times_networks_that_no_table_tells_is_known_by_version_and_device(config, names):
    found = name_runtimes(config, cluster=None)
    assert list(found) == names
    for version, device in found.values():
        assert version
        assert device == device_fingerprint()
    cluster = RayCluster(ray=None, trial={}, node=NODE)
    away = name_runtimes(config, cluster=cluster)
    assert list(away) == names
    assert set(away.values()) <= {("9", "board"), ("8", "board")}


def test_runtimes_are_those_of_the_nodes_that_measure_wherever_the_study_is(tmp_path, monkeypatch):
    monkeypatch.setattr("autokd.latency.runtimes.find_missing", lambda _: "it")
    with pytest.raises(ConfigError, match="that is installed, got openvino; install it"):
        build_target(Config(target=("openvino",)), form=SCREENING, cluster=None)
    runtimes = (("onnxruntime", "9", "board"), ("openvino", "7", "board"), ("tflite", "", "board"))
    cluster = RayCluster(ray=None, trial={}, node=dataclasses.replace(NODE, runtimes=runtimes))
    config = Config(runs_dir=tmp_path, target=("onnxruntime", "openvino"))
    target = build_target(config, form=SCREENING, cluster=cluster, name="openvino")
    assert not target.needs_program
    assert set(build_others(config, cluster=cluster)) == {"openvino"}
    for name, reason in (("tflite", "nodes with .* latency_device have, got tflite; install it th"),
                         ("phone", "one of onnxruntime, .*, got phone")):  # fmt: skip
        with pytest.raises(ConfigError, match=f"^`--target` must be .*{reason}"):
            build_target(Config(target=(name,)), form=SCREENING, cluster=cluster)


@pytest.mark.parametrize(
    ("name", "form", "n_measured"),
    [
        ("onnxruntime", SCREENING, 2),
        ("onnxruntime", FINAL, 2),
        ("onnxruntime", COMPARING, 1),  # the table of a finished study stays as it is
        ("command:true {model}", SCREENING, 2),  # once a session to learn which board it is
    ],
)
def test_a_noisy_latency_is_doubted_in_the_next_session(
    tmp_path, monkeypatch, name, form, n_measured
):
    measured = []

    def measure(_, models):
        measured.append(models)
        latency = FakeTarget().measure(models[0])
        return [dataclasses.replace(latency, ci95_high_ms=2 * latency.median_ms)]

    for kind in (StopwatchTarget, CommandTarget):
        monkeypatch.setattr(kind, "measure_together", measure)
    model = write_reference(tmp_path / "model.onnx")
    for _ in range(2):
        target = build_target(Config(runs_dir=tmp_path, target=(name,)), form=form, cluster=None)
        assert target.measure(model) == target.measure(model)
    assert len(measured) == n_measured


def test_a_study_stays_with_the_runtimes_that_measure(tmp_path, caplog, monkeypatch):
    def hold(version="1.2", device="board", names=("onnxruntime",)):
        monkeypatch.setattr(runtimes, "runtime_version", lambda _: version)
        monkeypatch.setattr(runtimes, "describe_device", lambda _: device)
        hold_to_runtimes(tmp_path, Config(latency_table="t.csv", target=names), cluster=None)

    hold(names=())
    hold()
    hold(names=("onnxruntime", "openvino"))
    assert not caplog.text
    hold("1.3")
    assert "earlier sessions are of onnxruntime 1.2, those measured now of 1.3" in caplog.text
    for name in ("onnxruntime", "openvino"):
        with pytest.raises(StudyError, match=r"must go on with .* of board, got this; .*--l"):
            hold(device="this", names=(name,))


def test_a_runtime_that_times_nothing_is_given_up_like_a_command(tmp_path, monkeypatch):
    def fail(_, models):
        raise MeasureError(f"{models[0].name} must be timed, got unplugged")

    monkeypatch.setattr(StopwatchTarget, "measure_together", fail)
    model = write_reference(tmp_path / "model.onnx")
    config = Config(runs_dir=tmp_path, target=("onnxruntime", "openvino"))
    first = build_target(config, form=SCREENING, cluster=None)
    for target in (first, *build_others(config, cluster=None).values()):
        for error in (MeasureError, MeasureError, TargetError):
            with pytest.raises(error, match=r"model\.onnx must be timed, got unplugged"):
                target.measure(model)


def test_a_target_of_towers_keeps_its_quiet_time_beside_the_studies(tmp_path):
    target = open_tower_target(TowerConfig(runs_dir=tmp_path), form=SCREENING)
    assert isinstance(target, StopwatchTarget)
    assert target.home == tmp_path / "latency"


@pytest.mark.parametrize("names", [("tflite",), ("torch",), ("torch:compiled", "onnxruntime")])
def test_int8_is_refused_on_what_would_time_something_else(names):
    config, target = Config(precision="int8", target=names), StopwatchTarget(runtime=names[0])
    with pytest.raises(ConfigError, match=r"^`--precision` must be fp32 on .*, got int8; pass"):
        check_precision(config, precisions={"fp32", "int8"}, target=target)
    check_precision(config, precisions={"fp32"}, target=target)


@pytest.mark.parametrize(
    ("text", "target", "is_refused"),
    [
        ('[{"width": 8, "ms": 1}]', None, True),
        ('[{"width": 8, "ms": 1}]', StopwatchTarget(), False),
        ('[{"width": 8, "ms": 1}, {"network": "abc", "ms": 2}]', None, False),
    ],
)
def test_int8_is_refused_on_a_table_that_knows_no_file(tmp_path, text, target, is_refused):
    (tmp_path / "t.json").write_text(text)
    table, config = load_table(tmp_path / "t.json", target=target), Config(precision="both")
    if is_refused:
        with pytest.raises(ConfigError, match=r"fp32 on a table of archi.*, got both; pass"):
            check_precision(config, precisions={"fp32", "int8"}, target=table)
    else:
        check_precision(config, precisions={"fp32", "int8"}, target=table)


@pytest.mark.parametrize("names", [(), ("openvino",), ("onnxruntime", "tflite")])
def test_int8_is_timed_on_what_runs_the_file(names):
    target = StopwatchTarget(runtime=(*names, "onnxruntime")[0])
    check_precision(Config(target=names), precisions={"int8"}, target=target)
