"""Devices behind programs of the user's, several at once, and tables, from the command line."""

import csv
import json
import sys

import pytest

from autokd.spaces import build_space

TINY = ["--train-limit", "300", "--epochs", "1", "--refit-epochs", "1", "--seeds", "2"]
BOARD = """
import json, os, sys
size = os.path.getsize(sys.argv[1])
print(json.dumps({"times_ms": [1e6 / size] * 3, "device": "board"}))
"""
FRAGILE = """
import json, os, sys
with open("calls", "a") as calls:
    calls.write("x")
if os.path.getsize("calls") > 1 and not os.path.exists("mended"):
    sys.exit("unplugged")
print(json.dumps({"median_ms": os.path.getsize(sys.argv[1]) / 1e6}))
"""


def write_board(folder, code):
    (folder / "board.py").write_text(code)
    return f"command:{sys.executable} board.py {{model}}"


@pytest.mark.slow
def test_a_student_of_another_devices_front_is_shown_and_exported(run, invoke, tmp_path):
    board = write_board(tmp_path, BOARD)  # the larger, the faster
    code, out, err = run(
        tmp_path, "search", "--study", "two", "--budget", 4, "--target", "onnxruntime",
        "--target", board, "--json", *TINY,
    )  # fmt: skip
    assert code == 0, err
    here = json.loads(out)
    code, out = invoke("front", "--target", board, "--json")
    assert code == 0, out
    there = json.loads(out)
    assert (there["study"], there["n_trials"]) == ("two", 4)
    assert there["teacher"]["latency_ms"] != here["teacher"]["latency_ms"]
    (fastest, *_) = there["front"]
    assert fastest["latency_ms"] == pytest.approx(1e6 / fastest["size_bytes"])
    code, out, err = run(
        tmp_path, "export", "--target", board, "--pick", "fastest", "--out", "there", "--json"
    )
    assert code == 0, err
    figures = json.loads(out)
    size_bytes = (tmp_path / "there/model.onnx").stat().st_size
    assert figures["latency_ms"] == pytest.approx(1e6 / size_bytes)
    card = json.loads((tmp_path / "there/card.json").read_text())
    assert (card["target"], card["searched_on"]) == (board, "board")
    assert (card["trial"], card["searched_latency_ms"]) == (fastest["trial"], fastest["latency_ms"])
    assert set(card["missing"]) == {"importance"}, "of so few trials"
    names = {path.name for path in (tmp_path / "there").iterdir()}
    assert {"front.png", "curves.png", "coordinates.png"} <= names
    assert "@fastest-on-command-" in err
    for command in ("front", "export", "explain"):
        code, output = invoke(command, "--target", "phone")
        assert code == 2
        assert f"must be one of the study's (onnxruntime, {board}), got phone" in output


@pytest.mark.slow
def test_a_board_that_fails_three_times_stops_the_search_which_goes_on_when_it_is_back(
    run, tmp_path
):
    words = ["search", "--study", "s", "--target", write_board(tmp_path, FRAGILE), *TINY]
    code, out, err = run(tmp_path, *words, "--budget", 4, "--json")
    assert code == 1, err
    (line,) = [one for one in err.splitlines() if "3 times in a row" in one]
    assert "unplugged" in line
    assert "Traceback" not in err
    (tmp_path / "mended").touch()
    code, out, err = run(tmp_path, *words, "--budget", 4, "--json")
    assert code == 0, err
    values = json.loads(out)
    assert values["n_trials"] == 4
    assert values["n_failed"] in (1, 2), "what failed before is a failed trial"
    assert values["front"]


@pytest.mark.slow
def test_latencies_may_come_from_a_table(run, tmp_path):
    space = build_space("mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10)
    labels = sorted(space.architecture_of(space.complete({})))
    times = {width: float(width) for width in (8, 16, 24, 32)}
    with (tmp_path / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*labels, "ms"], restval="")
        writer.writeheader()
        writer.writerows({"width_1": width, "ms": ms} for width, ms in times.items())
    words = ["search", "--study", "s", "--latency-table", "table.csv", "--budget", 4, *TINY]
    code, _, err = run(tmp_path, *words)
    assert code == 1, "the teacher has no row"
    key = err.split("got the network ")[1].split(";")[0]
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    rows = [{**row, "network": ""} for row in rows] + [{"network": key, "ms": 1000.0}]
    with (tmp_path / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*labels, "network", "ms"], restval="")
        writer.writeheader()
        writer.writerows(rows)
    code, out, err = run(tmp_path, *words, "--json")
    assert code == 0, err
    values = json.loads(out)
    assert values["teacher"]["latency_ms"] == 1000.0
    for student in values["front"]:
        assert student["latency_ms"] == times[student["architecture"]["width_1"]]
