import pytest

from autokd.errors import SpaceError
from autokd.spaces import copy_space, describe_space, list_spaces, load_architecture


def test_every_bundled_file_is_listed_with_what_it_is():
    found = list_spaces()
    assert set(found) == {"default", "hub", "mobile", "resnet", "vit"}
    assert all(len(text) > 20 for text in found.values())


def test_a_copied_space_can_be_used_as_it_is(tmp_path):
    file = copy_space("mobile", tmp_path / "mine")
    space = load_architecture(f"{file}:build", input_shape=(1, 8, 8), n_classes=3)
    assert "width_1" in space.simplify()


def test_copying_never_overwrites(tmp_path):
    copy_space("default", tmp_path)
    with pytest.raises(SpaceError, match="must not exist"):
        copy_space("default", tmp_path)


def test_copying_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(SpaceError, match="got none"):
        copy_space("none", tmp_path)


@pytest.mark.parametrize("name", ["mobile", "default"])
def test_a_space_and_a_recipe_can_be_described(name):
    space = describe_space(name, input_shape=(3, 32, 32), n_classes=10)
    assert {d.room for d in space.dimensions} == {"architecture", "recipe"}
