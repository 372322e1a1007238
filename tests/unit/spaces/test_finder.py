import dataclasses

import pytest

from autokd.errors import SpaceError
from autokd.spaces import build_space, copy_space, describe_space, list_spaces, load_architecture


def test_every_bundled_file_is_listed_with_what_it_is():
    found = list_spaces()
    assert set(found) == {"default", "features", "hub", "mobile", "resnet", "self", "shift", "vit"}
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


@pytest.mark.parametrize("name", ["mobile", "default", "features", "self", "shift"])
def test_a_space_and_a_recipe_can_be_described(name):
    space = describe_space(name, input_shape=(3, 32, 32), n_classes=10)
    assert {d.room for d in space.dimensions} == {"architecture", "recipe"}


def recipe_of(name, **options):
    space = build_space("mobile", recipe=name, input_shape=(1, 8, 8), n_classes=10, **options)
    return space, {d.label: d for d in space.dimensions if d.room == "recipe"}


def test_the_recipe_with_features_is_the_default_one_and_features():
    default, features = recipe_of("default")[1], recipe_of("features")[1]
    assert default.items() <= features.items()
    assert set(features) - set(default) == {"feature_loss", "feature_weight", "feature_schedule"}


def test_the_recipe_for_a_shift_is_the_default_one_but_for_what_it_believes():
    default, shift = recipe_of("default")[1], recipe_of("shift")[1]
    changed = {"alpha", "alpha_end", "alpha_schedule", "is_adaptive"}
    assert set(default) - set(shift) == {"loss", "dkd_beta"}
    assert set(shift) - set(default) == {"teacher_confidence"}
    assert all(shift[label] == default[label] for label in set(shift) & set(default) - changed)
    assert [(shift[name].low, shift[name].high) for name in ("alpha", "alpha_end")] == [
        (0.5, 1)
    ] * 2
    assert shift["teacher_confidence"].choices == (0.0, 0.5, 0.7, 0.9)
    assert shift["is_adaptive"].choices == (True, False)
    assert set(default["alpha_schedule"].choices) - set(shift["alpha_schedule"].choices) == {
        "warm_up"
    }


def test_no_trial_of_the_recipe_for_a_shift_is_without_the_teacher():
    space = recipe_of("shift")[0]
    recipes = [space.freeze(space.random(seed))[1] for seed in range(20)]
    assert all(recipe.loss == "soft_targets" and recipe.has_logit_loss for recipe in recipes)
    assert space.freeze(space.prior("plain"))[1].is_distilled
    textbook = space.freeze(space.prior("textbook"))[1]
    assert (textbook.teacher_confidence, textbook.is_adaptive) == (0.0, False)


@pytest.mark.parametrize(
    ("name", "purpose"),
    [
        ("default", {}),
        ("features", {"feature_loss": "crd"}),
        ("self", {"exits": 2}),
        ("shift", {"is_adaptive": True, "teacher_confidence": 0.5}),
    ],
)
def test_each_bundled_recipe_is_for_something_with_one_student_too(name, purpose):
    space = recipe_of(name)[0]
    textbook = space.freeze(space.prior("textbook"))[1]
    chosen = space.freeze(space.first_choice())[1]
    assert chosen == dataclasses.replace(textbook, **purpose)
    plain = space.freeze(space.prior("plain"))[1]
    assert not plain.is_self_distilled, "the first trial of a search stays without distillation"
    assert not plain.has_feature_loss


def test_a_folder_of_its_name_does_not_hide_a_bundled_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "self").mkdir()
    assert recipe_of("self")[1]


def test_overrides_win_over_the_recipe_file_and_are_searched_no_more():
    fields = {"loss": "dkd", "is_adaptive": True, "feature_loss": "hint"}
    space, dimensions = recipe_of("default", overrides=fields)
    assert not set(dimensions) & set(fields)
    assert set(dimensions) == set(recipe_of("default")[1]) - set(fields)
    recipe = space.freeze({"alpha": 0.5})[1]
    assert all(getattr(recipe, name) == value for name, value in fields.items())
