"""Files that other machines read meanwhile: whole, of the first who writes, for all to read."""

import errno
import os
import stat
import threading

import pytest

from autokd.federation.files import list_names, write_new


@pytest.fixture
def umask():
    before = os.umask(0o077)
    yield
    os.umask(before)


def rights(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("number", [None, errno.EPERM, errno.ENOTSUP])
def test_of_many_who_write_at_once_one_does_and_the_others_know(tmp_path, monkeypatch, number):
    if number is not None:

        def fail(*_):
            raise OSError(number, "no links here")

        monkeypatch.setattr(os, "link", fail)
    file, done = tmp_path / "round-00/a.npz", []

    def write(content):
        if write_new(file, content, root=tmp_path):
            done.append(content)

    contents = [bytes([number]) * 10_000 for number in range(6)]
    threads = [threading.Thread(target=write, args=(one,)) for one in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [file.read_bytes()]
    assert [path.name for path in tmp_path.rglob("*")] == ["round-00", "a.npz"]
    assert not write_new(file, b"later", root=tmp_path)
    assert done == [file.read_bytes()]


def test_a_link_that_was_made_though_the_answer_was_lost_counts(tmp_path, monkeypatch):
    genuine = os.link

    def link(source, target):
        genuine(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", link)
    assert write_new(tmp_path / "a", b"mine", root=tmp_path)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(("mode", "of_file"), [(0o2770, 0o640), (0o1777, 0o644), (0o700, 0o600)])
def test_what_is_made_has_the_rights_of_the_folder_whatever_the_umask(tmp_path, mode, of_file):
    root = tmp_path / "meeting"
    root.mkdir()
    root.chmod(mode)
    write_new(root / "sites/a.json", b"", root=root)
    write_new(root / "charter.json", b"", root=root)
    assert rights(root / "sites") == mode
    assert rights(root / "sites/a.json") == rights(root / "charter.json") == of_file
    assert (root / "sites/a.json").stat().st_gid == root.stat().st_gid


def test_a_folder_that_another_made_meanwhile_is_used(tmp_path, monkeypatch):
    genuine = type(tmp_path).mkdir

    def mkdir(path, *args, **options):
        genuine(path, *args, **options)
        if path.name.startswith(".round-00"):
            genuine(tmp_path / "round-00")
            (tmp_path / "round-00/b.npz").write_bytes(b"b")

    monkeypatch.setattr(type(tmp_path), "mkdir", mkdir)
    assert write_new(tmp_path / "round-00/a.npz", b"a", root=tmp_path)
    assert {path.name for path in tmp_path.rglob("*")} == {"round-00", "a.npz", "b.npz"}


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_new(tmp_path / "a", b"a", root=tmp_path)
    assert not list(tmp_path.iterdir())


def test_names_are_those_of_whole_files(tmp_path):
    for name in ("b.npz", "a.npz", ".a.npz.123", ".c.npz", "d.json"):
        (tmp_path / name).write_bytes(b"")
    assert list_names(tmp_path, ending=".npz") == ["a", "b"]
    assert list_names(tmp_path / "missing", ending=".npz") == []
