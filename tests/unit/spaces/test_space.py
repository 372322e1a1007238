import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from autokd.errors import BuildError, SpaceError
from autokd.spaces import build_space, load_architecture

SIZES = [(1, 8, 8), (3, 32, 32), (3, 48, 64), (3, 224, 224)]


def space_of(name, shape=(1, 8, 8), n_classes=10):
    return build_space(name, recipe="default", input_shape=shape, n_classes=n_classes)


def count_params(network: nn.Module) -> float:
    return float(sum(p.numel() for p in network.parameters()))


@pytest.fixture(scope="module")
def mobile():
    return space_of("mobile")


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("name", ["mobile", "resnet", "vit"])
def test_a_bundled_space_fits_pictures_of_any_size(name, shape):
    space = space_of(name, shape, n_classes=7)
    for sample in ({}, space.random(1), space.random(2)):
        student, _ = space.freeze(sample)
        with torch.no_grad():
            assert student.eval()(torch.zeros(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("name", ["MobileNetV3Space", "NasBench201", "DARTS"])
def test_a_space_of_the_hub_fits_small_grey_pictures(name):
    space = space_of(f"hub:{name}")
    student, _ = space.freeze(space.random(0))
    with torch.no_grad():
        assert student.eval()(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_sample_drawn_frozen_and_completed_is_the_same_sample(mobile, seed):
    sample = mobile.random(seed)
    assert mobile.complete(sample) == sample
    first, recipe = mobile.freeze(sample)
    second, again = mobile.freeze(sample)
    assert repr(first) == repr(second)
    assert recipe == again


def test_each_dimension_of_the_architecture_changes_the_student(mobile):
    default = repr(mobile.freeze({})[0])
    for dimension in mobile.dimensions:
        if dimension.room == "architecture":
            other = next(value for value in dimension.choices if value != dimension.default)
            assert repr(mobile.freeze({dimension.label: other})[0]) != default, dimension.label


def test_a_frozen_student_is_made_of_plain_modules(mobile):
    student, _ = mobile.freeze(mobile.random(3))
    inner = [module for module in student.modules() if module is not student]
    assert not [m for m in inner if type(m).__name__.startswith("Mutable")]


def test_a_value_outside_its_dimension_is_refused(mobile):
    with pytest.raises(SpaceError, match="in the space"):
        mobile.freeze({"width_1": 17})


def test_an_unknown_label_is_refused(mobile):
    with pytest.raises(SpaceError, match="`depth_9`"):
        mobile.freeze({"depth_9": 1})


def test_a_pinned_dimension_is_searched_no_more():
    space = space_of("mobile")
    space.pin({"temperature": "4", "width_1": "8", "squeeze_excite": "true"})
    labels = {dimension.label for dimension in space.dimensions}
    assert not labels & {"temperature", "width_1", "squeeze_excite"}
    assert space.freeze({})[1].temperature == 4.0 or space.freeze({})[1].alpha == 0
    assert space.complete({})["width_1"] == 8
    assert space.complete({"width_1": 16})["width_1"] == 8
    assert space.complete({})["squeeze_excite"] is True


@pytest.mark.parametrize(
    ("pin", "message"),
    [
        ({"temprature": "4"}, "did you mean `temperature`"),
        ({"temperature": "40"}, r"must be in \[1, 10\], got 40"),
        ({"temperature": "hot"}, "must be a number, got hot"),
        ({"width_1": "17"}, r"must be one of \[16, 8, 24, 32\], got 17"),
    ],
)
def test_a_wrong_pin_is_refused(pin, message):
    with pytest.raises(SpaceError, match=message):
        space_of("mobile").pin(pin)


def test_the_priors_are_what_a_specialist_would_try(mobile):
    plain, textbook = mobile.freeze(mobile.prior("plain")), mobile.freeze(mobile.prior("textbook"))
    assert repr(plain[0]) == repr(textbook[0])
    assert not plain[1].is_distilled
    assert (textbook[1].alpha, textbook[1].temperature) == (pytest.approx(0.9), 4.0)


@pytest.mark.parametrize("recipe", ["default", "features"])
def test_the_textbook_is_plain_soft_targets_and_so_is_every_default(recipe):
    space = build_space("mobile", recipe=recipe, input_shape=(1, 8, 8), n_classes=10)
    textbook = space.freeze(space.prior("textbook"))[1]
    pinned = (textbook.loss, textbook.is_standardised, textbook.is_adaptive, textbook.feature_loss)
    assert pinned == ("soft_targets", False, False, "none")
    assert (textbook.alpha_schedule, textbook.temperature_schedule) == ("constant", "constant")
    assert not space.freeze(space.prior("plain"))[1].is_distilled
    defaults = {d.label: d.default for d in space.dimensions}
    assert (defaults["loss"], defaults["dkd_beta"]) == ("soft_targets", 8)
    assert (defaults["is_standardised"], defaults["is_adaptive"]) == (False, False)
    assert defaults["alpha_schedule"] == defaults["temperature_schedule"] == "constant"


def test_what_a_sample_decides_is_what_makes_a_difference(mobile):
    chosen = mobile.undecided(mobile.first_choice())
    assert chosen["alpha"] == pytest.approx(0.9)
    assert {"loss", "temperature", "augmentation", "mix", "learning_rate"} < set(chosen)
    assert not {"dkd_beta", "mix_alpha", "magnitude", "alpha_end", "width_1"} & set(chosen)
    dkd = mobile.undecided({**mobile.first_choice(), "loss": "dkd", "mix": "cutmix"})
    assert set(dkd) - set(chosen) == {"dkd_beta", "mix_alpha", "mix_targets"}
    alone = mobile.undecided({**mobile.first_choice(), "alpha": 0.0})
    assert not {"loss", "temperature", "is_adaptive"} & set(alone)


def test_what_is_pinned_is_decided():
    space = space_of("mobile")
    space.pin({"alpha": "0.5", "mix": "mixup"})
    assert space.first_choice()["alpha"] == 0.5
    assert not {"alpha", "mix"} & set(space.undecided(space.first_choice()))


def test_the_smallest_student_is_smaller_than_the_largest(mobile):
    small, large = mobile.extremes(count_params)
    sizes = [count_params(mobile.freeze(sample)[0]) for sample in (small, {}, large)]
    assert sizes[0] < sizes[1] < sizes[2]
    assert set(small) == {d.label for d in mobile.dimensions if d.room == "architecture"}


def test_without_time_the_extremes_are_the_ends_of_the_dimensions(mobile):
    small, large = mobile.extremes(count_params, timeout_s=0.0)
    assert (small["width_3"], large["width_3"]) == (32, 128)


def test_code_of_the_user_that_fails_while_building_is_a_build_error(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text(
        "from nni.mutable import Categorical\n"
        "from nni.nas.nn.pytorch import ModelSpace, ParametrizedModule\n"
        "from torch import nn\n"
        "class Block(ParametrizedModule):\n"
        "    def __init__(self, width):\n"
        "        super().__init__()\n"
        "        if width == 2: raise RuntimeError('width two')\n"
        "        self.linear = nn.Linear(64, 10)\n"
        "    def forward(self, x): return self.linear(x.flatten(1))\n"
        "class Space(ModelSpace):\n"
        "    def __init__(self, shape, n):\n"
        "        super().__init__()\n"
        "        self.block = Block(Categorical([1, 2], label='width'))\n"
        "    def forward(self, x): return self.block(x)\n"
        "def build(shape, n): return Space(shape, n)\n"
    )
    space = space_of(f"{file}:build")
    space.freeze({"width": 1})
    with pytest.raises(BuildError, match="width two"):
        space.freeze({"width": 2})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise RuntimeError('no')", "RuntimeError: no"),
        ("import nothing_like_this", "ModuleNotFoundError"),
        ("def build(shape, n): raise ValueError('bad shape')", "ValueError: bad shape"),
        ("def build(shape, n): return 3", "ModelSpace, got int"),
        ("def other(shape, n): return 3", "it has: other"),
        ("def build(", "SyntaxError"),
    ],
)
def test_a_space_file_that_is_wrong_is_one_line(tmp_path, text, message):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(SpaceError, match=message) as error:
        load_architecture(f"{file}:build", input_shape=(1, 8, 8), n_classes=10)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["mobil", "none.py:build", "hub:Nothing", "default"])
def test_an_unknown_space_is_refused(name):
    with pytest.raises(SpaceError, match="--space"):
        load_architecture(name, input_shape=(1, 8, 8), n_classes=10)


def test_one_label_in_both_halves_is_refused(tmp_path):
    file = tmp_path / "twice.py"
    file.write_text(
        "from nni.mutable import Categorical\n"
        "from nni.nas.nn.pytorch import ModelSpace, MutableLinear\n"
        "class Space(ModelSpace):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.l = MutableLinear(64, Categorical([10, 20], label='temperature'))\n"
        "def build(shape, n): return Space()\n"
    )
    with pytest.raises(SpaceError, match="`temperature`"):
        space_of(f"{file}:build")


def test_the_values_that_a_field_of_the_recipe_can_take():
    space = build_space("mobile", recipe="features", input_shape=(1, 8, 8), n_classes=10)
    losses = {"none", "hint", "attention", "fsp", "rkd", "crd"}
    assert space.values_of("feature_loss") == losses
    space.pin({"feature_loss": "hint"})
    assert space.values_of("feature_loss") == {"hint"}
    plain = build_space(
        "mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10,
        overrides={"feature_loss": "rkd"},
    )  # fmt: skip
    assert plain.values_of("feature_loss") == {"rkd"}
    assert plain.values_of("exits") == set()


@pytest.mark.parametrize(("side", "is_searched"), [(32, False), (64, True)])
def test_pictures_from_64_pixels_on_may_be_resized_progressively(side, is_searched):
    space = build_space("mobile", recipe="default", input_shape=(3, side, side), n_classes=10)
    assert ("resizing" in {d.label for d in space.dimensions}) == is_searched
    assert space.freeze(space.prior("textbook"))[1].resizing == "none"
    if is_searched:
        assert space.freeze({"resizing": "progressive"})[1].resizing == "progressive"


@pytest.mark.parametrize(
    ("overrides", "pins", "schedule"),
    [
        ({"loss": "dkd"}, {}, "warm_up"),
        ({}, {"loss": "dkd"}, "warm_up"),
        ({"loss": "dist"}, {}, "constant"),
        ({"loss": "dkd"}, {"alpha_schedule": "linear", "alpha_end": "0.5"}, "linear"),
        ({"loss": "dkd", "alpha": 0.9, "alpha_end": 0.9, "alpha_schedule": "constant"}, {}, None),
    ],
)
def test_the_weight_of_dkd_rises_unless_told_otherwise(overrides, pins, schedule):
    options = {"input_shape": (1, 8, 8), "n_classes": 10, "overrides": overrides}
    space = build_space("mobile", recipe="default", **options)
    space.pin(pins)
    recipe = space.freeze(space.first_choice())[1]
    assert recipe.alpha_schedule == (schedule or "constant")
    assert (recipe.alpha, recipe.loss) == (0.9, {**overrides, **pins}["loss"])


def test_students_of_one_size_of_picture_are_not_resized_unless_the_recipe_says_so(tmp_path):
    options = {"input_shape": (3, 64, 64), "n_classes": 10}
    space = build_space("vit", recipe="default", **options)  # its positions are of one number
    assert "resizing" not in {dimension.label for dimension in space.dimensions}
    assert space.freeze(space.random(0))[1].resizing == "none"
    recipe = tmp_path / "resized.yaml"
    recipe.write_text("resizing: progressive\n")
    assert build_space("vit", recipe=str(recipe), **options).values_of("resizing") == {
        "progressive"
    }


def test_precision_is_searched_only_where_it_is_asked_for():
    def labels(**options):
        space = build_space(
            "mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10, **options
        )
        return space, {one.label: one.room for one in space.dimensions}

    space, rooms = labels()
    assert "precision" not in rooms
    assert space.freeze({})[1].precision == "fp32"
    space, rooms = labels(precision="both")
    assert rooms["precision"] == "precision"
    assert space.values_of("precision") == {"fp32", "int8"}
    assert space.prior("plain")["precision"] == "fp32"
    sample = space.complete({"precision": "int8"})
    assert space.freeze(sample)[1].precision == "int8"
    assert space.network_of(sample) == {**space.architecture_of(sample), "precision": "int8"}
    space, rooms = labels(precision="int8")
    assert "precision" not in rooms
    assert space.freeze({})[1].precision == "int8"


def test_a_recipe_can_say_the_precision_too(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("alpha: 0.5\nprecision: {_type: choice, _value: [fp32, int8]}\n")
    options = {"recipe": str(file), "input_shape": (1, 8, 8), "n_classes": 10}
    assert build_space("mobile", **options).values_of("precision") == {"fp32", "int8"}
    held = build_space("mobile", precision="fp32", **options)
    assert held.values_of("precision") == {"fp32"}


def test_a_pin_between_two_steps_is_refused_and_not_rounded():
    space = space_of("mobile")
    with pytest.raises(SpaceError, match=r"`magnitude` must be .* multiple of .*try 2"):
        space.pin({"magnitude": "2.4"})


def test_a_value_that_builds_nothing_is_no_end_of_a_dimension(mobile, monkeypatch):
    choices = next(one.choices for one in mobile.dimensions if one.label == "width_3")
    real = type(mobile)._cost_of

    def cost_of(space, values, cost):
        is_bad = values.get("width_3") == choices[0]
        return float("nan") if is_bad else real(space, values, cost)

    monkeypatch.setattr(type(mobile), "_cost_of", cost_of)
    small, large = mobile.extremes(count_params)
    assert (small["width_3"], large["width_3"]) == (choices[1], choices[-1])
