import json

import pytest

from autokd.errors import SpaceError
from autokd.spaces import build_space, load_recipe
from autokd.spaces.recipes import validate_recipe
from autokd.types import Recipe


def write(tmp_path, **entries):
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(entries))
    return file


def entry(kind, *numbers):
    return {"_type": kind, "_value": list(numbers)}


@pytest.mark.parametrize(
    ("name", "given", "low", "high", "step", "is_log"),
    [
        ("temperature", entry("uniform", 1, 8), 1, 8, None, False),
        ("temperature", entry("loguniform", 1, 8), 1, 8, None, True),
        ("temperature", entry("quniform", 1.3, 8, 0.5), 1.5, 8, 0.5, False),
        ("temperature", entry("qloguniform", 1, 8, 1), 1, 8, None, True),
        ("magnitude", entry("randint", 2, 9), 2, 8, 1, False),
        ("temperature", entry("normal", 4, 0.5), 2.5, 5.5, None, False),
        ("temperature", entry("qnormal", 4, 0.5, 1), 3, 5, 1, False),
    ],
)
def test_each_kind_of_number_becomes_a_range(tmp_path, name, given, low, high, step, is_log):
    file = write(tmp_path, **{name: given})
    space = build_space("mobile", recipe=str(file), input_shape=(1, 8, 8), n_classes=10)
    dimension = next(d for d in space.dimensions if d.label == name)
    assert dimension.low == pytest.approx(low, abs=0.01)
    assert dimension.high == pytest.approx(high, abs=0.01)
    assert (dimension.step, dimension.is_log) == (step, is_log)
    for seed in range(5):
        space.freeze(space.random(seed))


def test_a_lognormal_dimension_is_searched_in_its_logarithm(tmp_path):
    file = write(tmp_path, learning_rate=entry("lognormal", -5, 0.5))
    space = build_space("mobile", recipe=str(file), input_shape=(1, 8, 8), n_classes=10)
    dimension = next(d for d in space.dimensions if d.label == "learning_rate")
    assert dimension.is_log
    assert dimension.low < 0.0067 < dimension.high


def test_a_plain_value_pins_and_a_missing_field_keeps_its_default(tmp_path):
    file = write(tmp_path, alpha=0.5, augmentation=entry("choice", "none", "crop"))
    space = build_space("mobile", recipe=str(file), input_shape=(1, 8, 8), n_classes=10)
    _, recipe = space.freeze({})
    assert recipe.alpha == 0.5
    assert recipe.learning_rate == Recipe().learning_rate
    assert {d.label for d in space.dimensions if d.room == "recipe"} == {"augmentation"}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"temprature": 4}, "did you mean `temperature`"),
        ({"temperature": entry("unifrom", 1, 2)}, "_type must be one of"),
        ({"temperature": {"_type": "uniform"}}, "keys _type and _value"),
        ({"temperature": {"_type": "uniform", "_value": [1, 2], "x": 1}}, "keys"),
        ({"temperature": entry("uniform", 1)}, "must be 2 numbers"),
        ({"temperature": entry("uniform", 5, 1)}, "low < high"),
        ({"temperature": entry("loguniform", 0, 1)}, "0 < low < high"),
        ({"temperature": entry("quniform", 1, 5, 0)}, "step must be positive"),
        ({"temperature": entry("normal", 1, -1)}, "sigma must be positive"),
        ({"temperature": entry("choice")}, "a choice in it"),
        ({"temperature": entry("choice", 0)}, r"must be in \[0.05"),
        ({"alpha": entry("uniform", 0, 2)}, r"`alpha` must be in \[0, 1\], got 2"),
        ({"augmentation": entry("choice", "crop", "blur")}, "got 'blur'"),
        ({"augmentation": entry("uniform", 0, 1)}, "must be a choice"),
        ({"augmentation": entry("choice", "crop", "crop")}, "must differ"),
        ({"magnitude": 2.5}, "whole number"),
        ({"alpha": "much"}, "must be a number"),
        ({}, "mapping of dimensions"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_value(tmp_path, entries, message):
    with pytest.raises(SpaceError, match=message):
        load_recipe(write(tmp_path, **entries))


def test_all_faults_of_a_recipe_are_told_at_once(tmp_path):
    file = write(tmp_path, alhpa=1, temperature=entry("choice"))
    with pytest.raises(SpaceError) as error:
        load_recipe(file)
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize(("name", "text"), [("r.yaml", "a: ["), ("r.json", "{"), ("r.yaml", "- 1")])
def test_a_file_that_is_no_recipe_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(SpaceError, match=name):
        load_recipe(tmp_path / name)


def test_a_missing_recipe_is_refused():
    with pytest.raises(SpaceError, match="--recipe"):
        build_space("mobile", recipe="none.yaml", input_shape=(1, 8, 8), n_classes=10)
    with pytest.raises(SpaceError, match="--recipe"):
        build_space("mobile", recipe="mobile", input_shape=(1, 8, 8), n_classes=10)


def test_recipes_that_do_the_same_are_equal():
    plain = {"alpha": 0.0, "augmentation": "crop"}
    assert validate_recipe({**plain, "temperature": 4.0, "magnitude": 3}) == validate_recipe(plain)
    assert validate_recipe({"alpha": 0.5, "alpha_end": 0.1}) == validate_recipe({"alpha": 0.5})
    assert validate_recipe(
        {"alpha": 0.5, "alpha_end": 0.5, "alpha_schedule": "cosine"}
    ) == validate_recipe({"alpha": 0.5})
    assert validate_recipe({"alpha": 1.0, "label_smoothing": 0.1}) == validate_recipe(
        {"alpha": 1.0}
    )
    assert validate_recipe({"mix_alpha": 0.7}) == validate_recipe({})
    assert validate_recipe({"mix": "mixup", "mix_alpha": 0.7}) != validate_recipe({"mix": "mixup"})


def test_a_recipe_of_the_wrong_type_is_refused():
    with pytest.raises(SpaceError, match="`optimiser`"):
        validate_recipe({"optimiser": "lion"})
