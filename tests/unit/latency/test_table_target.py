import json

import pytest
import torch
from torch import nn

from autokd.errors import ConfigError, MeasureError
from autokd.exporters import export_onnx, quantize_onnx
from autokd.exporters.onnx_file import annotate_onnx
from autokd.latency import ARCHITECTURE_SUFFIX, load_table, network_key
from autokd.testing import FakeTarget


@pytest.fixture
def model(tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    return export_onnx(network, tmp_path / "m.onnx", shape=(1, 8, 8))


def table(tmp_path, text: str, *, name: str = "phone.csv", target=None):
    path = tmp_path / name
    path.write_text(text)
    return load_table(path, target=target)


def test_a_network_is_found_by_its_hash(tmp_path, model):
    key = network_key(model)
    for name, text in (
        ("a.csv", f"network,ms\nother,1\n{key},2.5\n"),
        ("b.json", json.dumps({"other": 1, key: 2.5})),
        ("c.json", json.dumps([{"network": key, "latency_ms": 2.5}])),
    ):
        latency = table(tmp_path, text, name=name).measure(model)
        assert (latency.median_ms, latency.device) == (2.5, name)


def test_a_student_is_found_by_its_architecture(tmp_path, model):
    model.with_suffix(ARCHITECTURE_SUFFIX).write_text(
        json.dumps({"width": 16, "kind": "mb", "se": True})
    )
    rows = "width,kind,se,ms\n8,mb,True,1\n16.0,mb,,2.5\n"
    assert table(tmp_path, rows).measure(model).median_ms == 2.5  # an open label fits any value
    rows = f"{rows}16,,,4\n16,mb,TRUE,3\n16,mb,false,2\n"
    assert table(tmp_path, rows).measure(model).median_ms == 3  # unless it is there itself


def test_a_row_with_other_labels_fits_nothing(tmp_path, model):
    model.with_suffix(ARCHITECTURE_SUFFIX).write_text(json.dumps({"width": 16, "depth": 2}))
    with pytest.raises(MeasureError, match=f"m.onnx must be in the table .*{network_key(model)}"):
        table(tmp_path, "width,ms\n16,1\n").measure(model)


def test_two_latencies_of_one_network_are_refused(tmp_path):
    table(tmp_path, "width,ms\n16,1\n16.0,1\n8,2\n")
    with pytest.raises(ConfigError, match=r"got 1 ms in row 1 and 2 in row 3 of .*phone.csv; keep"):
        table(tmp_path, "width,ms\n16,1\n8,2\n16.0,2\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("width,depth,ms,notes\n16,2,1,slow\n", "got phone.csv with 'notes';"),
        ("network,width,depth,ms,std\nab,,,1,\n,16,2,1,0.1\n", "got phone.csv with 'std';"),
        ("width,ms\n16,1\n", "got phone.csv without 'depth';"),
        ("width,Depth,ms\n16,2,1\n", "got phone.csv with 'Depth' and without 'depth';"),
    ],
)
def test_columns_that_no_student_has_are_refused_by_name(tmp_path, text, said):
    with pytest.raises(ConfigError, match=r"^`--latency-table` must .* \(depth, width\)") as caught:
        table(tmp_path, text).check_labels({"width": 0, "depth": 0})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "width,depth,ms\n16,,1\n",
        "network,ms,notes\nab,1,a teacher\n",
        "network,width,depth,ms\nab,,,1\n,16,2,1\n",
    ],
)
def test_columns_that_students_have_are_left_alone(tmp_path, text):
    table(tmp_path, text).check_labels({"width": 0, "depth": 0})


def test_a_table_may_hold_several_spaces_and_a_student_without_labels(tmp_path):
    rows = [{"width": 1, "ms": 1}, {"depth": 1, "ms": 1}, {"network": "ab", "ms": 1}]
    both = table(tmp_path, json.dumps(rows), name="both.json")
    for labels in (["width"], ["depth"], []):
        both.check_labels(labels)
    with pytest.raises(ConfigError, match="must have the network of each row, got w"):
        table(tmp_path, "width,ms\n1,1\n", name="w.csv").check_labels([])


def test_what_the_table_does_not_hold_is_measured_on_its_device(tmp_path, model):
    other = export_onnx(nn.Flatten(), tmp_path / "other.onnx", shape=(1, 8, 8))
    inner = FakeTarget()
    target = table(tmp_path, f"network,ms\n{network_key(model)},2.5\n", target=inner)
    known, measured = target.measure_together([model, other])
    assert known.median_ms == 2.5
    assert inner.measured == ["other.onnx"]
    assert measured.device == "fake"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("network,time\na,1\n", "must have a column ms in row 1"),
        ("network,ms\na,fast\n", "must have a number of milliseconds in row 1 of .*, got fast"),
        ("network,ms\na,1\nb,-1\n", "must have a positive latency in row 2"),
        ("network,ms\n,1\n", "must have a network or an architecture"),
        ("", "which is empty"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        table(tmp_path, text)


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="must be a CSV or JSON file"):
        load_table(tmp_path / "nix.csv")
    with pytest.raises(ConfigError, match="must be a CSV or JSON file"):
        table(tmp_path, "[1]", name="x.json")


def test_a_row_may_hold_its_architecture_as_an_object(tmp_path, model):
    model.with_suffix(ARCHITECTURE_SUFFIX).write_text(json.dumps({"width": 16}))
    rows = json.dumps([{"architecture": {"width": 16}, "latency_ms": 2.5}])
    assert table(tmp_path, rows, name="a.json").measure(model).median_ms == 2.5


def test_a_table_that_a_spreadsheet_has_written_is_read(tmp_path, model):
    text = f"\ufeffnetwork,ms\n{network_key(model)},2.5\n"
    assert table(tmp_path, text).measure(model).median_ms == 2.5


def test_the_row_of_an_architecture_is_not_that_of_its_int8_file(tmp_path, model):
    int8 = tmp_path / "m.int8.onnx"
    quantize_onnx(model, int8, pictures=torch.zeros(8, 1, 8, 8, dtype=torch.uint8))
    for file in (model, int8):
        card = json.dumps({"architecture": {"width": 16}})
        annotate_onnx(file, file, metadata={"autokd": card})
    inner = FakeTarget()
    target = table(tmp_path, "width,ms\n16,2.5\n", target=inner)
    assert target.measure_together([model, int8])[0].median_ms == 2.5
    assert inner.measured == ["m.int8.onnx"]


@pytest.mark.parametrize("text", ["", "[1]", '{"width": 16}'])
def test_a_json_file_beside_a_teacher_is_no_architecture(tmp_path, model, text):
    model.with_suffix(".json").write_text(text)  # a labels file, a training log, whatever it is
    with pytest.raises(MeasureError, match=r"m\.onnx must be in the table"):
        table(tmp_path, "width,ms\n16,2.5\n").measure(model)


@pytest.mark.parametrize("text", ["", "[1]"])
def test_an_architecture_that_is_none_is_one_line(tmp_path, model, text):
    model.with_suffix(ARCHITECTURE_SUFFIX).write_text(text)
    with pytest.raises(MeasureError, match=r"architecture\.json must hold an .*, got") as error:
        table(tmp_path, "width,ms\n16,2.5\n").measure(model)
    assert len(str(error.value).splitlines()) == 1
