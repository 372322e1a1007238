"""Waiting: for others, for a folder that is away, until the user ends it."""

import errno

import pytest

from autokd.federation import Patience


def trying(acts, **options):
    """What comes of acts that are done one after another, and what is said."""
    rest, lines = iter(acts), []

    def act():
        one = next(rest)
        if isinstance(one, Exception):
            raise one
        return one

    values = {"wait_s": 10.0, "pause_s": 0.0, "say": lines.append}
    patience = Patience(**{**values, **options})
    return patience.keep_trying(act, title="round 1", waiting_for=lambda: "b"), lines


def test_it_is_tried_until_something_comes_and_said_once():
    assert trying([None, None, 3]) == (3, ["round 1: waiting for b, 10 s at the longest"])
    assert trying([3]) == (3, [])
    assert trying([None, 0], wait_s=600.0)[1] == ["round 1: waiting for b, 10 min at the longest"]


def test_trouble_that_passes_is_waited_out():
    stale = OSError(errno.ESTALE, "Stale file handle")
    found, (line,) = trying([stale, stale, 3])
    assert found == 3
    assert "waiting for the folder" in line
    assert "Stale file handle" in line


def test_trouble_that_does_not_pass_is_raised_at_once():
    with pytest.raises(PermissionError):
        trying([PermissionError(errno.EACCES, "Permission denied"), 3])


def test_patience_ends():
    assert trying([None, 3], wait_s=0.0) == (None, [])
    with pytest.raises(OSError, match="Stale"):
        trying([OSError(errno.ESTALE, "Stale file handle"), 3], wait_s=0.0)


def test_the_user_ends_it():
    with pytest.raises(KeyboardInterrupt):
        trying([None, 3], is_over=lambda: True)
