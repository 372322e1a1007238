import pytest

from autokd.config import Config
from autokd.data import load_data
from autokd.errors import DataError


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        ("digit", "digits"),
        ("digits:8", "digits"),
        ("Folder", "folder"),
        ("torchvison:MNIST", "torchvision"),
        ("npz:", "npz"),
        ("set.npz", "npz:set.npz"),
    ],
)
def test_an_unknown_source_is_refused_with_a_hint(data, hint):
    with pytest.raises(DataError, match=f"got '{data}'; did you mean `{hint}`"):
        load_data(Config(data=data))


def test_a_bare_folder_is_hinted_at(tmp_path):
    with pytest.raises(DataError, match=f"did you mean `folder:{tmp_path}`"):
        load_data(Config(data=str(tmp_path)))


def test_nonsense_is_refused_without_a_hint():
    with pytest.raises(DataError, match=r"got 'xyzzy'$"):
        load_data(Config(data="xyzzy"))
