import json

import onnx
import pytest
from click.testing import CliRunner
from torch import nn

from autokd.cli import cli
from autokd.errors import ConfigError
from autokd.exporters import export_onnx, export_program
from autokd.study import compare, measure


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache of the session's own, so that the reference is timed once."""
    monkeypatch.setenv("AUTOKD_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def export(tmp_path, n: int, *, name: str = ""):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, n), nn.ReLU(), nn.Linear(n, 10))
    return export_onnx(network, tmp_path / f"{name or n}.onnx", shape=(1, 8, 8))


def says(tmp_path, text: str) -> str:
    """A target that says the same of each file."""
    (tmp_path / "answer.json").write_text(text)
    return f"command:env MODEL={{model}} cat {tmp_path / 'answer.json'}"


def run(*words: object):
    return CliRunner().invoke(cli, ["measure", *map(str, words)])


def test_any_network_has_a_latency(tmp_path):
    latency = measure(export(tmp_path, 16), batch=3, seconds=0.1)
    assert latency.ci95_low_ms <= latency.median_ms <= latency.ci95_high_ms
    assert latency.batch == 3


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--seconds", "inf", "inf is not in the range"),
        ("--seconds", "nan", "nan is no number of seconds"),
        ("--latency-timeout", "1e7", "10000000.0 is not in the range"),
    ],
)
def test_a_time_without_end_is_refused(tmp_path, option, value, said):
    ended = run(tmp_path / "m.onnx", option, value)
    assert ended.exit_code == 2
    assert said in ended.output


def test_what_was_measured_before_a_target_fails_is_told(tmp_path):
    good = says(tmp_path, '{"median_ms": 2}')
    words = ("--target", good, "--target", "command:false {model}", "--json")
    ended = run(export(tmp_path, 16), *words)
    assert ended.exit_code != 0
    (told,) = json.loads(ended.stdout)["targets"]
    assert (told["target"], told["latencies"][0]["median_ms"]) == (good, 2)


def test_files_of_one_name_are_told_by_their_paths(tmp_path):
    for name in ("8", "16"):
        (tmp_path / name).mkdir()
    models = [export(tmp_path / str(n), n, name="model") for n in (8, 16)]
    program = tmp_path / "length"
    program.write_text('#!/bin/sh\necho "{\\"median_ms\\": $(wc -c < "$1")}"\n')
    program.chmod(0o755)
    ended = run(*models, "--compare", "--target", f"command:{program} {{model}}")
    assert ended.exit_code == 0, ended.output
    assert f"{models[0]} is " in ended.output
    assert f" times as fast as {models[1]} (" in ended.output


def test_the_scale_is_that_of_the_studies_where_there_are_any(tmp_path):
    model, runs = export(tmp_path, 16), tmp_path / "runs"
    measure(model, seconds=0.05, runs_dir=runs)
    assert not runs.exists(), "nothing is made where there is no study"
    runs.mkdir()
    words = ("--seconds", 0.05, "--runs-dir", runs, "--json")
    before = json.loads(run(model, *words).stdout)["targets"][0]["latencies"][0]
    (kept,) = (runs / "latency").glob("reference-*.json")
    values = json.loads(kept.read_text())
    kept.write_text(json.dumps({**values, "ms": 100 * values["ms"]}))
    after = json.loads(run(model, *words).stdout)["targets"][0]["latencies"][0]
    assert after["median_ms"] > 10 * before["median_ms"]


def test_the_faster_of_two_is_named_with_its_odds(tmp_path):
    small, large = export(tmp_path, 16), export(tmp_path, 4096)
    found = compare(large, small, seconds=0.2)
    assert found.ratio_ci95[0] <= found.ratio <= found.ratio_ci95[1]
    assert found.ratio > 1
    assert found.probability > 0.9


def test_two_copies_of_a_network_cannot_be_told_apart(tmp_path):
    one, other = export(tmp_path, 64, name="one"), export(tmp_path, 64, name="other")
    found = compare(one, other, target=says(tmp_path, '{"median_ms": 2}'))
    assert (found.ratio, found.probability) == (1.0, 0.5)
    assert not found.is_sure


@pytest.mark.parametrize("suffix", ["onnx", "json", "pbtxt", "onnxtxt"])
def test_what_is_no_network_is_refused(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    path.write_text('{"no": "network"}')
    for model in (path, tmp_path / "nix.onnx"):
        with pytest.raises(ConfigError, match=r"`MODEL` must be an ONNX file, got .*\.\w+"):
            measure(model)


def test_a_network_without_weights_is_refused(tmp_path):
    one = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    network = onnx.load(export_onnx(one, tmp_path / "x.onnx", shape=(1, 8, 8)))
    onnx.save(network, tmp_path / "y.onnx", save_as_external_data=True, size_threshold=0,
              location="y.data")  # fmt: skip
    assert measure(tmp_path / "y.onnx", seconds=0.05).median_ms > 0
    (tmp_path / "y.data").unlink()
    with pytest.raises(ConfigError, match=r"y\.onnx must have its weights beside it, got"):
        measure(tmp_path / "y.onnx")


def open_sides(model, names):
    network = onnx.load(model)
    for side, name in zip(
        network.graph.input[0].type.tensor_type.shape.dim[1:], names, strict=True
    ):
        if name:
            side.dim_param = name
    onnx.save(network, model)


def test_a_shape_that_nothing_would_be_filled_with_is_refused(tmp_path):
    model = export(tmp_path, 16)
    target = says(tmp_path, '{"median_ms": 2}')
    assert measure(model, shape=(1, 8, 8), seconds=0.05).median_ms > 0
    for shape in ((3, 224), (3, 224, 224)):
        with pytest.raises(ConfigError, match=r"must be left out .* got 3,224.*takes 1,8,8"):
            measure(model, shape=shape, target=target)


def test_a_shape_must_fit_the_sides_that_a_network_has(tmp_path):
    model = export(tmp_path, 16)
    open_sides(model, (None, "height", "width"))
    assert measure(model, shape=(1, 8, 8), seconds=0.05).median_ms > 0
    for shape in ((8, 8), (3, 8, 8)):
        with pytest.raises(ConfigError, match=r"must fit the sides that .* has, 1,\?,\?, got"):
            measure(model, shape=shape)


def test_a_folder_is_called_one_and_nothing_is_said_twice(tmp_path):
    with pytest.raises(ConfigError, match="a folder"):
        measure(tmp_path)
    (tmp_path / "x.onnx").write_text("no network")
    with pytest.raises(ConfigError) as caught:
        measure(tmp_path / "x.onnx")
    assert str(caught.value).count("must be an ONNX file") == 1


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"")
    with pytest.raises(ConfigError, match="without a network"):
        measure(tmp_path / "x.onnx")


def test_what_is_missing_of_several_targets_is_told_first(tmp_path):
    model, asked = export(tmp_path, 16), tmp_path / "asked"
    first = f"command:touch {asked} {{model}}"
    failed = run(model, "--target", first, "--target", "phone")
    assert "phone" in str(failed.exception)
    assert not asked.exists()


def test_a_machine_that_does_not_tell_which_cores_has_all(tmp_path, monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity")  # as on macOS
    with pytest.raises(ConfigError, match="`--latency-threads`"):
        measure(export(tmp_path, 16), threads=10_000)


def test_a_cache_that_cannot_be_made_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("AUTOKD_CACHE", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="AUTOKD_CACHE must be a folder that can be written to"):
        measure(export(tmp_path, 16), seconds=0.05)


def test_the_command_prints_one_object(tmp_path):
    models = export(tmp_path, 16), export(tmp_path, 4096)
    printed = run("--compare", *models, "--seconds", 0.2, "--json")
    (values,) = json.loads(printed.stdout)["targets"]
    assert values["faster"] == str(models[0])
    assert [one["model"] for one in values["latencies"]] == list(map(str, models))
    assert all(one["precision"] > 0 and len(one["network"]) == 64 for one in values["latencies"])


def test_the_command_says_it_in_words(tmp_path):
    model = export(tmp_path, 16)
    command = says(tmp_path, '{"times_ms": [1, 2, 3]}')
    printed = run(model, "--target", command)
    assert printed.stdout.startswith("16.onnx  2 ms ± ")
    again = run("--compare", model, model, "--target", command)
    assert "cannot be told apart" in again.stdout


@pytest.mark.parametrize(("times", "is_noisy"), [([1, 1, 3], True), ([2, 2, 2], False)])
def test_the_command_says_where_the_machine_is_too_noisy(tmp_path, times, is_noisy):
    model = export(tmp_path, 16)
    command = says(tmp_path, json.dumps({"times_ms": times}))
    (target,) = json.loads(run(model, "--target", command, "--json").stdout)["targets"]
    assert target["latencies"][0]["is_noisy"] is is_noisy
    printed = run(model, "--target", command).stdout
    assert printed.rstrip().endswith("; the machine is too noisy") == is_noisy


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--compare", "a.onnx"), "`--compare` must have two models, got 1"),
        (("a.onnx", "--shape", "3,x"), "`--shape` must be C,H,W"),
        (("a.onnx", "--target", "phone"), "`MODEL` must be an ONNX file, got a.onnx"),
    ],
)
def test_a_wrong_request_is_a_line(words, message):
    failed = run(*words)
    assert isinstance(failed.exception, ConfigError)
    assert message in str(failed.exception)


@pytest.mark.slow
def test_torch_times_the_program_beside_the_file(tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model = export_onnx(network, tmp_path / "m.onnx", shape=(1, 8, 8))
    export_program(network, tmp_path / "m.pt2", shape=(1, 8, 8))
    latency = measure(model, target="torch", batch=2, seconds=0.1)
    assert latency.runtime.startswith("torch")
    assert latency.median_ms > 0
