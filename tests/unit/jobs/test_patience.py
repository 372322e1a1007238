"""Whatever asks a database waits for it while it is away."""

import time

import pytest
from sqlalchemy.exc import OperationalError

from autokd.errors import StorageError
from autokd.jobs import patience, patiently


def away(text="server closed the connection"):
    return OperationalError("UPDATE", {}, Exception(text))


def test_a_method_is_called_again_until_it_is_heard():
    left = [away(), away("database is locked")]

    def method(value, *, times):
        if left:
            raise left.pop()
        return value * times

    assert patiently(method)(3, times=2) == 6
    assert not left


def test_an_answer_that_was_lost_is_not_an_error():
    calls = []

    def method():
        calls.append(1)
        if len(calls) == 1:
            raise away()
        raise KeyError("already done")

    patient = patiently(method, when_heard_before=lambda error: isinstance(error, KeyError))
    assert patient() is True
    assert len(calls) == 2
    with pytest.raises(KeyError):  # the first attempt is no repetition
        patient()


def test_the_error_behind_an_error_is_looked_at():
    def method():
        if not seen:
            seen.append(1)
            raise RuntimeError from away()
        return "heard"

    seen = []
    assert patiently(method, cause_of=lambda error: error.__cause__ or error)() == "heard"
    seen.clear()
    with pytest.raises(RuntimeError):
        patiently(method)()


def test_patience_has_an_end_and_a_full_disk_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(patience, "_PATIENCE_S", 0.5)
    times = []

    def fail(text):
        def method():
            times.append(time.monotonic())
            raise away(text)

        return patiently(method)

    with pytest.raises(StorageError, match=r"without it: .*gone.*; run the same") as caught:
        fail("gone from postgresql://me:secret@host/db")()
    assert isinstance(caught.value.__cause__, OperationalError)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(times) > 1
    for text in ("database or disk is full", "attempt to write a readonly database"):
        times.clear()
        with pytest.raises(OperationalError, match=text):
            fail(text)()
        assert len(times) == 1


def test_who_has_waited_in_vain_does_not_wait_again_until_it_is_answered(monkeypatch):
    monkeypatch.setattr(patience, "_PATIENCE_S", 0.3)
    times = []

    @patiently
    def fail():
        times.append(time.monotonic())
        raise away()

    def count():
        times.clear()
        with pytest.raises(StorageError):
            fail()
        return len(times)

    assert count() > 1
    assert count() == 1, "as where a session tidies up"
    assert patiently(lambda: "here")() == "here"
    assert count() > 1
