"""What an exported student is called."""

import importlib.metadata
import json
import os
import re
import shutil
from dataclasses import replace
from functools import partial

import pytest

from autokd.candidate import build_student, save_student
from autokd.config import Config
from autokd.data import load_data
from autokd.errors import ConfigError, ExportError, StudyError
from autokd.study.alumni import choose_graduate
from autokd.study.appraisal import Appraisal, Appraiser
from autokd.study.delivery import build_alias, export, export_all, names_of
from autokd.study.explaining import explain
from autokd.study.folder import StudyFolder
from autokd.study.joint_space import build_joint_space
from autokd.study.progress import SearchProgress
from autokd.testing import FakeTarget
from autokd.types import Front, FrontStudent, Recipe, TeacherCard


def front_student(trial, accuracy, latency_ms):
    return FrontStudent(
        trial=trial, val_accuracy=accuracy, latency_ms=latency_ms, speed_up=1.0, n_params=1,
        latency_ci95_ms=(latency_ms, latency_ms), macs=1, size_bytes=1, architecture={},
        recipe=Recipe(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pick", "limit", "alias"),
    [
        (None, None, "knee"),
        ("fastest", None, "fastest"),
        ("7", None, "trial-7"),
        (None, 2.0, "under-2ms"),
        (None, 0.5, "under-500us"),
        (None, 1.1, "under-1100us"),
        (None, 0.0105, "under-10500ns"),
        (None, 0.1 / 3, "under-33333ns"),
        ("fastest", 2.0, "fastest-under-2ms"),
        ("7", 2.0, "trial-7"),
    ],
)
def test_an_alias_says_what_was_asked_for(pick, limit, alias):
    assert build_alias(pick, max_latency_ms=limit) == alias
    assert re.fullmatch(r"[a-z0-9-]+", alias), "as MLflow allows it"


def test_each_student_of_a_front_has_the_names_that_it_earns():
    front = [front_student(3, 0.8, 1.0), front_student(1, 0.9, 1.2), front_student(2, 0.92, 5.0)]
    assert [names_of(one, front) for one in front] == [["fastest"], ["knee"], ["most-accurate"]]
    assert names_of(front[0], front[:1]) == ["fastest", "knee", "most-accurate"]


# ---------------------------------------------------------------------- several targets

BOARD = "command:./Time_on_board.sh {model}"


@pytest.fixture
def studied(tmp_path, monkeypatch):
    """A study: trial 0 is on the front of the first target alone, trial 1 on that of a board."""
    monkeypatch.setenv("AUTOKD_CACHE", str(tmp_path / "cache"))
    config = Config(
        study="s", train_limit=200, device="cpu", target=("onnxruntime", BOARD),
        runs_dir=tmp_path / "mlruns",
    )  # fmt: skip
    folder = StudyFolder(config.study_dir)
    folder.path.mkdir(parents=True)
    data = load_data(config)
    space = build_joint_space(config, data.card, has_assistant=False)
    folder.keep_settings(config, dimensions=space.dimensions, digests={})
    teacher = TeacherCard(name="auto", digest="d", n_params=1, val_accuracy=0.9, latency_ms=1.0)
    for trial, target, device in ((0, "", "here"), (1, BOARD, "board")):
        sample = space.complete({"width_1": (8, 16)[trial]})
        student, recipe = build_student(space, sample, data=data.card, seed=0)
        save_student(student, folder.weights / f"trial-{trial}.safetensors")
        row = replace(
            front_student(trial, 0.8, 0.25 + trial), recipe=recipe,
            architecture=space.architecture_of(sample),
            weights=f"weights/trial-{trial}.safetensors",
        )  # fmt: skip
        front = Front(
            study="s", n_trials=2, n_failed=0, n_pruned=0, n_stopped=0, wall_s=1.0, training_s=1.0,
            hypervolume=0.1, teacher=teacher, baseline=None, students=(row,),
        )  # fmt: skip
        folder.save_front(front, target=target)
        folder.hold_to_device(device, target=target)
    return folder, config


@pytest.fixture
def handed_over(monkeypatch):
    """Aliases that a student was registered by; a target of its own for each name."""
    aliases = []
    monkeypatch.setattr("autokd.exporters.bundle.has_openvino", lambda: False)
    monkeypatch.setattr(
        "autokd.study.delivery.register_bundle",
        lambda *_, **options: aliases.extend(options["aliases"]),
    )
    monkeypatch.setattr(
        "autokd.study.delivery.build_target",
        lambda *_, name, **__: FakeTarget(ms_per_mib={"": 1.0, BOARD: 7.0}[name]),
    )
    return aliases


def test_a_student_of_another_targets_front_is_exported_with_its_latency(
    studied, handed_over, tmp_path
):
    _, config = studied
    bundle = export("s", out=tmp_path / "out", target=BOARD, runs_dir=config.runs_dir)
    latency_ms = FakeTarget(ms_per_mib=7.0).measure(tmp_path / "out/model.onnx").median_ms
    assert bundle.latency_ms == latency_ms
    card = bundle.card
    assert (card["trial"], card["target"], card["searched_latency_ms"]) == (1, BOARD, 1.25)
    assert card["searched_on"] == "board"
    assert card["made_again"]["export"] == (f"autokd export --study s --pick 1 --target '{BOARD}'")
    text = (tmp_path / "out/card.md").read_text()
    assert f"| latency of one forward pass, on `{BOARD}` | {latency_ms:.4f} ms |" in text
    assert "](front.png)" in text, "drawn of that front"
    (alias,) = handed_over
    assert re.fullmatch(r"knee-on-command-time-on-board-sh-model-[0-9a-f]{8}", alias)


def test_a_student_of_another_targets_front_is_exported_without_its_database(
    studied, handed_over, monkeypatch, tmp_path
):
    def refuse(url, **_):
        raise ConfigError(f"`--storage` must be an Optuna storage, got {url}: gone")

    monkeypatch.setattr("autokd.study.figures.open_storage", refuse)
    _, config = studied
    bundle = export("s", out=tmp_path / "out", target=BOARD, runs_dir=config.runs_dir)
    text = (tmp_path / "out/card.md").read_text()
    assert "](front.png)" not in text
    assert "could not be drawn" in text
    assert bundle.card["trial"] == 1
    assert len(handed_over) == 1


@pytest.fixture
def unseen(monkeypatch):
    """Nobody looks at the students."""
    monkeypatch.setattr(
        "autokd.study.delivery.Appraiser.appraise", lambda *_, **__: Appraisal(facts={}, files=())
    )
    monkeypatch.setattr("autokd.study.delivery.draw_study", lambda *_, **__: ())


@pytest.mark.usefixtures("unseen")
def test_the_front_of_another_target_is_exported_whole(studied, handed_over, tmp_path):
    _, config = studied
    (bundle,) = export_all("s", out=tmp_path / "all", target=BOARD, runs_dir=config.runs_dir)
    assert bundle.card["trial"] == 1
    assert all("-on-command-" in alias for alias in handed_over)
    (row,) = json.loads((tmp_path / "all/index.json").read_text())
    assert (row["folder"], row["latency_ms"]) == ("trial-1", bundle.latency_ms)


@pytest.mark.usefixtures("unseen")
def test_the_first_target_may_be_named_and_changes_nothing(studied, handed_over, tmp_path):
    _, config = studied
    options = {"runs_dir": config.runs_dir, "pick": "0"}
    bundle = export("s", out=tmp_path / "out", target="onnxruntime", **options)
    assert "target" not in bundle.card
    assert bundle.card["searched_on"] == "here"
    assert handed_over == ["trial-0"]


@pytest.mark.usefixtures("unseen", "handed_over")
def test_times_of_the_study_and_those_of_the_files_are_not_mixed(studied, tmp_path):
    _, config = studied
    bundle = export("s", out=tmp_path / "out", runs_dir=config.runs_dir)
    latency = FakeTarget().measure(tmp_path / "out/model.onnx")
    card = json.loads((tmp_path / "out/card.json").read_text())
    assert card["latency_ms"] == bundle.latency_ms == latency.median_ms != 0.25
    assert card["latency_ci95_ms"] == [latency.ci95_low_ms, latency.ci95_high_ms]
    assert "speed_up" not in card
    names = ("latency_ms", "latency_ci95_ms", "speed_up")
    assert [card[f"searched_{name}"] for name in names] == [0.25, [0.25, 0.25], 1.0]
    assert card["made_with"]["autokd"] == importlib.metadata.version("autokd")


@pytest.mark.usefixtures("unseen")
def test_the_best_under_a_limit_has_its_name_in_a_whole_front_too(studied, handed_over, tmp_path):
    _, config = studied
    options = {"out": tmp_path / "all", "runs_dir": config.runs_dir}
    export_all("s", max_latency_ms=2.0, **options)
    assert handed_over == ["trial-0", "fastest", "knee", "most-accurate", "under-2ms"]
    (row,) = json.loads((tmp_path / "all/index.json").read_text())
    assert "under-2ms" in row["aliases"]
    handed_over.clear()
    export_all("s", **options)
    assert handed_over == ["trial-0", "fastest", "knee", "most-accurate"]


@pytest.mark.usefixtures("unseen", "handed_over")
def test_a_student_that_cannot_be_exported_takes_no_other_with_it(studied, tmp_path, capsys):
    folder, config = studied
    front = folder.load_front()
    (first,) = front.students
    gone = replace(first, trial=7, latency_ms=0.125, weights="weights/trial-7.safetensors")
    folder.save_front(replace(front, students=(gone, first)))
    old = tmp_path / "all/trial-3"
    old.mkdir(parents=True)
    (old / "card.json").write_text("{}")
    said = re.escape("1 of 2 students could not be exported (trial-7: ")
    with pytest.raises(ExportError, match=said + r".*; the others are in .*all/index.md"):
        export_all("s", out=tmp_path / "all", runs_dir=config.runs_dir, progress=SearchProgress())
    (row,) = json.loads((tmp_path / "all/index.json").read_text())
    assert row["folder"] == "trial-0"
    assert "all/trial-3 is of an earlier export, not in the index" in capsys.readouterr().err


def test_a_student_or_a_target_that_is_not_there_is_told(studied, tmp_path):
    folder, config = studied
    options = {"out": tmp_path / "out", "runs_dir": config.runs_dir}
    with pytest.raises(StudyError, match=r"must be a trial on the front \(0\), got 1"):
        export("s", pick="1", **options)
    with pytest.raises(StudyError, match=r"must be a trial on the front \(1\), got 0"):
        export("s", pick="0", target=BOARD, **options)
    known = re.escape(f"(onnxruntime, {BOARD})")
    for deliver in (export, export_all):
        with pytest.raises(StudyError, match=rf"one of the study's {known}, got phone"):
            deliver("s", target="phone", **options)
    assert not (tmp_path / "out").exists()
    assert choose_graduate(folder, config, trial=None, pick=None, target=BOARD).trial == 1


@pytest.mark.usefixtures("unseen", "handed_over")
def test_other_pictures_under_the_same_name_are_refused(studied, tmp_path):
    folder, config = studied
    settings = json.loads((folder.path / "settings.json").read_text())
    settings["digests"] = {"data": "of others"}
    (folder.path / "settings.json").write_text(json.dumps(settings))
    for look in (partial(export, out=tmp_path / "out"), explain):
        with pytest.raises(StudyError, match="must go on with the data that it was made with"):
            look("s", runs_dir=config.runs_dir)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("handed_over")
def test_pictures_that_are_older_than_the_front_are_drawn_anew(studied, tmp_path, monkeypatch):
    folder, config = studied
    drawn = []
    monkeypatch.setattr(
        "autokd.study.delivery.draw_study", lambda *_, **options: drawn.append(options["folder"])
    )
    monkeypatch.setattr(Appraiser, "appraise", lambda *_, **__: Appraisal(facts={}, files=()))
    options = {"out": tmp_path / "out", "runs_dir": config.runs_dir}
    export("s", **options)
    assert not drawn  # the search draws
    folder.report.mkdir(exist_ok=True)
    (folder.report / "front.png").touch()
    export("s", **options)
    assert not drawn
    os.utime(folder.report / "front.png", (1, 1))
    export("s", **options)
    assert drawn == [folder.report]


@pytest.mark.usefixtures("unseen", "handed_over")
def test_weights_of_another_network_are_told_in_a_line(studied, tmp_path):
    folder, config = studied
    (file, other) = (folder.weights / f"trial-{trial}.safetensors" for trial in (0, 1))
    for write in (lambda: shutil.copy(other, file), lambda: file.write_bytes(b"junk")):
        write()
        with pytest.raises(StudyError, match=r"must have the weights of .*trial-0.*; put back"):
            export("s", out=tmp_path / "out", runs_dir=config.runs_dir)
