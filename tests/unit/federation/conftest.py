"""A folder to meet in."""

import pytest


@pytest.fixture
def folder(tmp_path):
    """Of a meeting; each site has a home beside it."""
    path = tmp_path / "meeting"
    path.mkdir()
    return path
