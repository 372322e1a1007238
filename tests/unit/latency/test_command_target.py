import importlib.util
import os
import sys
import time

import onnx
import pytest

from autokd.errors import ConfigError, MeasureError, TargetError
from autokd.latency import (
    CommandTarget,
    StrictTarget,
    TargetOptions,
    compare_latencies,
    open_target,
)
from autokd.testing import FakeTarget


def command(tmp_path, code: str, *, words: str = "", **options) -> CommandTarget:
    program = tmp_path / "program.py"
    program.write_text(code)
    return CommandTarget(command=f"{sys.executable} {program} {{model}} {words}", **options)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "a model.onnx"
    path.write_bytes(b"\x08")
    return path


def test_the_times_of_a_program_become_a_latency(tmp_path, model):
    code = 'print("warming up"); print(\'{"times_ms": [3, 1, 2, 10], "device": "phone"}\')'
    latency = command(tmp_path, code, words="{batch}", batch=4).measure(model)
    assert latency.median_ms == 2.5
    assert latency.ci95_low_ms <= 2.5 <= latency.ci95_high_ms
    assert (latency.n_runs, latency.batch, latency.device) == (4, 4, "phone")
    assert latency.runtime == "command"
    code = 'print(\'{"median_ms": 1, "runtime": "onnxruntime 1.2"}\')'
    assert command(tmp_path, code).measure(model).runtime == "command onnxruntime 1.2"


def test_a_median_alone_is_enough(tmp_path, model):
    latency = command(tmp_path, "print('{\"median_ms\": 1.5}')").measure(model)
    assert (latency.median_ms, latency.ci95_low_ms, latency.ci95_high_ms) == (1.5, 1.5, 1.5)


def test_the_program_gets_the_path_in_one_piece(tmp_path, model):
    code = "import sys; assert len(sys.argv) == 2; open(sys.argv[1]); print('{\"median_ms\": 1}')"
    assert command(tmp_path, code).measure(model).median_ms == 1


def test_files_take_turns(tmp_path, model):
    code = f"open({str(tmp_path / 'log')!r}, 'a').write('x'); print('{{\"times_ms\": [1, 2]}}')"
    latencies = command(tmp_path, code, n_turns=2).measure_together([model, model])
    assert [one.n_runs for one in latencies] == [4, 4]
    assert (tmp_path / "log").read_text() == "xxxx"


def test_the_same_file_twice_is_not_told_apart_by_turns_that_differ(tmp_path, model):
    code = (
        "import pathlib; "
        f"log = pathlib.Path({str(tmp_path / 'log')!r}); log.touch(); n = len(log.read_text()); "
        "log.write_text('x' * (n + 1)); base = [10, 12, 11, 10.5, 10.2, 11.5][n]; "
        "print('{\"times_ms\": [%s]}' % ', '.join(str(base + k / 1000) for k in range(99)))"
    )
    target = command(tmp_path, code, n_turns=3)
    one, other = target.measure_together([model, model])
    assert one.ci95_low_ms < other.median_ms < one.ci95_high_ms
    assert other.ci95_low_ms < one.median_ms < other.ci95_high_ms
    assert one.precision > 0.05
    found = compare_latencies(one, other)
    assert not found.is_sure
    assert found.probability < 0.95


def test_turns_that_agree_tell_a_slower_file(tmp_path, model):
    code = (
        "import sys; slow = 'slow' in sys.argv[1]; "
        "print('{\"times_ms\": [%s]}' % ', '.join(str(1 + slow + k / 1000) for k in range(9)))"
    )
    slow = tmp_path / "slow.onnx"
    slow.write_bytes(b"")
    one, other = command(tmp_path, code, n_turns=3).measure_together([model, slow])
    found = compare_latencies(other, one)
    assert found.is_sure
    assert found.ratio == pytest.approx(2.004 / 1.004)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.exit('no such device')", "exit code 1: no such device"),
        (
            "import sys; sys.exit('\\x1b[31mERROR:\\x1b[0m no device\\n')",
            "exit code 1: ERROR: no device",
        ),
        ("print('1.5 ms')", r"must print .*, got 1\.5 ms"),
        ("print('{}')", "got {}"),
        ("print('{\"times_ms\": [1, -2]}')", "must print"),
        ('print(\'{"times_ms": "fast"}\')', "must print"),
        ("print('{\"median_ms\": NaN}')", "must print"),
        ("", "got nothing"),
    ],
)
def test_what_is_no_time_is_told_with_its_reason(tmp_path, model, code, reason):
    with pytest.raises(MeasureError, match=reason):
        command(tmp_path, code).measure(model)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda program: program.write_text("echo 1"), r"got Exec format error; .* begin with #!"),
        (lambda program: program.write_text("#!/no/such/shell"), "got No such file"),
        (lambda program: program.chmod(0o644), "got Permission denied"),
        (lambda program: program.unlink(), "got No such file"),
    ],
    ids=["no shebang", "no shell", "not executable", "gone"],
)
def test_a_program_that_does_not_start_any_more_is_told(tmp_path, model, spoil, reason):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    target = CommandTarget(command=f"{program} {{model}}")
    spoil(program)
    with pytest.raises(MeasureError, match=rf"program must start to time a model\.onnx, {reason}"):
        target.measure(model)


def test_a_program_that_hangs_is_killed_with_what_it_started(tmp_path, model):
    late = tmp_path / "late"
    child = f"import time; time.sleep(3); open({str(late)!r}, 'w')"
    code = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        "time.sleep(60)"
    )
    start = time.monotonic()
    with pytest.raises(MeasureError, match="within 1 s, got no result"):
        command(tmp_path, code, timeout_s=1.0).measure(model)
    assert time.monotonic() - start < 30
    time.sleep(3.5)
    assert not late.exists()


def test_what_a_program_leaves_running_is_not_waited_for(tmp_path, model):
    code = (
        "import subprocess; subprocess.Popen(['sleep', '60'], start_new_session=True); "
        "print('{\"median_ms\": 1}')"
    )
    assert command(tmp_path, code, timeout_s=30.0).measure(model).median_ms == 1


def test_any_length_of_time_may_be_waited(tmp_path, model):
    target = command(tmp_path, "print('{\"median_ms\": 1}')", timeout_s=1e9)
    assert target.measure(model).median_ms == 1


def test_a_program_sees_the_file_where_it_was_named(tmp_path, model):
    link = tmp_path / "link.onnx"
    link.symlink_to(model)
    code = f"import sys; assert sys.argv[1] == {str(link)!r}; print('{{\"median_ms\": 1}}')"
    assert command(tmp_path, code).measure(link).median_ms == 1


def test_three_failures_in_a_row_are_the_targets(tmp_path, model):
    target = StrictTarget(command(tmp_path, "import sys; sys.exit('unplugged')"))
    for _ in range(2):
        with pytest.raises(MeasureError, match="unplugged"):
            target.measure(model)
    with pytest.raises(TargetError, match=r"failed 3 times in a row, the last time: .*unplugged"):
        target.measure(model)


def test_a_success_between_failures_forgives_them(tmp_path, model):
    flag = tmp_path / "works"
    code = f"import os; print('{{\"median_ms\": 1}}') if os.path.exists({str(flag)!r}) else exit(1)"
    target = StrictTarget(command(tmp_path, code))
    for _ in range(2):
        for _ in range(2):
            with pytest.raises(MeasureError):
                target.measure(model)
        flag.touch()
        assert target.measure(model).median_ms == 1
        flag.unlink()


@pytest.mark.parametrize("is_sound", [True, False])
def test_what_cannot_run_the_candidates_but_another_network_is_not_given_up(model, is_sound):
    asked = []

    class Picky:
        """Lacks an operator that all candidates have."""

        needs_program = False

        def measure(self, file):
            asked.append(file.name)
            if file == model or not is_sound:
                raise MeasureError("it must run a model, got an operator that it lacks")
            names = [
                one.dim_param for one in onnx.load(file).graph.input[0].type.tensor_type.shape.dim
            ]
            assert names[0], "any batch fits"
            return FakeTarget().measure(file)

        def measure_together(self, files):
            return [self.measure(file) for file in files]

    target = StrictTarget(Picky())
    for _ in range(7 if is_sound else 2):
        with pytest.raises(MeasureError, match="an operator that it lacks"):
            target.measure(model)
    if not is_sound:
        with pytest.raises(TargetError, match="failed 3 times in a row"):
            target.measure(model)
    assert asked.count("probe.onnx") == (2 if is_sound else 1)


def test_a_target_that_takes_programs_is_not_tried(model):
    class Broken:
        needs_program = True

        def measure(self, file):
            raise MeasureError(file.name)

        def measure_together(self, files):
            raise MeasureError(files[0].name)

    target = StrictTarget(Broken())
    for error in (MeasureError, MeasureError, TargetError):
        with pytest.raises(error, match=r"a model\.onnx"):
            target.measure(model)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("command:true", r"must have the word \{model\}"),
        ("command:no-such-program {model}", "got no-such-program, which is not found"),
        ("command:'true {model}", "must be a command"),
        ("phone", "must be one of onnxruntime, .* or command:PROGRAM, got phone"),
        ("onnxruntime:cuda", "got onnxruntime:cuda; install onnxruntime-gpu"),
    ],
)
def test_a_target_that_cannot_be_is_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        open_target(name, TargetOptions())


def test_more_threads_than_cores_are_refused():
    n_cores = len(os.sched_getaffinity(0))
    with pytest.raises(
        ConfigError, match=rf"^`--latency-threads` .* at most {n_cores}, .* got 99$"
    ):
        open_target("onnxruntime", TargetOptions(threads=99))
    assert open_target("onnxruntime", TargetOptions(threads=n_cores))
    assert open_target("onnxruntime", TargetOptions(threads=99, is_elsewhere=True))


def test_tflite_needs_what_converts_to_it(monkeypatch):
    def find(module):
        return None if module == "tensorflow" else module

    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(
        ConfigError, match="got tflite; install ai-edge-litert, onnx2tf and tensorf"
    ):
        open_target("tflite", TargetOptions())


@pytest.mark.parametrize("name", ["batch", "threads"])
def test_what_a_program_is_not_told_is_not_reported(tmp_path, name):
    with pytest.raises(ConfigError, match=rf"must have the word {{{name}}} to be asked for 8"):
        command(tmp_path, "", **{name: 8})


def test_many_times_need_little_memory(tmp_path, model):
    code = "import json; print(json.dumps({'times_ms': [1.0, 2.0, 3.0] * 100_000}))"
    assert command(tmp_path, code).measure(model).n_runs == 300_000
