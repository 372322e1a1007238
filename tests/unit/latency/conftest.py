"""What the tests of latencies share."""

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache of the session's own, so that the reference is timed once."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("AUTOKD_CACHE", str(folder))
    return folder
