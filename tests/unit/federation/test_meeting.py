"""The folder where sites meet: one charter, one place a site, answers that are its own."""

import json
import threading

import numpy as np
import pytest

from autokd.errors import CharterError, MeetingError
from autokd.federation import files as files_module
from tests.unit.federation.charters import CHARTER, answer
from tests.unit.federation.meetings import ONCE, gather, give, join, names_in, publish


def test_sites_that_agree_hear_each_other(folder):
    a, b = join(folder, "a", n_sites=2), join(folder, "b", n_sites=2)
    n_bytes = publish(a, n_pictures=7)
    publish(b, seed=1)
    heard, lines = gather(a)
    assert [one.site for one in heard] == ["a", "b"]
    assert (heard[0].n_pictures, lines) == (7, [])
    assert (heard[1].logs == answer("b", seed=1).logs).all()
    assert n_bytes == a.file_of(0, site="a").stat().st_size
    assert names_in(folder) == {
        "charter.json", "sites/a.json", "sites/b.json", "round-00/a.npz", "round-00/b.npz"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("cat", "eel", "dog")}, "classes of `--data` must be cat, dog, eel as in"),
        ({"public_shape": (4, 1, 8, 8)}, "`--public` pictures must be 5, 1, 8, 8 as in"),
        ({"public_digest": "e"}, "digest of the `--public` pictures must be d as in"),
        ({"policy": "none"}, "augmentation of the recipe must be crop as in"),
        ({"views": 3}, "`--views` must be 2 as in the charter of the meeting, got 3; pass"),
        ({"rounds": 2}, "`--rounds` must be 3 as in"),
        ({"vote": "sharpened"}, "`--vote` must be mean as in"),
        ({"n_sites": 4}, "`--n-sites` must be 3 as in"),
        ({"sites": ("a", "b", "c")}, "`--sites` must be nothing as in"),
    ],
)
def test_a_site_that_differs_is_refused_with_what_differs(folder, changes, message):
    join(folder, "a")
    before = (folder / "charter.json").read_bytes()
    with pytest.raises(CharterError) as caught:
        join(folder, "b", **changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (folder / "charter.json").read_bytes() == before
    assert not (folder / "sites/b.json").exists()


def test_who_comes_later_need_not_say_how_many(folder):
    with pytest.raises(CharterError, match="`--n-sites` must be at least 2"):
        join(folder, "a", n_sites=0)
    assert not list(folder.iterdir())
    join(folder, "a", sites=("a", "b", "c"))
    assert join(folder, "b", n_sites=0).charter.n_sites == 3
    assert join(folder, "c").charter.sites == ("a", "b", "c")
    with pytest.raises(CharterError, match="`--site` must be one of a, b, c as in"):
        join(folder, "d")


def test_a_name_is_of_one_site_and_there_are_so_many_places(folder):
    join(folder, "a")
    join(folder, "a")  # the same one goes on
    with pytest.raises(CharterError, match="`--site` must be a name of its own, got a, which"):
        join(folder, "a", token="another")
    join(folder, "b")
    join(folder, "c")
    with pytest.raises(CharterError, match="got 3 taken by a, b, c"):
        join(folder, "d")


def test_who_has_published_comes_back_to_the_same_meeting_only(folder, tmp_path):
    join(folder, "a", n_sites=2)
    moved = tmp_path / "mounted elsewhere"
    folder.rename(moved)
    publish(join(moved, "a", n_sites=2))  # nothing was published in the first place: free to move
    again = tmp_path / "again"
    moved.rename(again)
    join(again, "a", n_sites=2)  # under another name the same meeting
    folder.mkdir()
    with pytest.raises(CharterError, match="must be the one in which site a has published before"):
        join(folder, "a", n_sites=2)
    assert not list(folder.iterdir())  # of a folder that is not mounted nothing is written
    join(folder, "b", n_sites=2)
    with pytest.raises(CharterError, match="has no card of it; mount that one, or pass another"):
        join(folder, "a", n_sites=2)


def test_a_charter_that_cannot_be_read_is_told(folder):
    (folder / "charter.json").write_text("{")
    with pytest.raises(CharterError, match="`--meeting` must hold a readable charter"):
        join(folder, "a")


def test_a_folder_that_cannot_be_written_is_told(folder):
    (folder / "file").write_text("")
    with pytest.raises(CharterError, match="`--meeting` must be a folder to read and to write to"):
        join(folder / "file", "a")


def test_sites_that_come_at_once_write_the_same_charter(folder):
    faults = []

    def come(site):
        try:
            join(folder, site)
        except CharterError as error:
            faults.append(error)

    threads = [threading.Thread(target=come, args=(site,)) for site in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert sorted(path.stem for path in (folder / "sites").iterdir()) == ["a", "b", "c"]


def test_what_is_published_is_never_changed(folder):
    a = join(folder, "a")
    publish(a, seed=1)
    before = a.file_of(0, site="a").read_bytes()
    publish(a, seed=2)
    assert a.file_of(0, site="a").read_bytes() == before


def test_a_name_that_was_taken_over_is_not_spoken_under(folder):
    a = join(folder, "a")
    (folder / "sites/a.json").write_text("another")
    with pytest.raises(CharterError, match="must be a name of its own"):
        publish(a)


def test_a_full_disk_leaves_no_half_file(folder, monkeypatch):
    a = join(folder, "a")

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files_module.os, "fsync", fail)
    with pytest.raises(MeetingError, match="No space left"):
        publish(a)
    assert not list((folder / "round-00").iterdir())


def test_of_two_charters_that_are_begun_at_once_one_holds(folder, monkeypatch):
    """Both see no charter, and write one."""
    there, gate = type(folder).exists, threading.Barrier(2)

    def look(path, **options):
        is_there = there(path, **options)
        if path.name == "charter.json":
            gate.wait(timeout=10)
        return is_there

    monkeypatch.setattr(type(folder), "exists", look)
    faults, came = [], []

    def come(site, rounds):
        try:
            came.append(join(folder, site, rounds=rounds).charter.rounds)
        except CharterError as error:
            faults.append(str(error))

    threads = [threading.Thread(target=come, args=pair) for pair in (("a", 2), ("b", 3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    agreed = json.loads((folder / "charter.json").read_text())["rounds"]
    assert came == [agreed]
    assert len(faults) == 1
    assert f"`--rounds` must be {agreed} as in the charter" in faults[0]


def test_a_charter_that_is_replaced_is_noticed(folder):
    a = join(folder, "a")
    file = folder / "charter.json"
    file.write_text(file.read_text().replace('"rounds":3', '"rounds":4'))
    for act in (publish, gather):
        with pytest.raises(CharterError, match="`--rounds` must be 4 as in the charter"):
            act(a)
    assert not (folder / "round-00").exists()


def test_more_sites_than_places_at_once_leave_no_more_than_there_are(folder):
    join(folder, "a")
    refused = []

    def come(site):
        try:
            join(folder, site)
        except CharterError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=come, args=(site,)) for site in "bcdefg"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list((folder / "sites").iterdir())) <= 3
    assert len(refused) >= 4
    assert all("`--n-sites` must leave a place for site" in line for line in refused)


def test_two_sites_of_one_name_at_once_are_one_site_and_an_error(folder):
    refused = []

    def come(token):
        try:
            join(folder, "a", token=token)
        except CharterError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=come, args=(token,)) for token in ("x", "y", "z")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 2
    assert all("must be a name of its own, got a" in line for line in refused)


def test_answers_that_somebody_else_laid_down_are_not_taken_as_ones_own(folder):
    a = join(folder, "a")
    file = give(folder, "a", answer("a", seed=5).write(charter=CHARTER, number=0))
    with pytest.raises(MeetingError, match="must be those that it has published itself") as caught:
        a.find_published(0, patience=ONCE)
    assert str(file) in str(caught.value)
    with pytest.raises(MeetingError, match="must be those that it has published itself"):
        publish(a)
    file.unlink()
    assert a.find_published(0, patience=ONCE) == 0
    n_bytes = publish(a)
    assert a.find_published(0, patience=ONCE) == n_bytes


def test_what_a_killed_site_has_left_of_a_file_is_removed(folder):
    a = join(folder, "a")
    publish(a)
    (folder / "round-00/.a.npz.1234").write_bytes(b"half")
    assert a.find_published(0, patience=ONCE) > 0
    assert names_in(folder) == {"charter.json", "sites/a.json", "round-00/a.npz"}


def test_what_is_not_finite_is_not_published(folder):
    a = join(folder, "a")
    bad = answer("a")
    bad.logs[0, 1, 2] = np.nan
    with pytest.raises(
        MeetingError, match=r"must be finite and of \(2, 5, 3\), got 1 that are not"
    ):
        a.publish(bad, number=0, patience=ONCE)
    assert not (folder / "round-00").exists()


def test_a_folder_that_is_not_mounted_any_more_is_not_taken_for_an_empty_one(folder):
    a = join(folder, "a")
    folder.rename(folder.with_name("away"))
    folder.mkdir()
    with pytest.raises(MeetingError, match=r"charter\.json: No such file"):
        publish(a)
    assert not list(folder.iterdir())
