"""Choices among what has no number: classes, functions, tuples of a space file of the user's."""

import json

import pytest
import torch
from torch import nn

from autokd.errors import SpaceError
from autokd.spaces import build_space

SPACE = """
from functools import partial
from nni.mutable import Categorical, CategoricalMultiple
from nni.nas.nn.pytorch import ModelSpace, ParametrizedModule
from torch import nn

class Narrow(nn.Linear):
    def __init__(self, n): super().__init__(64, n)

class Wide(nn.Sequential):
    def __init__(self, n): super().__init__(nn.Linear(64, 32), nn.Linear(32, n))

def mean(n): return Narrow(n)

class Block(ParametrizedModule):
    def __init__(self, make, pairs, n):
        super().__init__()
        assert all(isinstance(pair, tuple) for pair in pairs)
        self.make, self.pairs = make(n), pairs
    def forward(self, x): return self.make(x.flatten(1))

class Space(ModelSpace):
    def __init__(self, n):
        super().__init__()
        self.block = Block(
            Categorical(CHOICES, label="make"),
            CategoricalMultiple([(3, 3), (5, 5)], n_chosen=1, label="pairs"),
            n,
        )
    def forward(self, x): return self.block(x)

def build(shape, n): return Space(n)
"""


def space_of(folder, choices):
    folder.mkdir(exist_ok=True)
    file = folder / "own.py"
    file.write_text(SPACE.replace("CHOICES", choices))
    return build_space(f"{file}:build", recipe="default", input_shape=(1, 8, 8), n_classes=10)


def choices_of(space, label):
    return next(one.choices for one in space.dimensions if one.label == label)


def block_of(student):
    return next(one for one in student.modules() if type(one).__name__ == "Block")


def test_classes_and_functions_have_the_same_names_in_each_process(tmp_path):
    named = "[Narrow, Wide, mean, partial(mean), partial(Wide), nn.LazyLinear]"
    space, again = (space_of(tmp_path / name, named) for name in ("one", "two"))
    choices = choices_of(space, "make")
    assert choices[:3] == ('"Narrow"', '"Wide"', '"mean"')
    assert choices[-1] == json.dumps(repr(nn.LazyLinear))
    assert choices == choices_of(again, "make")
    assert not any("0x" in choice or "one" in choice for choice in choices)
    assert type(block_of(space.freeze({"make": '"Wide"'})[0]).make).__name__ == "Wide"


def test_a_subset_of_tuples_is_one_of_tuples(tmp_path):
    space = space_of(tmp_path, "[Narrow, Wide]")
    for choice, pair in zip(choices_of(space, "pairs"), ((3, 3), (5, 5)), strict=True):
        student, _ = space.freeze({"pairs": choice})
        assert block_of(student).pairs == [pair]
        assert student.eval()(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_choices_that_cannot_be_told_apart_are_refused(tmp_path):
    with pytest.raises(SpaceError, match=r"`make` must have choices that differ in name, got"):
        space_of(tmp_path, "[lambda n: Narrow(n), lambda n: Wide(n)]")
