import fcntl
import threading

import pytest

from autokd.errors import ConfigError, StudyError
from autokd.study import locks
from autokd.study.locks import held_file


def test_a_lock_that_is_given_back_in_a_moment_is_waited_for(tmp_path):
    first = (tmp_path / "lock").open("w")
    fcntl.flock(first, fcntl.LOCK_EX)
    timer = threading.Timer(0.3, first.close)
    timer.start()
    with held_file(tmp_path / "lock", study="a", option="--runs-dir"):
        assert timer.finished.is_set()
    timer.join()


def test_one_that_is_kept_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_PATIENCE_S", 0.1)
    with (
        held_file(tmp_path / "lock", study="a", option="--runs-dir"),
        pytest.raises(StudyError, match="`a` must not be searched twice at once; wait for"),
        held_file(tmp_path / "lock", study="a", option="--runs-dir"),
    ):
        pass


def test_a_folder_that_cannot_be_made_is_named_with_its_option(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match=r"^`--runs-dir` must be writable, got .*file"),
        held_file(tmp_path / "file/lock", study="a", option="--runs-dir"),
    ):
        pass
