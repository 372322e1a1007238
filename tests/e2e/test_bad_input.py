"""Every wrong input a user can give: one clear line, exit code 2, nothing half-written."""

import socket

import numpy as np
import pytest
import torch
from PIL import Image

from autokd.config import Config
from autokd.data import load_data
from autokd.exporters import export_onnx


def write_pictures(folder, counts, *, n_bad=0):
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            shade = np.full((8, 8), i % 256, np.uint8)
            Image.fromarray(shade).save(folder / name / f"{i}.png")
        for i in range(n_bad):
            (folder / name / f"bad{i}.png").write_bytes(b"rubbish")


def make_empty(folder):
    (folder / "none").mkdir()


def make_single(folder):
    write_pictures(folder / "one", {"a": 30, "b": 1})


def make_unreadable(folder):
    write_pictures(folder / "bad", {"a": 30, "b": 30}, n_bad=3)


def make_npz(folder):
    np.savez(folder / "d.npz", x_train=np.zeros((40, 8, 8), np.uint8), y_train=np.arange(40) % 2)
    whole = (folder / "d.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(folder / "flat.npz", x=np.zeros((40, 64), np.uint8))
    np.savez(folder / "other.npz", pixels=np.zeros((40, 8, 8), np.uint8))


def make_files(folder):
    (folder / "broken.py").write_text("raise RuntimeError('my bug')")
    (folder / "typo.yaml").write_text("temprature: 4\n")
    (folder / "empty.yaml").write_text("temperature: {_type: choice, _value: []}\n")
    (folder / "conf.yaml").write_text("budgt: 4\n")
    (folder / "thousand.py").write_text(
        "import torch\ndef teacher(): return torch.nn.Sequential(torch.nn.Flatten(),"
        " torch.nn.Linear(64, 1000))\n"
        "def ignorant():\n"
        "    m = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"
        "    torch.nn.init.zeros_(m[1].weight); torch.nn.init.zeros_(m[1].bias); return m\n"
    )
    (folder / "assisted.yaml").write_text("taught_by: both\n")


def make_teachers(folder):
    data = load_data(Config(train_limit=300))
    pixels = data.train_images.flatten(1).float() / 255
    means = torch.stack([pixels[data.train_labels == label].mean(0) for label in range(10)])
    torch.save(means, folder / "means.pt")
    (folder / "templates.py").write_text(
        "import torch\ndef teacher():\n"
        "    means = torch.load('means.pt')\n"
        "    m = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1, bias=False), torch.nn.Flatten(),"
        " torch.nn.Linear(64, 10))\n"
        "    torch.nn.init.ones_(m[0].weight)\n"
        "    m[2].weight.data.copy_(means); m[2].bias.data.copy_(-0.5 * (means ** 2).sum(1))\n"
        "    return m\n"
    )
    head = torch.nn.Linear(64, 10)
    head.weight.data.copy_(means)
    head.bias.data.copy_(-0.5 * (means**2).sum(1))
    flat = torch.nn.Sequential(torch.nn.Flatten(), head)
    export_onnx(flat, folder / "teacher.onnx", shape=(1, 8, 8))


def make_table(folder):
    (folder / "phone.csv").write_text("width,depth,ms,notes\n16,2,1.5,slow\n")


HINT = ("--loss", "soft_targets+hint", "--train-limit", "300")
CASES = [
    (["search", "--latency-table", "phone.csv"], "got phone.csv with 'depth', 'notes'", make_table),
    (["search", "--data", "digts"], "--data", None),
    (["search", "--data", "folder:none"], "none", make_empty),
    (["search", "--data", "folder:nowhere"], "nowhere", None),
    (["search", "--data", "folder:one"], "b", make_single),
    (["search", "--data", "folder:bad"], "bad0.png", make_unreadable),
    (["search", "--data", "npz:cut.npz"], "cut.npz", make_npz),
    (["search", "--data", "npz:nowhere.npz"], "nowhere.npz", None),
    (["search", "--unlabelled", "nowhere"], "`--unlabelled nowhere` must be a folder", None),
    (["search", "--unlabelled", "none"], "`--unlabelled none` must hold pictures", make_empty),
    (
        ["search", "--unlabelled", "bad"],
        "`--unlabelled bad` must hold less than 1 %",
        make_unreadable,
    ),
    (["search", "--unlabelled", "d.npz"], "did you mean `npz:d.npz`", make_npz),
    (["search", "--unlabelled", "npz:cut.npz"], "`--unlabelled npz:cut.npz` must be", make_npz),
    (["search", "--unlabelled", "npz:flat.npz"], "`x` must be NHW or NHWC", make_npz),
    (["search", "--unlabelled", "npz:other.npz"], "must hold `x` or `x_train`", make_npz),
    (
        ["worker", "--study", "s", "--storage", "sqlite:///nowhere/jobs.db"],
        "`--storage` must be a database that can be reached from here",
        None,
    ),
    (["search", "--unlabelled-limit", "0"], "`--unlabelled-limit` must be", None),
    (["search", "--unlabelled-limit", "9"], "must go with `--unlabelled`, got 9", None),
    (["search", "--cpus-per-trial", "2"], "must go with `--ray`, got 2.0", None),
    (
        ["search", "--latency-table", "conf.yaml", "--latency-batch", "8"],
        "`--latency-batch` must go with a `--target` that measures, got 8",
        make_files,
    ),
    (
        ["search", *HINT, "--teacher", "file:teacher.onnx"],
        "`--loss hint` needs the features of one teacher made of modules, got file:teacher.onnx",
        make_teachers,
    ),
    (
        ["search", *HINT, "--teacher", "python:templates:teacher", "--teacher-tap", "cnv"],
        "`--teacher-tap` must name a module of the network, got cnv",
        make_teachers,
    ),
    (
        ["search", *HINT, "--teacher", "python:templates:teacher", "--student-tap", "stm"],
        "`--student-tap` must name a module of the network, got stm; did you mean stem",
        make_teachers,
    ),
    (
        ["search", "--recipe", "features", "--teacher-tap", "stem"],
        "`--teacher-tap` must not be given with --loss crd",
        None,
    ),
    (
        ["distill", "--student", "mobile", "--loss", "dkd+fsp", "--student-tap", "stem"],
        "`--student-tap` must be given 2 times",
        None,
    ),
    (["search", "--student-tap", "stem"], "`--student-tap` must go with a loss on", None),
    (
        ["distill", "--student", "mobile", "--loss", "dkd", "--teacher-tap", "stem"],
        "`--teacher-tap` must go with a loss on features, got stem",
        None,
    ),
    (
        ["search", "--precision", "int8", "--target", "torch"],
        "`--precision` must be fp32 on a target that torch runs, got int8",
        None,
    ),
    (
        ["search", "--teacher", "python:thousand:teacher"],
        "1000 classes, the data has 10",
        make_files,
    ),
    (["search", "--teacher", "python:thousand:ignorant"], "majority class", make_files),
    (["search", "--teacher", "timm:resnet1"], "resnet1", None),
    (
        ["search", "--teacher", "python:thousand:teacher", "--teacher", "auto"],
        "`--teacher python:thousand:teacher` predicts 1000 classes, the data has 10",
        make_files,
    ),
    (["search", "--teacher", "auto", "--teacher", "auto"], "name each teacher once", None),
    (["search", "--teacher-vote", "max"], "`--teacher-vote` must be 'mean'", None),
    (["search", "--assistant", "atuo"], "`--assistant` must be auto, timm:NAME", None),
    (
        ["search", "--assistant", "auto", "--fix", "taught_by=both", "--train-limit", "200"],
        "`--fix taught_by` must be teacher where `--assistant auto` makes none, got both",
        None,
    ),
    (["search", "--recipe", "assisted.yaml"], "where there is no assistant, got both", make_files),
    (["search", "--teacher", "file:none.onnx"], "none.onnx", None),
    (["search", "--space", "broken.py:build"], "my bug", make_files),
    (["search", "--space", "mobil"], "must be one of", None),
    (["search", "--recipe", "typo.yaml"], "did you mean `temperature`", make_files),
    (["search", "--recipe", "empty.yaml"], "a choice in it", make_files),
    (["search", "--budget", "0"], "`--budget` must be", None),
    (["search", "--budget", "many"], "`--budget` must be", None),
    (["search", "--sampler", "grid"], "`--sampler` must be", None),
    (["search", "--fix", "temprature=4"], "did you mean", None),
    (["search", "--loss", "dkdd"], "did you mean `dkd`", None),
    (["search", "--loss", "dkd+dist"], "exactly one loss on logits", None),
    (["search", "--fix", "temperature"], "LABEL=VALUE", None),
    (["search", "--device", "cuda"], "--device", None),
    (["search", "--storage", "mysterious://x"], "--storage", None),
    (["search", "conf.yaml"], "did you mean `budget`", make_files),
    (["search", "--bugdet", "4"], "--bugdet", None),
    (["distill"], "`--student` must say what is trained", None),
    (["distill", "--student", ""], "`--student` must", None),
    (["distill", "--student", "mobil:depth=2"], "`--student` must be one of", None),
    (["distill", "--student", "mobile:dpeth=2"], "did you mean `depth`", None),
    (["distill", "--student", "mobile:depth=9"], "`depth_1` must be one of [2, 1, 3]", None),
    (["distill", "--student", "mobile:depth"], "`--student` must be one of", None),
    (["distill", "--student", "mobile:depth="], "SPACE:key=value,...", None),
    (["distill", "--student", "timm:resnt18"], "did you mean resnet18", None),
    (["distill", "--student", "timm:vgg11"], "must take pictures of 1x8x8", None),
    (["distill", "--student", "python:none.py:build"], "`--student` must be an existing", None),
    (["distill", "--student", "python:broken.py:build"], "my bug", make_files),
    (["distill", "--student", "python:thousand.py:build"], "it has: ", make_files),
    (["distill", "--student", "python:thousand.py:teacher"], "(2, 1000) instead", make_files),
    (["distill", "--student", "mobile", "--alpha", "2"], "see `autokd distill --help`", None),
    (["distill", "--student", "mobile", "--temperature", "0"], "`--temperature` must be", None),
    (["distill", "--student", "mobile", "--lr", "-1"], "`--learning-rate` must be", None),
    (["distill", "--student", "mobile", "--out", "conf.yaml"], "--out", make_files),
    (["distill", "--student", "mobile", "--budget", "4"], "--budget", None),
    (["distill", "--student", "mobile", "conf.yaml"], "did you mean `budget`", make_files),
    (["search", "--student", "mobile"], "--student", None),
    (["export", "--all", "--pick", "knee"], "`--pick` must not stand beside `--all`", None),
    (["front"], "run `autokd search` first", None),
    (["export", "--study", "none"], "run `autokd search` first", None),
    (["export", "--max-latency-ms", "-1"], "--max-latency-ms", None),
    (["ui"], "run `autokd search` first", None),
    (["measure", f"{'a' * 300}.onnx"], ".onnx must be a path that may be used, got ", None),
    (["ui", "--port", "70000"], "1<=x<=65535; see `autokd ui --help`", None),
    (["spaces", "show", "none"], "none", None),
    (["spaces", "show", "mobile", "--shape", "3,32"], "C,H,W", None),
    (["spaces", "copy", "none", "."], "none", None),
]


@pytest.mark.parametrize(
    ("words", "message", "make"), CASES, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_a_wrong_input_is_one_line_and_exit_code_2(words, message, make, invoke, tmp_path):
    if make is not None:
        make(tmp_path)
    if "--device" in words and torch.cuda.is_available():
        pytest.skip("there is a CUDA device, so nothing is wrong")
    code, output = invoke(*words)
    assert code == 2, output
    assert message in output
    assert "Traceback" not in output
    assert not list(tmp_path.glob("mlruns/studies/*/settings.json"))


def test_a_port_in_use_is_told_before_anything_starts(invoke, searched, monkeypatch):
    folder, _, _ = searched
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.chdir(folder)
        code, output = invoke("ui", "--no-browser", "--port", port)
    assert code == 2
    assert f"got {port}" in output


def test_a_study_with_other_settings_is_refused_and_keeps_its_own(invoke, searched, monkeypatch):
    folder, _, _ = searched
    monkeypatch.chdir(folder)
    before = (folder / "mlruns/studies/tiny/settings.json").read_bytes()
    code, output = invoke("search", "--study", "tiny", "--seed", "5", "--train-limit", "300")
    assert code == 2
    assert "was made with" in output
    assert (folder / "mlruns/studies/tiny/settings.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pick", "99"], "must be a trial on the front"),
        (["--pick", "best"], "got best"),
        (["--max-latency-ms", "0.0000001"], "the fastest takes"),
        (["--study", "other"], "must be one of tiny, got other"),
    ],
)
def test_an_export_that_cannot_be_is_refused(options, message, invoke, searched, monkeypatch):
    folder, _, _ = searched
    monkeypatch.chdir(folder)
    code, output = invoke("export", "--out", "nothing", *options)
    assert code == 2
    assert message in output
    assert not (folder / "nothing").exists()


def test_a_limit_that_nothing_meets_ends_early_and_says_what_would(invoke):
    code, output = invoke(
        "search", "--budget", 40, "--max-latency-ms", 0.0001, "--train-limit", 300
    )
    assert code == 2
    assert "`--max-latency-ms` must be met by a student, got 0.0001; the fastest of 10" in output
    assert "Traceback" not in output
