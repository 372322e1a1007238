import dataclasses
import json
import subprocess
import sys

import onnx
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from autokd.errors import ConfigError, ExportError
from autokd.exporters import (
    OnnxNetwork,
    check_folder,
    check_onnx,
    export_bundle,
    export_onnx,
    has_openvino,
)
from autokd.exporters.card import _figures, _headline
from autokd.testing import FakeTarget
from tests.unit.exporters.one_student import CARD, make_student, make_test


def bundle_of(student, out):
    return export_bundle(
        student, out, data=CARD, test=make_test(), target=FakeTarget(), card={"study": "s"}
    )


@pytest.mark.parametrize(
    ("is_twin", "words"), [(True, "without the teacher"), (False, "distilled")]
)
def test_the_card_says_how_the_student_was_taught(tmp_path, is_twin, words):
    card = {"study": "s", "is_twin": is_twin}
    export_bundle(
        make_student(), tmp_path, data=CARD, test=make_test(), target=FakeTarget(), card=card
    )
    headline = (tmp_path / "card.md").read_text().split("\n\n")[1]
    assert words in headline


@pytest.mark.parametrize("there", ["", "fake", "board", "fake x2 [01234567]"])
def test_the_card_says_where_the_latency_of_the_table_comes_from(tmp_path, there):
    card = {"study": "s", "searched_on": there, "searched_latency_ms": 1.25}
    target = Told(changes={"device": "fake x2 [0123456789]"} if "[" in there else {})
    bundle = export_bundle(
        make_student(), tmp_path, data=CARD, test=make_test(), target=target, card=card
    )
    assert ("elsewhere" in bundle.card) == (there == "board")
    line = "study's latency of 1.25 ms is that of board, the one measured now that of fake"
    assert (line in bundle.card.get("elsewhere", "")) == (there == "board")
    assert (line in (tmp_path / "card.md").read_text()) == (there == "board")


class Counting(nn.Module):
    """Flattens by the number of pictures that it was first asked about, or forgets all but one."""

    def __init__(self, *, is_forgetful):
        super().__init__()
        self.inner, self.is_forgetful = nn.Linear(64, 3), is_forgetful

    def forward(self, pictures):
        flat = pictures.reshape(int(pictures.shape[0]), -1)
        if self.is_forgetful and len(pictures) > 1:
            flat = flat[:1].expand(len(pictures), -1)
        return self.inner(flat)


@pytest.mark.parametrize(
    ("is_forgetful", "said"),
    [
        (False, r"must take any number of pictures, got onnxruntime must run n.onnx with a batch"),
        (True, r"must take any number of pictures, got "),
    ],
)
def test_a_file_for_one_picture_alone_is_told_before_anything_is_trained(
    tmp_path, is_forgetful, said
):
    network, shape = Counting(is_forgetful=is_forgetful), (1, 8, 8)
    export_onnx(network, tmp_path / "n.onnx", shape=shape)
    with pytest.raises(ExportError, match=said):
        check_onnx(network, tmp_path / "n.onnx", shape=shape)


def test_a_file_that_answers_otherwise_is_told(tmp_path):
    network, other = (nn.Sequential(nn.Flatten(), nn.Linear(64, 3)) for _ in range(2))
    path = export_onnx(network, tmp_path / "n.onnx", shape=(1, 8, 8))
    check_onnx(network, path, shape=(1, 8, 8))
    with pytest.raises(ExportError, match="other logits for two; in its code"):
        check_onnx(other, path, shape=(1, 8, 8))


@dataclasses.dataclass
class Told(FakeTarget):
    """Says what timed the network."""

    changes: dict = dataclasses.field(default_factory=dict)

    def measure(self, model):
        return dataclasses.replace(super().measure(model), **self.changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"runtime": "onnxruntime 1.2 CPU"},
            "undisturbed time of one forward pass out of 100 runs, batch 1, 1 threads, "
            "onnxruntime 1.2 CPU on fake",
        ),
        (
            {"runtime": "command ncnn 3", "device": "phone"},
            "median of 100 times that the program told, batch 1, 1 threads, "
            "command ncnn 3 on phone",
        ),
        ({"runtime": "table", "device": "phone.csv", "n_runs": 0}, "from the table phone.csv"),
    ],
)
def test_the_card_says_what_its_latency_is(tmp_path, changes, said):
    target = Told(changes=changes)
    bundle = export_bundle(
        make_student(), tmp_path, data=CARD, test=make_test(), target=target, card={"study": "s"}
    )
    assert bundle.card["protocol"] == said
    text = (tmp_path / "card.md").read_text()
    assert f"| latency of one forward pass | {bundle.latency_ms:.4f} ms |" in text
    assert f"| how it was measured | {said} |" in text


@pytest.mark.parametrize(("precision", "is_noisy"), [(0.01, True), (0.25, False), (None, False)])
def test_the_card_says_how_well_its_latency_is_known(tmp_path, precision, is_noisy):
    changes = {"median_ms": 2.0, "ci95_low_ms": 1.75, "ci95_high_ms": 2.25}
    card = {"study": "s", "searched_latency_ms": 1.5, "searched_speed_up": 4.0}
    bundle = export_bundle(
        make_student(), tmp_path, data=CARD, test=make_test(), target=Told(changes=changes),
        card=card, precision=precision,
    )  # fmt: skip
    assert (bundle.card["latency_ci95_ms"], bundle.card["is_noisy"]) == ([1.75, 2.25], is_noisy)
    text = (tmp_path / "card.md").read_text()
    row = f"1.7500 to 2.2500 ms{'; the machine was too noisy' if is_noisy else ''}"
    assert f"| 95 % interval of the latency | {row} |" in text
    assert "| latency in the study | 1.5000 ms |" in text
    assert "| faster than the teacher, in the study | 4.0 x |" in text


def test_every_file_is_there_and_does_what_the_student_does(tmp_path):
    student = make_student()
    bundle = bundle_of(student, tmp_path / "out")
    names = {path.name for path in bundle.files}
    more = {"model.xml", "model.bin"} if has_openvino() else set()
    assert names == {
        "model.onnx", "model.pt2", "model.safetensors", "card.md", "card.json", "run.py",
        "requirements.txt", *more,
    }  # fmt: skip
    assert set(tmp_path.joinpath("out").iterdir()) == set(bundle.files)
    images = make_test().images
    ours = student(images.float() / 255)
    assert torch.allclose(OnnxNetwork(tmp_path / "out/model.onnx").predict(images), ours, atol=1e-4)
    program = torch.export.load(tmp_path / "out/model.pt2").module()
    assert torch.allclose(program(images.float() / 255), ours, atol=1e-4)
    weights = load_file(tmp_path / "out/model.safetensors")
    assert set(weights) == set(student.state_dict())


def test_the_card_tells_the_figures_and_how_to_run(tmp_path):
    bundle = bundle_of(make_student(), tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["classes"] == ["a", "b", "c"]
    assert card["input"]["shape"] == ["batch", 1, 8, 8]
    assert card["test_accuracy"] == bundle.test_accuracy
    text = (tmp_path / "card.md").read_text()
    assert "onnxruntime.InferenceSession" in text
    assert f"{bundle.onnx_test_accuracy:.2%}" in text
    metadata = {p.key: p.value for p in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert json.loads(metadata["classes"]) == ["a", "b", "c"]


def test_the_program_of_the_card_runs(tmp_path, monkeypatch, capsys):
    from PIL import Image

    bundle_of(make_student(), tmp_path)
    Image.new("RGB", (20, 30), "white").save(tmp_path / "picture.png")
    program = (tmp_path / "card.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    assert capsys.readouterr().out.strip() in {"0", "1", "2"}


def test_the_program_beside_the_student_says_what_the_student_says(tmp_path):
    from PIL import Image

    student = make_student()
    bundle_of(student, tmp_path)
    pixels = make_test().images[3]
    Image.fromarray(pixels[0].numpy()).save(tmp_path / "picture.png")
    blocked = "import sys; sys.modules.update(torch=None, autokd=None); sys.argv[1:] = "
    run = f"import runpy; runpy.run_path({str(tmp_path / 'run.py')!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", f"{blocked}[{str(tmp_path / 'picture.png')!r}]; {run}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    odds = student(pixels[None].float() / 255).detach().softmax(1)[0]
    name, share = done.stdout.split()
    assert name == "abc"[int(odds.argmax())]
    assert float(share) == pytest.approx(float(odds.max()), abs=2e-4)


def test_a_student_that_openvino_cannot_take_goes_without_its_files(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise ExportError("no such operator")

    monkeypatch.setattr("autokd.exporters.bundle.has_openvino", lambda: True)
    monkeypatch.setattr("autokd.exporters.bundle.export_openvino", refuse)
    bundle = bundle_of(make_student(), tmp_path)
    assert bundle.card["left_out"] == {"model.xml": "no such operator"}
    assert "model.xml is left out: no such operator" in caplog.text
    assert (tmp_path / "model.onnx").exists()


def test_openvino_files_of_an_earlier_student_do_not_stay(tmp_path, monkeypatch):
    monkeypatch.setattr("autokd.exporters.bundle.has_openvino", lambda: False)
    (tmp_path / "model.xml").write_text("of another student")
    bundle_of(make_student(), tmp_path)
    assert not (tmp_path / "model.xml").exists()


def test_finding_out_whether_a_folder_can_be_written_makes_none(tmp_path):
    check_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(ConfigError, match="`--out` must be a folder to write to"):
            check_folder(out)


def test_a_file_that_differs_is_an_error_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(
        OnnxNetwork,
        "predict",
        lambda self, images: torch.eye(3)[torch.zeros(len(images)).long()],  # noqa: ARG005
    )
    with pytest.raises(ExportError, match=r"model\.onnx must agree"):
        bundle_of(make_student(), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_network_without_counterpart_in_onnx_is_an_export_error(tmp_path):
    class Odd(nn.Module):
        def forward(self, views):
            return torch.linalg.svdvals(views.flatten(1))[None, :3]

    with pytest.raises(ExportError, match="ONNX"):
        export_onnx(Odd(), tmp_path / "m.onnx", shape=(1, 8, 8))


def test_rubbish_is_refused_by_the_runtime(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"rubbish")
    with pytest.raises(ExportError, match=r"m\.onnx"):
        OnnxNetwork(tmp_path / "m.onnx")


def test_a_folder_that_cannot_be_written_is_the_users_fault(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ConfigError, match="--out"):
        bundle_of(make_student(), tmp_path / "out")


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_batch_of_the_onnx_file_is_free(tmp_path, batch):
    model = export_onnx(make_student(), tmp_path / "m.onnx", shape=(1, 8, 8))
    assert OnnxNetwork(model).predict(make_test(batch).images).shape == (batch, 3)


def test_pictures_of_a_study_stay_no_longer_than_its_student(tmp_path):
    names = ("front.png", "curves.png", "coordinates.png", "importance.png")
    extras = [tmp_path / name for name in names]
    for file in extras:
        file.write_bytes(b"drawn")
    pictures = {name.removesuffix(".png"): name for name in names}
    export_bundle(
        make_student(), tmp_path / "out", data=CARD, test=make_test(), target=FakeTarget(),
        card={"study": "s", "pictures": pictures, "target": "openvino"}, extras=extras,
    )  # fmt: skip
    text = (tmp_path / "out/card.md").read_text()
    assert all(f"]({name})" in text and (tmp_path / "out" / name).exists() for name in names)
    assert "![the trials of the study through all their dimensions" in text
    assert "![share of each dimension in the variance" in text
    assert "| latency of one forward pass, on `openvino` |" in text
    bundle_of(make_student(), tmp_path / "out")
    assert not any((tmp_path / "out" / name).exists() for name in names)
    assert "openvino`" not in (tmp_path / "out/card.md").read_text()


def test_a_student_that_uses_a_block_twice_is_exported(tmp_path):
    torch.manual_seed(0)
    block = nn.Conv2d(1, 1, 3, padding=1)
    student = nn.Sequential(block, nn.ReLU(), block, nn.Flatten(), nn.Linear(64, 3))
    bundle_of(student, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert torch.equal(weights["0.weight"], weights["2.weight"])
    student.load_state_dict(weights)


def test_a_student_that_torch_export_cannot_take_goes_without_its_program(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise ExportError("control flow")

    monkeypatch.setattr("autokd.exporters.bundle.has_openvino", lambda: False)
    (tmp_path / "model.pt2").touch()  # of an earlier student
    monkeypatch.setattr("autokd.exporters.bundle.export_program", refuse)
    bundle = bundle_of(make_student(), tmp_path)
    assert bundle.card["left_out"] == {"model.pt2": "control flow"}
    assert "`model.pt2` is left out: control flow." in (tmp_path / "card.md").read_text()
    assert not (tmp_path / "model.pt2").exists()
    monkeypatch.setattr(FakeTarget, "needs_program", True)
    with pytest.raises(ExportError, match="control flow"):
        bundle_of(make_student(), tmp_path)


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({}, "A student searched, distilled and measured by autokd."),
        ({"is_searched": False}, "A student distilled and measured by autokd."),
        (
            {"is_searched": False, "is_distilled": False},
            "A student trained without its teacher and measured by autokd.",
        ),
    ],
)
def test_the_card_says_how_the_student_came_to_be(facts, line):
    assert _headline(facts) == line


@pytest.mark.parametrize(
    ("facts", "row"),
    [
        ({}, "gain by distillation"),
        ({"is_twin": True, "is_distilled": False}, "gain by distillation, of the other one"),
        ({"is_distilled": False}, None),
    ],
)
def test_the_card_says_whose_gain_it_tells(facts, row):
    figures = ("test_accuracy", "onnx_test_accuracy", "top1_agreement", "latency_ms", "kd_gain")
    rows = _figures(dict.fromkeys(figures, 0.5) | facts)
    assert [name for name in rows if name.startswith("gain")] == ([row] if row else [])
