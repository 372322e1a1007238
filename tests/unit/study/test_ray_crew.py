"""What lies beside the coordinator of a Ray cluster, without one."""

import builtins

import pytest

from autokd.candidate import CheckpointFolder
from autokd.config import Config
from autokd.errors import ConfigError
from autokd.study.ray_cluster import join_cluster
from autokd.study.ray_crew import Desk


def test_a_desk_keeps_checkpoints_where_the_coordinator_looks(tmp_path):
    desk = Desk(tmp_path / "checkpoints")
    assert desk.files("trial-1") == {}
    assert desk.tell("trial-1", 1, "one", {"trial-1.0.checkpoint": b"one"})
    assert desk.tell("trial-1", 2, "two", {"trial-1.0.checkpoint": b"two"})
    assert desk.tell("trial-11", 1, "other", {"trial-11.0.checkpoint": b"other"})
    assert desk.files("trial-1") == {"trial-1.0.checkpoint": b"two"}
    assert (tmp_path / "checkpoints/trial-11.0.checkpoint").read_bytes() == b"other"
    assert desk.take_rows() == [
        ("trial-1", 1, "one"),
        ("trial-1", 2, "two"),
        ("trial-11", 1, "other"),
    ]
    assert desk.take_rows() == []


def test_what_a_student_begins_with_goes_to_its_node(tmp_path):
    checkpoints = CheckpointFolder(tmp_path, limit_bytes=2**30)
    checkpoints.start("trial-1").write_bytes(b"inherited")
    assert Desk(tmp_path).files("trial-1") == {"trial-1.start.checkpoint": b"inherited"}


def test_a_desk_answers_when_it_is_decided(tmp_path):
    desk = Desk(tmp_path)
    assert desk.answer("trial-1", 1) is None
    desk.grant("trial-1", 1, True)
    desk.grant("trial-1", 4, False)
    assert desk.answer("trial-1", 1) is True
    assert desk.answer("trial-1", 4) is False
    desk.halt()
    assert not desk.tell("trial-2", 1, "one", {})
    assert desk.answer("trial-2", 1) is False


def test_what_a_node_sends_stays_in_the_folder(tmp_path):
    desk = Desk(tmp_path / "checkpoints")
    desk.tell("trial-1", 1, "one", {"../../evil": b""})
    assert [path.name for path in tmp_path.rglob("evil*")] == ["evil"]
    assert (tmp_path / "checkpoints/evil").exists()


def test_without_ray_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def refuse(name, *words, **options):
        if name == "ray":
            raise ImportError(name)
        return real(name, *words, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(
        ConfigError, match=r"^`--ray` must find the package ray; install autokd\[ray\]"
    ):
        join_cluster(Config(ray="auto"))
