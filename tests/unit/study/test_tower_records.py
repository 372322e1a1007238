"""What a dual tower's study keeps: settings that are whole, one number type for all trainings."""

import json
from pathlib import Path

import pytest
import torch

from autokd.config import TowerConfig
from autokd.distillation import Engine
from autokd.errors import StudyError
from autokd.study import find_tracked
from autokd.study.folder import StudyFolder
from autokd.study.tower_records import TowerRecords

CPU = torch.device("cpu")
ON_GPU = Engine(device=torch.device("cuda"), is_bf16=True)


@pytest.fixture
def config(tmp_path):
    return TowerConfig(runs_dir=tmp_path, study="tiles", epochs=1)


@pytest.fixture
def records(config):
    config.study_dir.mkdir(parents=True)
    return TowerRecords(StudyFolder(config.study_dir))


def keep(records, config, engine=ON_GPU):
    settings = records.check_settings(config, digests={"pairs": "p"})
    records.keep_settings(config, settings=settings, engine=engine)


@pytest.mark.parametrize("begun", ["trainings/student-seed-0.json", "checkpoints/t.0.checkpoint"])
def test_all_trainings_have_the_number_type_of_the_first(records, config, begun):
    assert not records.find_engine(CPU).is_bf16
    keep(records, config)
    assert not records.find_engine(CPU).is_bf16  # nothing to be compared with yet
    file = config.study_dir / begun
    file.parent.mkdir()
    file.touch()
    engine = records.find_engine(CPU)
    assert (engine.device, engine.is_bf16) == (CPU, True)
    keep(records, config, engine)
    assert records.find_engine(torch.device("cuda")).is_bf16


def test_a_study_of_before_the_engine_was_kept_goes_on(records, config):
    keep(records, config)
    file = config.study_dir / "towers.json"
    kept = json.loads(file.read_text())
    del kept["engine"]
    file.write_text(json.dumps(kept))
    (config.study_dir / "trainings").mkdir()
    (config.study_dir / "trainings" / "student-seed-0.json").touch()
    assert not records.find_engine(CPU).is_bf16


def test_settings_that_are_cut_off_leave_the_former_ones(records, config):
    keep(records, config)
    file = config.study_dir / "towers.json"
    before = file.read_bytes()

    def fill(path, text, **_):
        path.write_bytes(text.encode()[:9])
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_text", fill)
        with pytest.raises(OSError, match="No space left"):
            keep(records, config)
    assert file.read_bytes() == before
    assert [path.name for path in config.study_dir.iterdir()] == ["towers.json"]
    file.write_bytes(before[:9])  # by an editor
    said = r"`tiles` must have a whole towers.json, got [^\n]*; put a copy back, or pass another"
    with pytest.raises(StudyError, match=said):
        keep(records, config)
    with pytest.raises(StudyError, match=said):
        find_tracked(None, runs_dir=config.runs_dir)
