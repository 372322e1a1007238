"""What all benchmarks have in common."""

import ast
import gzip
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
PROGRAMS = sorted(path for path in FOLDER.glob("*.py") if '"--json"' in path.read_text())
HEAD = "architecture,short,full,n_params,ms\n"
ROWS = (
    "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|,50,60,1000,0.5\n"
    "|none~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|,40,50,900,2.0\n"
    "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|,30,40,800,1.5\n"
)
COLUMNS = {"accuracy": "full", "low_accuracy": "short", "latency": "ms", "min_latency_ms": 0.0}
NOISY = """
import os, sys
from output import print_figures, reserve_stdout
out = reserve_stdout()
print("a library")
os.write(1, b"in C\\n")
os.system("echo a program")
child = os.fork()
if not child:
    sys.stdout = sys.__stdout__
    print("a trainer", flush=True)
    os._exit(0)
os.waitpid(child, 0)
print_figures({"figure": 1.5}, as_json=True, out=out)
print("at the end")
"""


@pytest.fixture
def table(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("trained_table")


def calls_of(path: Path) -> list[tuple[str, set[str | None]]]:
    """Names of what is called in a file, and of the keywords that are given."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [
        (node.func.id, {keyword.arg for keyword in node.keywords})
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]


def test_stdout_holds_the_one_object_whatever_else_is_printed():
    environment = {**os.environ, "PYTHONPATH": str(FOLDER)}
    command = [sys.executable, "-c", NOISY]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == '{"figure": 1.5}\n'
    for noise in ("a library", "in C", "a program", "a trainer", "at the end"):
        assert noise in done.stderr


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_nothing_but_the_figures_goes_to_stdout(path):
    wanted = {"print": "file", "Console": "stderr", "Progress": "console"}
    for name, keywords in calls_of(path):
        assert name not in wanted or wanted[name] in keywords, f"{name}() in {path.name}"


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_benchmark_reserves_stdout_and_has_a_quick_form(path):
    assert {"reserve_stdout", "print_figures"} <= {name for name, _ in calls_of(path)}
    assert '"--quick"' in path.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_benchmark_says_what_it_is(path):
    command = [sys.executable, path, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--json" in done.stdout
    assert "--quick" in done.stdout


def test_steps_are_lines_on_stderr_where_there_is_no_terminal():
    code = (
        "from output import Steps\n"
        "with Steps('rounds', total=2) as steps:\n    steps.tick()\n    steps.tick()"
    )
    environment = {**os.environ, "PYTHONPATH": str(FOLDER)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout == ""
    assert done.stderr.splitlines() == ["rounds: 2 steps", "rounds: 2/2, 0 s left"]


def test_a_table_is_read_gzipped_and_plain(table, tmp_path):
    plain, zipped = tmp_path / "plain.csv", tmp_path / "zipped"
    plain.write_text(HEAD + ROWS)
    zipped.write_bytes(gzip.compress((HEAD + ROWS).encode()))
    ours, theirs = (table.load_table(path, **COLUMNS) for path in (plain, zipped))
    assert ours.cells.tolist() == theirs.cells.tolist()
    assert ours.latencies.tolist() == theirs.latencies.tolist() == [0.5, 2.0, 1.5]
    assert ours.accuracies.tolist() == [0.6, 0.5, 0.4]


def test_networks_under_the_least_latency_are_left_out(table, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(HEAD + ROWS)
    found = table.load_table(path, **{**COLUMNS, "min_latency_ms": 1.0})
    assert found.latencies.tolist() == [2.0, 1.5]


@pytest.mark.parametrize(
    ("content", "options", "told"),
    [
        (None, {}, "`--table` must be a CSV file"),
        (HEAD + ROWS, {"latency": "raspi"}, "raspi, got"),
        (HEAD + ROWS, {"latency": "raspi"}, "architecture, short, full, n_params, ms"),
        (HEAD + ROWS, {"min_latency_ms": 3.0}, "`--latency ms` must have"),
        (HEAD + "|none~0|,1,2,3,4\n", {}, "line 2"),
        (HEAD + ROWS.replace("1.5", "fast"), {}, "line 4"),
        (HEAD + ROWS.replace(",1.5", ""), {}, "line 4"),
        (gzip.compress((HEAD + ROWS).encode())[:-20], {}, "`--table` must be a CSV file"),
        ("", {}, "with none"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_line(table, tmp_path, content, options, told):
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SystemExit) as end:
        table.load_table(path, **{**COLUMNS, **options})
    assert told in str(end.value)
    assert len(str(end.value).splitlines()) == 1


def test_a_latency_column_may_have_a_least_value(table):
    assert table.split_latency("ms:1") == ("ms", 1.0)
    assert table.split_latency("ms") == ("ms", 0.0)
    with pytest.raises(SystemExit, match="COLUMN:MIN_MS"):
        table.split_latency("ms:one")


def test_json_is_for_programs_and_for_people(monkeypatch, capsys):
    monkeypatch.syspath_prepend(FOLDER)
    output = importlib.import_module("output")
    for as_json, n_lines in ((True, 1), (False, 3)):
        output.print_figures({"a": None}, as_json=as_json, out=sys.stdout)
        text = capsys.readouterr().out
        assert json.loads(text) == {"a": None}
        assert len(text.splitlines()) == n_lines
