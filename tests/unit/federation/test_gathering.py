"""Waiting for the others: who is heard, who is left out, what ends it."""

import dataclasses
import threading
import time

import pytest

from autokd.errors import CharterError, MeetingError
from autokd.federation import files as files_module
from tests.unit.federation.charters import answer
from tests.unit.federation.meetings import ONCE, gather, give, join, publish


def test_one_site_alone_has_nobody_to_learn_from(folder):
    a = join(folder, "a")
    publish(a)
    with pytest.raises(MeetingError, match=r"`--wait` must be long enough for 2 sites .* got 1 in"):
        gather(a)


def test_who_stays_away_is_left_out_and_not_waited_for_again(folder):
    a, b, c = (join(folder, site) for site in "abc")
    for number in (0, 1):
        for one in (a, b):
            publish(one, number=number)
    heard, lines = gather(a)
    assert [one.site for one in heard] == ["a", "b"]
    assert lines[-1] == "warning: round 0 goes on without 1 of 3 sites (c)"
    assert "waiting for 1 of 3 sites (c)" in lines[0]
    heard, lines = gather(a, 1, expected=("a", "b"), wait_s=60.0)
    assert (len(heard), lines) == (2, [])
    publish(c, number=1)  # it has come after all
    assert [one.site for one in gather(a, 1, expected=("a", "b"))[0]] == ["a", "b", "c"]


def test_the_user_ends_the_waiting(folder):
    a = join(folder, "a")
    with pytest.raises(KeyboardInterrupt):
        gather(a, is_over=lambda: True)


def test_half_a_file_may_still_be_on_its_way(folder):
    a, b = join(folder, "a", n_sites=2), join(folder, "b", n_sites=2)
    a = dataclasses.replace(a, transit_s=30.0)
    publish(a)
    publish(b)
    file = b.file_of(0, site="b")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    threading.Timer(0.1, file.write_bytes, [whole]).start()
    assert len(gather(a, wait_s=20.0)[0]) == 2


def test_copies_that_a_folder_service_has_made_are_no_sites(folder):
    a, b = join(folder, "a", n_sites=2), join(folder, "b", n_sites=2)
    for one in (a, b):
        publish(one)
    (folder / "round-00/a (conflicted copy).npz").write_text("")
    assert [one.site for one in gather(a)[0]] == ["a", "b"]


def test_copies_are_no_sites_and_take_no_place(folder):
    a = join(folder, "a", n_sites=2)
    copy = "a.sync-conflict-20261128-070000-ABCDEFG"
    for name in (copy, "a-LAPTOP"):
        (folder / f"sites/{name}.json").write_bytes((folder / "sites/a.json").read_bytes())
    (folder / "sites/x.json").write_text("not a card")
    b = join(folder, "b", n_sites=2)
    for one in (a, b):
        publish(one)
    for name in (copy, "a-LAPTOP", "x"):
        give(folder, name, answer(name).write(charter=a.charter, number=0))
    heard, lines = gather(a)
    assert ([one.site for one in heard], lines) == (["a", "b"], [])


def test_answers_that_are_replaced_later_are_noticed_by_their_site(folder):
    a, b = join(folder, "a", n_sites=2), join(folder, "b", n_sites=2)
    publish(a)
    publish(b)
    give(folder, "a", answer("a", seed=5).write(charter=a.charter, number=0))
    with pytest.raises(MeetingError, match="must be those that it has published itself"):
        gather(a)
    with pytest.raises(MeetingError, match="must be those that it has published itself"):
        a.find_published(0, patience=ONCE)


def test_a_site_that_gives_rubbish_is_left_out_where_enough_others_came(folder):
    a, b, c = (join(folder, site) for site in "abc")
    for one in (a, b):
        publish(one)
    file = give(folder, "c", b"rubbish")
    heard, lines = gather(a, wait_s=60.0)
    assert [one.site for one in heard] == ["a", "b"]
    (told,) = [line for line in lines if "site `c` in round 0 must be a whole npz file" in line]
    assert told.startswith("warning: ")
    assert str(file) in told
    assert lines[-1] == "warning: round 0 goes on without 1 of 3 sites (c)"
    file.unlink()
    publish(c)
    assert len(gather(a)[0]) == 3


def test_rubbish_of_the_only_other_site_ends_the_waiting_with_what_is_wrong(folder):
    a = join(folder, "a")
    join(folder, "b")
    publish(a)
    give(folder, "b", b"rubbish")
    with pytest.raises(MeetingError, match="site `b` in round 0 must be a whole npz file"):
        gather(a, wait_s=0.2)


def test_rubbish_that_is_mended_meanwhile_is_heard(folder):
    a, b = join(folder, "a", n_sites=2), join(folder, "b", n_sites=2)
    publish(a)
    file = give(folder, "b", b"rubbish")
    whole = answer("b").write(charter=a.charter, number=0)
    threading.Timer(0.2, file.write_bytes, [whole]).start()
    heard, lines = gather(a, wait_s=20.0)
    assert [one.site for one in heard] == ["a", "b"]
    assert any("must be a whole npz file" in line for line in lines)
    assert b.transit_s < 0.2


def test_a_file_that_grows_is_on_its_way_for_as_long_as_it_does(folder):
    a = join(folder, "a", n_sites=2)
    join(folder, "b", n_sites=2)
    a = dataclasses.replace(a, transit_s=0.4)
    publish(a)
    whole = answer("b").write(charter=a.charter, number=0)
    file = give(folder, "b", b"")

    def send():
        step = -(-len(whole) // 10)
        for end in range(step, len(whole) + step, step):
            time.sleep(0.1)
            file.write_bytes(whole[:end])

    thread = threading.Thread(target=send)
    thread.start()
    heard, lines = gather(a, wait_s=20.0)
    thread.join()
    assert len(heard) == 2
    assert not any(line.startswith("warning") for line in lines)


def make_ill(monkeypatch, *, times, number=5):
    """The folder fails some times, as one on a network does."""
    genuine, left = files_module.os.listdir, [times]

    def fail(path):
        if left[0] > 0:
            left[0] -= 1
            raise OSError(number, "Input/output error", str(path))
        return genuine(path)

    monkeypatch.setattr(files_module.os, "listdir", fail)


def test_a_folder_that_is_away_for_a_while_is_waited_for(folder, monkeypatch):
    a, b = join(folder, "a", n_sites=2), join(folder, "b", n_sites=2)
    for one in (a, b):
        publish(one)
    make_ill(monkeypatch, times=3)
    heard, lines = gather(a, wait_s=20.0)
    assert len(heard) == 2
    assert "waiting for the folder ([Errno 5] Input/output error" in lines[0]


def test_a_folder_that_stays_away_is_one_line(folder, monkeypatch):
    a, b = join(folder, "a", n_sites=2), join(folder, "b", n_sites=2)
    for one in (a, b):
        publish(one)
    make_ill(monkeypatch, times=10**6)
    with pytest.raises(MeetingError, match="`--meeting` must be a folder to read and to write to"):
        gather(a)
    with pytest.raises(CharterError, match="`--meeting` must be a folder to read and to write to"):
        join(folder, "a", n_sites=2)


def test_a_folder_that_may_not_be_read_is_told_at_once(folder, monkeypatch):
    a = join(folder, "a")
    make_ill(monkeypatch, times=10**6, number=13)
    with pytest.raises(MeetingError, match="let the group of all sites read and write it"):
        gather(a, wait_s=60.0)
