"""A dual tower under a CLIP of the user's own, from pairs to files."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch

from autokd.config import TowerConfig, build_config, build_tower_config
from autokd.errors import (
    ConfigError,
    DataError,
    DivergedError,
    ExportError,
    SpaceError,
    StudyError,
    TeacherError,
)
from autokd.study import aligning, distill_clip, find_tracked, tower_times
from autokd.study.folder import StudyFolder
from autokd.study.progress import SearchProgress
from autokd.study.tower_times import open_tower_target
from autokd.testing import FakeTarget
from autokd.trackers import log_towers
from tests import tiles

NETWORK = """
from torch import nn

def small(shape, n_classes):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, n_classes),
    )
"""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return tiles.write_pairs(tmp_path_factory.mktemp("tiles"))


@pytest.fixture
def build(tmp_path, monkeypatch, pairs):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTOKD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(aligning, "open_tower_target", lambda *_, **__: FakeTarget())
    monkeypatch.setattr(aligning, "log_towers", lambda *_, **__: None)  # seconds for a database
    Path("net.py").write_text(NETWORK)

    def build(**changes):
        values = {
            "pairs": pairs, "teacher": "python:tests.tiles:load", "study": "tiles",
            "image_tower": "python:net.py:small", "text_layers": 1, "text_width": 16,
            "text_heads": 2, "epochs": 12, "batch_size": 16, "learning_rate": 0.01, "seeds": 2,
            "val_ratio": 0.2, "test_ratio": 0.2, "device": "cpu",
        }  # fmt: skip
        return build_tower_config(flags={**values, **changes})

    return build


class Lines(SearchProgress):
    def __init__(self):
        super().__init__(is_silent=True)
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def test_a_dual_tower_stands_beside_its_twin_and_its_teacher(build, pairs, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setattr(aligning, "log_towers", log_towers)
    config = build(zero_shot=pairs.parent / "named", template="a {} tile")
    done = distill_clip(config)
    chance = 1 / done.n_pictures[2]
    assert done.student.recall.n == done.twin.recall.n == 2
    assert done.student.recall.mean > 5 * chance
    assert done.gain.mean == pytest.approx(done.student.recall.mean - done.twin.recall.mean)
    assert done.student.zero_shot > 2 / len(tiles.COLOURS)
    assert done.teacher.zero_shot == 1
    card = json.loads(Path("towers/card.json").read_text())
    assert card["image_cosine"] > 0.9999
    assert card["text_cosine"] > 0.9999
    assert card["figures"]["student_test_recall"] == done.student.recall.mean
    assert "a tokeniser of the kind function is not known" in card["left_out"]
    names = {path.name for path in done.files}
    assert {"image.onnx", "text.onnx", "card.md", "recalls.png", "model.safetensors"} <= names
    assert "run.py" not in names
    client = MlflowClient("sqlite:///mlruns/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("tiles").experiment_id])
    told = {run.info.run_name: run for run in runs}
    assert set(told) == {
        "search", "student-seed-0", "student-seed-1", "twin-seed-0", "twin-seed-1"
    }  # fmt: skip
    history = client.get_metric_history(told["twin-seed-1"].info.run_id, "val_recall")
    assert len(history) == config.epochs
    assert told["twin-seed-1"].data.params["loss"] == "contrastive"
    assert all(run.info.end_time >= run.info.start_time for run in told.values())
    assert told["search"].data.metrics["gain"] == pytest.approx(done.gain.mean)


def test_the_same_call_again_trains_nothing_and_another_is_another_study(build, monkeypatch):
    config = build(epochs=1, seeds=1)
    monkeypatch.setattr(aligning, "_CHECKPOINT_BYTES", 2)
    stale = config.study_dir / "checkpoints" / "student-seed-9.0.checkpoint"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"old")
    first = distill_clip(config)
    assert not stale.exists()
    monkeypatch.setattr(aligning, "align", lambda *_, **__: pytest.fail("trained again"))
    again = distill_clip(config)
    assert again.student == first.student
    with pytest.raises(StudyError, match="made with epochs=1, got 2; pass another --study"):
        distill_clip(build(epochs=2, seeds=1))


def test_a_training_that_was_cut_off_goes_on(build, monkeypatch):
    config, real = build(epochs=3, seeds=1, baseline=False), aligning.align
    whole = distill_clip(build(epochs=3, seeds=1, baseline=False, study="whole"), out=Path("w"))

    class Cut(BaseException):
        pass

    def cut(*args, on_epoch, **options):
        def stop(row):
            on_epoch(row)
            if row.epoch == 2:
                raise Cut

        return real(*args, on_epoch=stop, **options)

    monkeypatch.setattr(aligning, "align", cut)
    with pytest.raises(Cut):
        distill_clip(config)
    begun = []

    def watched(*args, on_epoch, **options):
        return real(*args, on_epoch=lambda row: begun.append(row.epoch) or on_epoch(row), **options)

    monkeypatch.setattr(aligning, "align", watched)
    done = distill_clip(config)
    assert begun == [3]
    assert done.student.recall == whole.student.recall
    assert not list(Path("mlruns/studies/tiles/checkpoints").glob("*"))


def test_student_and_twin_compute_with_the_same_numbers_on_another_device(build, monkeypatch):
    config, real, seen = build(epochs=1, seeds=1), aligning.align, []

    def watch(*args, plan, **options):
        seen.append(str(plan.engine))
        return real(*args, plan=plan, **options)

    monkeypatch.setattr(aligning, "align", watch)
    distill_clip(config)
    file = config.study_dir / "towers.json"
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({**kept, "engine": "bf16 contiguous cuda"}))  # as on a GPU
    (config.study_dir / "trainings" / "twin-seed-0.json").unlink()
    distill_clip(config)
    assert seen == ["fp32 contiguous cpu x1"] * 2 + ["bf16 contiguous cpu x1"]
    done = json.loads((config.study_dir / "trainings" / "twin-seed-0.json").read_text())
    assert done["engine"] == json.loads(file.read_text())["engine"] == "bf16 contiguous cpu x1"


def test_no_name_of_a_class_is_cut(build, pairs):
    config = build(zero_shot=pairs.parent / "named", epochs=1, seeds=1, baseline=False)
    distill_clip(config)
    card = json.loads(Path("towers/card.json").read_text())
    assert (
        card["context"]
        == len(["a", "photo", "of", "a", "red", "."])
        > len(["a", "dark", "red", "tile"])
    )


def test_the_teacher_is_asked_once(build, monkeypatch):
    asked, real = [], tiles._Clip.encode_image

    def count(self, pictures):
        asked.append(len(pictures))
        return real(self, pictures)

    monkeypatch.setattr(tiles._Clip, "encode_image", count)
    config = build(epochs=6, views=2, seeds=1, baseline=False)
    done = distill_clip(config)
    n_train = done.n_pictures[0]
    assert sum(n == n_train for n in asked) == 2  # a time for each view
    assert sum(asked) < 2 * n_train + 2 * sum(done.n_pictures)


@pytest.mark.parametrize("tower", ["encode_image", "encode_text"])
def test_a_teacher_whose_code_has_changed_is_found_out(build, monkeypatch, tower):
    distill_clip(build(epochs=1, seeds=1, baseline=False))
    real = getattr(tiles._Clip, tower)
    monkeypatch.setattr(tiles._Clip, tower, lambda self, rows: -real(self, rows))
    with pytest.raises(TeacherError, match="the teacher has changed: remove"):
        distill_clip(build(epochs=1, seeds=1, baseline=False, study="other"))


def test_without_a_teacher_there_is_no_twin(build):
    done = distill_clip(build(loss="contrastive", epochs=1, seeds=1))
    assert done.twin is None
    assert done.gain is None


def test_the_page_of_a_study_is_found_whichever_command_made_it(build):
    runs = Path("mlruns")
    with pytest.raises(StudyError, match="must hold a study, got none"):
        find_tracked(None, runs_dir=runs)
    config = build(epochs=1, seeds=1, baseline=False, tracking_uri="http://127.0.0.1:9")
    distill_clip(config)
    found = find_tracked(None, runs_dir=runs)
    assert (found.study_name, found.tracking_uri) == ("tiles", config.tracking_uri)
    other = StudyFolder(runs / "studies" / "searched")
    other.path.mkdir()
    other.keep_settings(build_config(flags={"study": "searched"}), dimensions=[], digests={})
    os.utime(other.path / "settings.json", (2e9, 2e9))
    assert find_tracked(None, runs_dir=runs).study_name == "searched"
    assert find_tracked("tiles", runs_dir=runs).study_name == "tiles"
    with pytest.raises(StudyError, match="`--study` must be one of searched, got none"):
        find_tracked("none", runs_dir=runs)


def test_mlflow_may_be_away(build, monkeypatch):
    monkeypatch.setattr(aligning, "log_towers", log_towers)
    progress = Lines()
    config = build(epochs=1, seeds=1, baseline=False, tracking_uri="http://127.0.0.1:9")
    done = distill_clip(config, progress=progress)
    assert done.files
    assert any("the same command logs it" in line for line in progress.lines)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"pairs": None}, ConfigError, "`--pairs` must name pictures and captions, got nothing"),
        ({"pairs": Path("no.csv")}, DataError, "`--pairs no.csv` must be readable"),
        ({"teacher": "resnet18"}, TeacherError, "`--teacher` must be clip:NAME or python:"),
        ({"teacher": "python:tests.tiles:write_pairs"}, TeacherError, "must be a function that"),
        ({"teacher": "python:torch:get_rng_state"}, TeacherError, "torch.nn.Module and its token"),
        ({"image_tower": "mobil"}, SpaceError, "`--image-tower"),
        ({"image_tower": "mobile:widht=3"}, SpaceError, "`--image-tower widht` must name"),
        ({"zero_shot": Path("none")}, DataError, "`--zero-shot none` must be a folder"),
        ({"device": "cuda"}, ConfigError, "`--device` must be there"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_before_anything_is_trained(build, changes, error, said):
    if changes.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("needs a machine without CUDA")
    with pytest.raises(error, match=r"^[^\n]*$") as caught:
        distill_clip(build(**changes))
    assert said in str(caught.value)
    assert not Path("mlruns/studies/tiles/trainings").exists()


def test_targets_that_run_no_onnx_files_are_refused(build, monkeypatch):
    monkeypatch.setattr(aligning, "open_tower_target", open_tower_target)
    with pytest.raises(
        ConfigError, match=r"`--target` must run ONNX files, .*got torch; pass onnx"
    ):
        distill_clip(build(target="torch"))
    with pytest.raises(ConfigError, match=r"`--target` must be one of .*got phone"):
        distill_clip(build(target="phone"))


def test_a_training_that_diverges_is_left_out(build, monkeypatch):
    real, progress = aligning.align, Lines()

    def align(*args, plan, **options):
        if plan.seed == 1 and options["losses"] == ("contrastive",):
            raise DivergedError("loss is nan in epoch 1 of 1")
        return real(*args, plan=plan, **options)

    monkeypatch.setattr(aligning, "align", align)
    done = distill_clip(build(epochs=1, seeds=2), progress=progress)
    assert (done.student.recall.n, done.twin.recall.n, done.gain.n) == (2, 1, 1)
    assert "warning: twin-seed-1 is left out: loss is nan in epoch 1 of 1" in progress.lines

    def diverge(*_, **__):
        raise DivergedError("loss is nan")

    monkeypatch.setattr(aligning, "align", diverge)
    with pytest.raises(DivergedError, match="all 1 trainings have diverged; pass a lower --lr"):
        distill_clip(build(epochs=1, seeds=1, study="none"))


def test_a_teacher_that_cannot_go_to_onnx_is_not_timed(build, monkeypatch):
    progress, real = Lines(), tower_times.write_tower_files

    def write(image, text, folder, **options):
        if folder.name == "theirs":
            raise ExportError("student must be exportable to ONNX, got 3 GB")
        return real(image, text, folder, **options)

    monkeypatch.setattr(tower_times, "write_tower_files", write)
    done = distill_clip(build(epochs=1, seeds=1, baseline=False), progress=progress)
    assert done.teacher.image_ms is None
    assert done.student.image_ms > 0
    assert any("teacher must be exportable to ONNX, got 3 GB" in line for line in progress.lines)


def test_a_broken_picture_is_told_before_anything_is_kept(build, pairs, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(pairs.parent, copy)
    for number in range(96):
        whole = (copy / f"{number}.png").read_bytes()
        (copy / f"{number}.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"pictures must be readable, got \d+ that are not: .*png"):
        distill_clip(build(pairs=copy / "tiles.csv"))
    assert not Path("mlruns/studies/tiles/towers.json").exists()


def test_another_network_or_folder_under_the_same_name_is_another_study(build, pairs, tmp_path):
    named = tmp_path / "named"
    shutil.copytree(pairs.parent / "named", named)
    options = {"epochs": 1, "seeds": 1, "baseline": False, "zero_shot": named}
    distill_clip(build(**options))
    shutil.copy(named / "red" / "0.png", named / "red" / "other.png")
    with pytest.raises(StudyError, match="was made with digests="):
        distill_clip(build(**options))
    (named / "red" / "other.png").unlink()
    distill_clip(build(**options))
    Path("net.py").write_text(NETWORK.replace("8", "16"))
    for name in [name for name in sys.modules if name.startswith("autokd_space_net")]:
        del sys.modules[name]
    with pytest.raises(StudyError, match="was made with digests="):
        distill_clip(build(**options))


def test_a_search_does_not_go_on_with_towers(build):
    config = build(epochs=1, seeds=1, baseline=False)
    distill_clip(config)
    with pytest.raises(StudyError, match="must not be one of `autokd distill-clip`"):
        StudyFolder(config.study_dir).check_settings(build_config(), dimensions=[])


def test_other_pairs_under_the_same_name_are_another_study(build, pairs, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(pairs.parent, copy)
    config = build(pairs=copy / "tiles.csv", epochs=1, seeds=1, baseline=False)
    distill_clip(config)
    shutil.copy(copy / "1.png", copy / "0.png")
    with pytest.raises(StudyError, match="was made with digests="):
        distill_clip(config)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"text_width": 30}, "`--text-width` must be a multiple of --text-heads (4), got 30"),
        (
            {"val_ratio": 0.45, "test_ratio": 0.45},
            "`--val-ratio` and `--test-ratio` must sum up to 0.8 at the most, got 0.9",
        ),
        ({"template": "a photo"}, "`--template` must hold {}, got 'a photo'"),
        ({"loss": "contrastve"}, "did you mean `contrastive`?"),
        ({"loss": "feature+feature"}, "`--loss` must name each word once"),
        ({"epoch": 3}, "`--epoch` must be an option of autokd; did you mean `epochs`?"),
        ({"val_ratio": 0.7}, "`--val-ratio` must be"),
        (
            {"teacher_weights": "a.pt", "teacher_pretrained": "openai"},
            "`--teacher-pretrained` must be left out beside --teacher-weights, got openai",
        ),
    ],
    ids=str,
)
def test_wrong_options_are_told_in_a_line(flags, said):
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as caught:
        build_tower_config(flags=flags)
    assert said in str(caught.value)


def test_a_file_of_options_is_read_as_the_command_line_is(tmp_path):
    file = tmp_path / "towers.yaml"
    file.write_text("image-tower: timm:resnet18\nlr: 0.01\nno-baseline: true\nseeds: 1\n")
    config = build_tower_config(file, flags={"seeds": 2})
    assert isinstance(config, TowerConfig)
    assert (config.image_tower, config.learning_rate, config.baseline, config.seeds) == (
        "timm:resnet18", 0.01, False, 2,
    )  # fmt: skip
    assert config.study_name == "pairs-timm-resnet18-text-4x256"
