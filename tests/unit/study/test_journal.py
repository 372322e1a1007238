import multiprocessing
import os
import signal
import time

import optuna
import pytest

from autokd.errors import ConfigError
from autokd.study.journal import open_journal
from autokd.study.storages import open_storage


def hold_lock(path):
    from autokd.study.journal import _ProcessLock

    _ProcessLock(path).acquire()
    time.sleep(60)


def test_a_lock_held_by_a_killed_process_is_free_at_once(tmp_path):
    path = tmp_path / "o.journal"
    open_journal(path)
    process = multiprocessing.get_context("spawn").Process(target=hold_lock, args=(path,))
    process.start()
    time.sleep(3)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    process.close()
    start = time.monotonic()
    optuna.create_study(study_name="s", storage=open_journal(path))
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("tail", [b'{"op_code":4,"worker', b"x"])
def test_a_line_that_was_written_half_is_cut_off(tmp_path, tail):
    path = tmp_path / "o.journal"
    optuna.create_study(study_name="s", storage=open_journal(path)).add_trial(
        optuna.trial.create_trial(value=1.0)
    )
    with path.open("ab") as file:
        file.write(tail)
    study = optuna.load_study(study_name="s", storage=open_journal(path))
    study.add_trial(optuna.trial.create_trial(value=2.0))
    again = optuna.load_study(study_name="s", storage=open_journal(path))
    assert [trial.value for trial in again.trials] == [1.0, 2.0]


def test_a_line_that_another_study_has_written_half_is_cut_off_by_who_writes_next(tmp_path):
    path = tmp_path / "o.journal"
    study = optuna.create_study(study_name="s", storage=open_journal(path))
    with path.open("ab") as file:
        file.write(b'{"op_code":8,"result":"{\\"cur')
    study.add_trial(optuna.trial.create_trial(value=1.0))
    study.add_trial(optuna.trial.create_trial(value=2.0))
    again = optuna.load_study(study_name="s", storage=open_journal(path))
    assert [trial.value for trial in again.trials] == [1.0, 2.0]


def test_a_relative_path_is_the_same_journal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    optuna.create_study(study_name="s", storage=open_storage("journal:o", runs_dir=tmp_path))
    study = optuna.load_study(
        study_name="s", storage=open_storage(f"journal:{tmp_path}/o", runs_dir=tmp_path)
    )
    assert study.trials == []


def test_a_database_can_be_the_storage(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/o.db", runs_dir=tmp_path)
    optuna.create_study(study_name="s", storage=storage)
    storage.engine.dispose()


@pytest.mark.parametrize("url", ["mysterious://x", "sqlite:////proc/nowhere/at/all/o.db"])
def test_a_storage_that_cannot_be_opened_is_refused(url, tmp_path):
    with pytest.raises(ConfigError, match="--storage"):
        open_storage(url, runs_dir=tmp_path)
