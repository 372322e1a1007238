import dataclasses
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
        ({"magnitude": entry("uniform", 1, 13)}, "must be whole, got uniform of .*; use randint"),
        ({"generations": entry("quniform", 1, 3, 0.5)}, "`generations` must be whole"),
        ({"alpha": "much"}, "must be a number"),
        ({"is_adaptive": "yes"}, "`is_adaptive` must be true or false, got 'yes'"),
        ({"is_adaptive": entry("choice", 0, 1)}, "`is_adaptive` must be true or false, got 0"),
        ({"is_adaptive": entry("uniform", 0, 1)}, "`is_adaptive` must be a choice of false, true"),
        ({"loss": "hinton"}, "`loss` must be one of soft_targets, dkd"),
        ({"feature_loss": entry("choice", "none", None)}, "`feature_loss` must be one of none"),
        ({"alpha_schedule": "decay"}, "`alpha_schedule` must be one of constant"),
        ({"teacher_confidence": 1}, r"`teacher_confidence` must be in \[0, 0.999\], got 1"),
        ({"taught_by": "nobody"}, "`taught_by` must be one of teacher, assistant, both, got"),
        ({"taught_by": entry("uniform", 0, 1)}, "`taught_by` must be a choice of teacher"),
        ({"dkd_beta": -1}, r"`dkd_beta` must be in \[0, 1000\], got -1"),
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
    assert validate_recipe({"mix_alpha": 0.7}) == validate_recipe({})
    mixed = {"mix": "mixup", "mix_targets": "mixed"}
    assert validate_recipe(mixed).mix_targets == "mixed"
    for targets in ("mixed", "exact"):
        recipe = validate_recipe({**mixed, "mix_targets": targets, "feature_loss": "crd"})
        assert recipe.mix_targets == "exact", "which is how features of a mixture are found"
        plain = validate_recipe({**mixed, "mix_targets": targets, "loss": "cross_entropy"})
        assert plain.mix_targets == "mixed"
    assert validate_recipe({"mix": "mixup", "mix_alpha": 0.7}) != validate_recipe({"mix": "mixup"})


@pytest.mark.parametrize(
    ("values", "same"),
    [
        ({"dkd_beta": 2.0}, {}),
        ({"loss": "cross_entropy"}, {"alpha": 0.0}),
        ({"loss": "cross_entropy", "feature_loss": "crd", "dkd_beta": 1.0}, {"alpha": 0.0}),
        ({"alpha": 0.0, "loss": "dkd", "is_standardised": True}, {"alpha": 0.0}),
        ({"alpha": 0.0, "is_adaptive": True, "teacher_confidence": 0.5}, {"alpha": 0.0}),
        ({"alpha": 0.0, "temperature_end": 3.0}, {"alpha": 0.0}),
        ({"alpha": 0.0, "alpha_end": 0.7, "alpha_schedule": "warm_up"}, {"alpha": 0.0}),
        ({"temperature_end": 3.0}, {}),
        ({"temperature": 1.0, "is_adaptive": True}, {"temperature": 1.0}),
        ({"temperature": 1.0, "temperature_schedule": "warm_up"}, {"temperature": 1.0}),
        ({"temperature_schedule": "linear"}, {"temperature_schedule": "decay"}),
        ({"temperature_end": 4.0, "temperature_schedule": "step"}, {}),
        ({"feature_weight": 3.0, "feature_schedule": "cosine"}, {}),
        ({"feature_loss": "rkd", "feature_weight": 0.0}, {}),
        (
            {"feature_loss": "rkd", "feature_weight_end": 0.5},
            {"feature_loss": "rkd"},
        ),
        ({"alpha": 0.0, "taught_by": "both"}, {"alpha": 0.0}),
        ({"loss": "cross_entropy", "taught_by": "assistant"}, {"alpha": 0.0}),
    ],
)
def test_fields_that_do_not_matter_do_not_tell_recipes_apart(values, same):
    assert validate_recipe(values) == validate_recipe(same)


def test_what_only_the_twin_and_a_site_learn_by_is_kept():
    recipe = validate_recipe({"alpha": 1.0, "label_smoothing": 0.1, "is_balanced": True})
    assert not recipe.has_label_loss
    assert (recipe.label_smoothing, recipe.is_balanced) == (0.1, True)


@pytest.mark.parametrize(
    "values",
    [
        {"loss": "dkd", "dkd_beta": 2.0},
        {"loss": "dist"},
        {"is_standardised": True},
        {"is_adaptive": True},
        {"teacher_confidence": 0.5},
        {"alpha_schedule": "warm_up"},
        {"temperature_schedule": "cosine"},
        {"temperature_schedule": "linear", "temperature_end": 2.0},
        {"feature_loss": "hint"},
        {"feature_loss": "hint", "feature_weight": 2.0},
        {"feature_loss": "hint", "feature_schedule": "linear"},
        {"taught_by": "assistant"},
        {"alpha": 0.0, "feature_loss": "hint", "taught_by": "both"},
    ],
)
def test_fields_that_matter_tell_recipes_apart_and_are_settled_once(values):
    recipe = validate_recipe(values)
    assert recipe != validate_recipe({})
    assert validate_recipe(dataclasses.asdict(recipe)) == recipe
    assert all(getattr(recipe, name) == value for name, value in values.items())


def test_every_field_with_numbers_has_bounds(tmp_path):
    for field in dataclasses.fields(Recipe):
        if field.type in ("int", "float", int, float):
            load_recipe(write(tmp_path, **{field.name: field.default}))


def test_two_classes_are_not_standardised(tmp_path):
    shape = {"input_shape": (1, 8, 8), "n_classes": 2}
    space = build_space("mobile", recipe="default", **shape)
    assert "is_standardised" not in {one.label for one in space.dimensions}
    assert not any(space.freeze(space.random(seed))[1].is_standardised for seed in range(9))
    file = write(tmp_path, is_standardised=True)
    with pytest.raises(SpaceError, match="must be false with 2 classes"):
        build_space("mobile", recipe=str(file), **shape)
    overrides = {"is_standardised": False}
    build_space("mobile", recipe=str(file), overrides=overrides, **shape)


@pytest.mark.parametrize("values", [[False, True], [True, False]])
def test_a_flag_is_searched_or_pinned(tmp_path, values):
    entries = {"is_adaptive": entry("choice", *values), "is_standardised": True, "alpha": 0.5}
    file = write(tmp_path, **entries)
    space = build_space("mobile", recipe=str(file), input_shape=(1, 8, 8), n_classes=10)
    (dimension,) = [d for d in space.dimensions if d.room == "recipe"]
    assert (dimension.choices, dimension.default) == (tuple(values), values[0])
    for value in values:
        recipe = space.freeze({"is_adaptive": value})[1]
        assert (recipe.is_adaptive, recipe.is_standardised) == (value, True)


def test_a_recipe_of_the_wrong_type_is_refused():
    with pytest.raises(SpaceError, match="`optimiser`"):
        validate_recipe({"optimiser": "lion"})


def build(file, **options):
    return build_space("mobile", recipe=str(file), input_shape=(1, 8, 8), n_classes=10, **options)


def test_who_teaches_is_searched_where_there_is_an_assistant_and_only_there(tmp_path):
    file = write(tmp_path, alpha=0.5)
    assert [d.label for d in build(file).dimensions if d.room == "recipe"] == []
    assert build(file).freeze({})[1].taught_by == "teacher"
    space = build(file, has_assistant=True)
    (dimension,) = [d for d in space.dimensions if d.room == "recipe"]
    assert dimension.label == "taught_by"
    assert dimension.choices == ("teacher", "assistant", "both")
    assert dimension.default == space.first_choice()["taught_by"] == "assistant"
    for value in dimension.choices:
        assert space.freeze({"taught_by": value})[1].taught_by == value
    assert space.prior("textbook")["taught_by"] == "teacher"
    space.pin({"taught_by": "both"})
    assert space.freeze({})[1].taught_by == "both"


def test_a_recipe_that_says_who_teaches_is_taken_at_its_word(tmp_path):
    pinned = write(tmp_path, alpha=0.5, taught_by="assistant")
    assert build(pinned, has_assistant=True).freeze({})[1].taught_by == "assistant"
    chosen = write(tmp_path, alpha=0.5, taught_by=entry("choice", "both", "teacher"))
    (dimension,) = [d for d in build(chosen, has_assistant=True).dimensions if d.room == "recipe"]
    assert dimension.choices == ("both", "teacher")


@pytest.mark.parametrize(
    ("taught_by", "wanted"),
    [
        (entry("choice", "teacher", "assistant"), "assistant"),
        (entry("choice", "both", "assistant") | {"_default": "both"}, "both"),
        (entry("choice", "both", "teacher"), "teacher"),
        ("both", "both"),
    ],
)
def test_one_student_is_taught_by_the_assistant_unless_the_recipe_says_otherwise(
    tmp_path, taught_by, wanted
):
    space = build(write(tmp_path, taught_by=taught_by), has_assistant=True)
    assert space.freeze(space.first_choice())[1].taught_by == wanted
    space = build(write(tmp_path, alpha=0.5, taught_by="teacher"), has_assistant=True)
    assert space.freeze(space.first_choice())[1].taught_by == "teacher"


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("feature_loss", entry("choice", "none", "hint"), "hint"),
        ("is_adaptive", entry("choice", False, True), True),
        ("exits", entry("choice", 0, 1, 2), 1),
        ("teacher_confidence", entry("choice", 0.0, 0.5), 0.5),
        ("temperature", entry("loguniform", 1, 10), 2.0),
        ("alpha", entry("quniform", 0, 1, 0.05), 0.35),
        ("magnitude", entry("randint", 1, 9), 3),
        ("temperature", entry("normal", 4, 0.5), 5.0),
    ],
)
def test_one_student_gets_what_the_recipe_declares_as_a_default(tmp_path, name, given, wanted):
    more = {"augmentation": "randaugment"} if name == "magnitude" else {}
    space = build(write(tmp_path, **more, **{name: {**given, "_default": wanted}}))
    dimension = next(d for d in space.dimensions if d.label == name)
    assert dimension.default == pytest.approx(wanted)
    recipe = space.freeze(space.first_choice())[1]
    assert getattr(recipe, name) == pytest.approx(wanted)
    plain = build(write(tmp_path, **more, **{name: given}))
    bounds = [(d.label, d.choices, d.low, d.high, d.step) for d in space.dimensions]
    assert bounds == [(d.label, d.choices, d.low, d.high, d.step) for d in plain.dimensions]
    assert space.random(3) == plain.random(3)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("feature_loss", entry("choice", "none", "hint") | {"_default": "fsp"}, "one of .*got fsp"),
        ("alpha", entry("uniform", 0, 1) | {"_default": 2}, r"in \[0, 1\], got 2"),
        ("alpha", entry("uniform", 0, 1) | {"_default": "much"}, "a number, got much"),
        ("alpha", entry("quniform", 0, 1, 0.5) | {"_default": 0.3}, "0 plus a multiple of 0.5"),
        ("exits", entry("choice", 0, 1) | {"_default": [1]}, "one of .*got"),
    ],
)
def test_a_default_must_lie_in_its_dimension(tmp_path, name, given, message):
    with pytest.raises(SpaceError, match=f"`{name}: _default` must be {message}"):
        load_recipe(write(tmp_path, **{name: given}))


def test_what_no_recipe_declares_is_the_textbooks(tmp_path):
    file = write(
        tmp_path,
        alpha=entry("choice", 0.0, 0.5, 0.9), loss=entry("choice", "dkd", "soft_targets"),
        learning_rate=entry("choice", 0.001, 0.006), augmentation=entry("choice", "none", "crop"),
    )  # fmt: skip
    recipe = build(file).freeze(build(file).first_choice())[1]
    assert (recipe.alpha, recipe.loss) == (0.9, "soft_targets")
    assert (recipe.learning_rate, recipe.augmentation) == (0.006, "none")


@pytest.mark.parametrize("asked", ["assistant", "both", entry("choice", "teacher", "both")])
def test_a_recipe_that_asks_for_an_assistant_that_is_not_there_is_refused(tmp_path, asked):
    message = "`taught_by` must be teacher where there is no assistant, got .*; pass --assistant"
    with pytest.raises(SpaceError, match=message):
        build(write(tmp_path, taught_by=asked))
    build(write(tmp_path, taught_by="teacher"))
