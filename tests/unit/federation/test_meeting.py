"""The folder where sites meet: one charter, one place a site, files that are trusted in nothing."""

import dataclasses
import threading

import numpy as np
import pytest

from autokd.errors import CharterError, MeetingError
from autokd.federation import Answers, Meeting
from autokd.federation import files as files_module
from tests.unit.federation.charters import CHARTER, answer


def join(path, site, *, token=None, **changes):
    meeting = Meeting.join(
        path, site=site, token=token or f"token of {site}",
        wanted=dataclasses.replace(CHARTER, **changes),
    )  # fmt: skip
    return dataclasses.replace(meeting, pause_s=0.01, transit_s=0.05)


def gather(meeting, number=0, **options):
    lines = []
    values = {"expected": (), "wait_s": 0.1, "is_over": lambda: False, "say": lines.append}
    return meeting.gather(number, **{**values, **options}), lines


def test_sites_that_agree_hear_each_other(tmp_path):
    a, b = join(tmp_path, "a", n_sites=2), join(tmp_path, "b", n_sites=2)
    n_bytes = a.publish(answer("a", n_pictures=7), number=0)
    b.publish(answer("b", seed=1), number=0)
    heard, lines = gather(a)
    assert [one.site for one in heard] == ["a", "b"]
    assert (heard[0].n_pictures, lines) == (7, [])
    assert (heard[1].logs == answer("b", seed=1).logs).all()
    assert n_bytes == a.file_of(0, site="a").stat().st_size
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {
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
def test_a_site_that_differs_is_refused_with_what_differs(tmp_path, changes, message):
    join(tmp_path, "a")
    before = (tmp_path / "charter.json").read_bytes()
    with pytest.raises(CharterError) as caught:
        join(tmp_path, "b", **changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "charter.json").read_bytes() == before
    assert not (tmp_path / "sites/b.json").exists()


def test_who_comes_later_need_not_say_how_many(tmp_path):
    with pytest.raises(CharterError, match="`--n-sites` must be at least 2"):
        join(tmp_path, "a", n_sites=0)
    assert not list(tmp_path.iterdir())
    join(tmp_path, "a", sites=("a", "b", "c"))
    assert join(tmp_path, "b", n_sites=0).charter.n_sites == 3
    assert join(tmp_path, "c").charter.sites == ("a", "b", "c")
    with pytest.raises(CharterError, match="`--site` must be one of a, b, c as in"):
        join(tmp_path, "d")


def test_a_name_is_of_one_site_and_there_are_so_many_places(tmp_path):
    join(tmp_path, "a")
    join(tmp_path, "a")  # the same one goes on
    with pytest.raises(CharterError, match="`--site` must be a name of its own, got a, which"):
        join(tmp_path, "a", token="another")
    join(tmp_path, "b")
    join(tmp_path, "c")
    with pytest.raises(CharterError, match="got 3 taken by a, b, c"):
        join(tmp_path, "d")


def test_a_charter_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "charter.json").write_text("{")
    with pytest.raises(CharterError, match="`--meeting` must hold a readable charter"):
        join(tmp_path, "a")


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CharterError, match="`--meeting` must be a folder to write to"):
        join(tmp_path / "file", "a")


def test_sites_that_come_at_once_write_the_same_charter(tmp_path):
    faults = []

    def come(site):
        try:
            join(tmp_path, site)
        except CharterError as error:
            faults.append(error)

    threads = [threading.Thread(target=come, args=(site,)) for site in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert sorted(path.stem for path in (tmp_path / "sites").iterdir()) == ["a", "b", "c"]


def test_what_is_published_is_never_changed(tmp_path):
    a = join(tmp_path, "a")
    a.publish(answer("a", seed=1), number=0)
    before = a.file_of(0, site="a").read_bytes()
    a.publish(answer("a", seed=2), number=0)
    assert a.file_of(0, site="a").read_bytes() == before


def test_a_name_that_was_taken_over_is_not_spoken_under(tmp_path):
    a = join(tmp_path, "a")
    (tmp_path / "sites/a.json").write_text("another")
    with pytest.raises(CharterError, match="must be a name of its own"):
        a.publish(answer("a"), number=0)


def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    a = join(tmp_path, "a")

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files_module.os, "fsync", fail)
    with pytest.raises(CharterError, match="No space left"):
        a.publish(answer("a"), number=0)
    assert not list((tmp_path / "round-00").iterdir())


def test_one_site_alone_has_nobody_to_learn_from(tmp_path):
    a = join(tmp_path, "a")
    a.publish(answer("a"), number=0)
    with pytest.raises(MeetingError, match=r"`--wait` must be long enough for 2 sites .* got 1 in"):
        gather(a)


def test_who_stays_away_is_left_out_and_not_waited_for_again(tmp_path):
    a, b, c = (join(tmp_path, site) for site in "abc")
    for number in (0, 1):
        for one in (a, b):
            one.publish(answer(one.site), number=number)
    heard, lines = gather(a)
    assert [one.site for one in heard] == ["a", "b"]
    assert lines[-1] == "warning: round 0 goes on without 1 of 3 sites (c), after 0.1 s"
    assert "waiting for 1 of 3 sites (c)" in lines[0]
    heard, lines = gather(a, 1, expected=("a", "b"), wait_s=60.0)
    assert (len(heard), lines) == (2, [])
    c.publish(answer("c"), number=1)  # it has come after all
    assert [one.site for one in gather(a, 1, expected=("a", "b"))[0]] == ["a", "b", "c"]


def test_the_user_ends_the_waiting(tmp_path):
    a = join(tmp_path, "a")
    with pytest.raises(KeyboardInterrupt):
        gather(a, is_over=lambda: True)


def spoil(kind, good):
    arrays = {
        "logs": good.logs, "n_pictures": np.int64(3), "number": np.int64(0),
        "site": np.str_("b"), "charter": np.str_(CHARTER.digest),
    }  # fmt: skip
    changes = {
        "shape": {"logs": good.logs[:1]},
        "dtype": {"logs": good.logs.astype(np.float32)},
        "infinite": {"logs": np.where(good.logs == good.logs.max(), np.inf, good.logs)
                     .astype(np.float16)},
        "charter": {"charter": np.str_("other")},
        "site": {"site": np.str_("c")},
        "round": {"number": np.int64(1)},
        "pictures": {"n_pictures": np.int64(0)},
        "pickled": {"logs": np.array([object()], dtype=object)},
        "bomb": {"more": np.zeros(2**20, np.uint8)},
    }  # fmt: skip
    return {**arrays, **changes[kind]}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("shape", r"must be float16 of \(2, 5, 3\) .* got float16 of \(1, 5, 3\)"),
        ("dtype", "got float32"),
        ("infinite", "must be finite"),
        ("charter", "must stand under the charter of this meeting"),
        ("site", "must be of site b"),
        ("round", "must be of round 0"),
        ("pictures", "must come of at least one picture"),
        ("pickled", "must be a whole npz file"),
        ("bomb", "must be a whole npz file of at most"),
        ("cut", "must be a whole npz file"),
        ("text", "must be a whole npz file"),
    ],
)
def test_a_broken_file_is_refused_with_its_site(tmp_path, kind, message):
    a, b = join(tmp_path, "a"), join(tmp_path, "b")
    a.publish(answer("a"), number=0)
    b.publish(answer("b"), number=0)
    file = b.file_of(0, site="b")
    if kind == "cut":
        file.write_bytes(file.read_bytes()[:-20])
    elif kind == "text":
        file.write_text("no answers")
    else:
        np.savez_compressed(file, **spoil(kind, answer("b")))
    with pytest.raises(MeetingError, match=message) as caught:
        gather(a, wait_s=5.0)
    assert "site `b` in round 0" in str(caught.value)
    assert str(file) in str(caught.value)


def test_half_a_file_may_still_be_on_its_way(tmp_path):
    a, b = join(tmp_path, "a", n_sites=2), join(tmp_path, "b", n_sites=2)
    a = dataclasses.replace(a, transit_s=30.0)
    a.publish(answer("a"), number=0)
    b.publish(answer("b"), number=0)
    file = b.file_of(0, site="b")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    threading.Timer(0.1, file.write_bytes, [whole]).start()
    assert len(gather(a, wait_s=20.0)[0]) == 2


def test_copies_that_a_folder_service_has_made_are_no_sites(tmp_path):
    a, b = join(tmp_path, "a", n_sites=2), join(tmp_path, "b", n_sites=2)
    for one in (a, b):
        one.publish(answer(one.site), number=0)
    (tmp_path / "round-00/a (conflicted copy).npz").write_text("")
    assert [one.site for one in gather(a)[0]] == ["a", "b"]


def test_answers_are_read_as_they_were_written(tmp_path):
    given = answer("a", seed=3, n_pictures=5)
    (tmp_path / "a.npz").write_bytes(given.write(charter=CHARTER, number=2))
    read = Answers.read(tmp_path / "a.npz", charter=CHARTER, number=2)
    assert (read.site, read.n_pictures) == ("a", 5)
    assert (read.logs == given.logs).all()
