"""Nobody has waited for a database in vain before a test begins."""

import threading

import pytest

from autokd.jobs import patience


@pytest.fixture(autouse=True)
def hopeful(monkeypatch):
    monkeypatch.setattr(patience, "_LOST", threading.Event())
