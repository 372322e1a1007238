import contextlib
import functools
import threading
import time
from pathlib import Path

import optuna
import pytest
import sqlalchemy

from autokd.errors import ConfigError, StudyError
from autokd.study import locks
from autokd.study.storages import held_alone, open_storage
from tests.postgres import running_postgres


@pytest.fixture(scope="module")
def postgres():
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["journal", "sqlite", "postgres"])
def url(request, tmp_path):
    if request.param == "journal":
        return f"journal:{tmp_path}/o.journal"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/o.db"
    return request.getfixturevalue("postgres").url


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(locks, "_PATIENCE_S", 0.1)


def test_a_study_has_one_coordinator_at_a_time(url, tmp_path):
    with held_alone(url, runs_dir=tmp_path, study="a"):
        with held_alone(url, runs_dir=tmp_path / "elsewhere", study="b"):
            pass
        with (
            pytest.raises(StudyError, match="`a` must not be searched twice at once"),
            held_alone(url, runs_dir=tmp_path / "elsewhere", study="a"),
        ):
            pass
    with held_alone(url, runs_dir=tmp_path / "elsewhere", study="a"):
        pass


def test_a_lock_that_the_database_has_forgotten_is_taken_again_or_missed(postgres, tmp_path):
    def restart() -> None:
        postgres.stop()
        postgres.start()

    with held_alone(postgres.url, runs_dir=tmp_path, study="a") as check:
        check()
        restart()
        check()  # the connection is broken
        check()
        with (
            pytest.raises(StudyError, match="must not be searched twice at once"),
            held_alone(postgres.url, runs_dir=tmp_path, study="a"),
        ):
            pass
        restart()
        with held_alone(postgres.url, runs_dir=tmp_path, study="a"):
            check()
            with pytest.raises(StudyError, match="must not be searched twice at once"):
                check()


def test_the_lock_is_free_after_an_error(url, tmp_path):
    with contextlib.suppress(RuntimeError), held_alone(url, runs_dir=tmp_path, study="a"):
        raise RuntimeError
    with held_alone(url, runs_dir=tmp_path, study="a"):
        pass


def test_a_server_notices_within_half_a_minute_that_a_machine_lost_its_power(postgres, tmp_path):
    used = []
    listen = functools.partial(sqlalchemy.event.listen, sqlalchemy.Engine, "before_cursor_execute")

    def note(connection, *_):
        used.append(connection)

    listen(note)
    try:
        with held_alone(postgres.url, runs_dir=tmp_path, study="cut"):
            names = ("idle", "interval", "count")
            told = [
                int(used[-1].exec_driver_sql(f"SHOW tcp_keepalives_{name}").scalar())
                for name in names
            ]
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", note)
    idle, interval, count = told
    assert 0 < idle + interval * count <= 30


@pytest.mark.parametrize("url", ["mysterious://x", "postgresql+psycopg://127.0.0.1:1/none"])
def test_a_storage_that_is_not_there_is_refused(url, tmp_path):
    with (
        pytest.raises(ConfigError, match="`--storage` must be an Optuna storage"),
        held_alone(url, runs_dir=tmp_path, study="a"),
    ):
        pass


def test_a_database_that_is_gone_for_a_while_is_waited_for(postgres, tmp_path, caplog):
    storage = open_storage(postgres.url, runs_dir=tmp_path)
    study = optuna.create_study(storage=storage, directions=["maximize", "minimize"])
    study.tell(study.ask({"x": optuna.distributions.IntDistribution(0, 9)}), [0.5, 1.0])
    postgres.stop()
    back = threading.Timer(2.0, postgres.start)
    back.start()
    start = time.monotonic()
    trial = study.ask({"x": optuna.distributions.IntDistribution(0, 9)})
    assert time.monotonic() - start > 1.5
    back.join()
    trial.set_user_attr("told", value="whole")
    study.tell(trial, [0.6, 2.0])
    assert "the storage cannot be reached, trying again" in caplog.text
    trials = study.get_trials()
    assert [trial.values for trial in trials] == [[0.5, 1.0], [0.6, 2.0]]
    assert trials[1].user_attrs == {"told": "whole"}
    storage.engine.dispose()


def test_a_password_is_not_told():
    with pytest.raises(ConfigError) as error:
        open_storage("postgresql+nothing://me:SECRET@host/db", runs_dir=Path())
    assert "SECRET" not in str(error.value)
