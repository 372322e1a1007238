"""What `--student` can name, and what is wrong with what it names."""

import pytest
import torch

from autokd.errors import SpaceError
from autokd.spaces import build_space, parse_student, pin_student

SHAPE = (1, 8, 8)


def build(text, shape=SHAPE, n_classes=3):
    request = parse_student(text)
    space = build_space(request.space, recipe="default", input_shape=shape, n_classes=n_classes)
    pin_student(space, request.values)
    return space


def logits_of(space, shape=SHAPE):
    return space.freeze({})[0].eval()(torch.zeros(2, *shape))


@pytest.mark.parametrize(
    ("text", "space", "values"),
    [
        ("mobile", "mobile", {}),
        ("mobile:width=0.5, depth=2", "mobile", {"width": "0.5", "depth": "2"}),
        ("hub:mobilenetv3", "hub:mobilenetv3", {}),
        ("my/own.py:build", "my/own.py:build", {}),
        ("my/own.py:build:width=8", "my/own.py:build", {"width": "8"}),
        ("timm:resnet18", "timm:resnet18", {}),
        ("python:net.py:build", "python:net.py:build", {}),
    ],
)
def test_a_student_is_a_space_and_values(text, space, values):
    request = parse_student(text)
    assert (request.space, dict(request.values)) == (space, values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mobile:width=", "`--student` must be SPACE:key=value"),
        ("mobile:width_1=8,depth", "got 'depth' in"),
        ("mobile:width_1=8,width_1=8", "name each dimension once, got width_1 twice"),
        ("timm:resnet18:width=2", "has no dimensions, got width"),
    ],
)
def test_a_student_that_cannot_be_read_is_one_line(text, message):
    with pytest.raises(SpaceError, match=message):
        parse_student(text)


def test_what_is_not_named_takes_its_default():
    space, plain = build("mobile:depth_2=3"), build("mobile")
    ours, default = (s.architecture_of(s.complete({})) for s in (space, plain))
    assert ours == {**default, "depth_2": 3}


def test_a_name_without_number_stands_for_all_that_have_one():
    space = build("mobile:depth=1")
    sample = space.complete({})
    assert [sample[f"depth_{stage}"] for stage in (1, 2, 3)] == [1, 1, 1]


@pytest.mark.parametrize(("text", "widths"), [("0.5", [8, 16, 32]), ("2", [32, 64, 128])])
def test_a_number_that_is_no_value_is_a_multiple_of_the_default(text, widths):
    sample = build(f"mobile:width={text}").complete({})
    assert [sample[f"width_{stage}"] for stage in (1, 2, 3)] == widths


def test_a_value_goes_before_a_multiple():
    assert build("resnet:width=8").complete({})["width"] == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "mobile:widht=2",
            "`--student widht` must name a dimension of mobile; did you mean `width`",
        ),
        ("mobile:temperature=2", "must name a dimension"),
        ("mobile:depth_1=9", r"`depth_1` must be one of \[2, 1, 3\], got 9"),
        ("mobile:width=0.3", "`width_1` must be one of"),
        ("mobile:activation=gelu", "`activation` must be one of"),
        ("mobile:squeeze_excite=2", "`squeeze_excite` must be one of"),
    ],
)
def test_a_wrong_dimension_or_value_is_one_line(text, message):
    with pytest.raises(SpaceError, match=message):
        build(text)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("resnet10t", (1, 8, 8)), ("test_vit", (3, 32, 32)), ("test_vit", (1, 8, 12))],
)
def test_a_network_of_timm_fits_the_pictures_and_the_classes(name, shape):
    space = build(f"timm:{name}", shape=shape, n_classes=5)
    assert {one.room for one in space.dimensions} == {"recipe"}
    assert logits_of(space, shape).shape == (2, 5)


def test_a_transformer_cuts_small_pictures_into_as_many_patches_as_its_own():
    network = build("timm:test_vit", shape=(1, 40, 40)).freeze({})[0]
    assert network.patch_embed.grid_size == (10, 10), "160 px in patches of 16"


def test_fresh_weights_are_drawn_each_time():
    space = build("timm:resnet10t")
    torch.manual_seed(0)
    first, second = (next(space.freeze({})[0].parameters()) for _ in range(2))
    assert not torch.equal(first, second)


def test_building_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    build("timm:test_vit", shape=(1, 16, 16))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_network_of_timm_is_told_with_its_neighbours():
    with pytest.raises(SpaceError, match=r"must be a network of timm; did you mean .*resnet18"):
        build("timm:resnt18")


def test_a_network_that_cannot_take_the_pictures_is_one_line():
    with pytest.raises(SpaceError, match="`timm:vgg11` must take pictures of 1x8x8, got ") as error:
        build("timm:vgg11")
    assert len(str(error.value).splitlines()) == 1


OWN = """
import torch
from torch import nn

def build(shape, n_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], n_classes))

def plain():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

def wrong(shape, n_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))

def number(shape, n_classes):
    return 3

def broken(shape, n_classes):
    raise RuntimeError("my bug")
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return lambda function: build(f"python:{tmp_path / 'own.py'}:{function}")


@pytest.mark.parametrize("function", ["build", "plain"])
def test_a_function_of_the_user_builds_the_student(own, function):
    assert logits_of(own(function)).shape == (2, 3)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("wrong", r"outputs of \(2, 7\) instead of \(batch, 3\) logits"),
        ("number", "must return a torch.nn.Module, got int"),
        ("broken", "must build a network, got RuntimeError: my bug"),
        ("nothing", "nothing must be a function"),
    ],
)
def test_a_wrong_function_of_the_user_is_one_line(own, function, message):
    with pytest.raises(SpaceError, match=message):
        own(function)
