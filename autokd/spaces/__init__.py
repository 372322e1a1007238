"""The joint search space: an NNI architecture and a recipe; the only room that imports nni."""

from autokd.spaces.finder import (
    build_space,
    copy_space,
    describe_space,
    list_spaces,
    load_architecture,
)
from autokd.spaces.recipes import load_recipe
from autokd.spaces.space import Space
from autokd.spaces.students import StudentRequest, parse_student, pin_student

__all__ = [
    "Space",
    "StudentRequest",
    "build_space",
    "copy_space",
    "describe_space",
    "list_spaces",
    "load_architecture",
    "load_recipe",
    "parse_student",
    "pin_student",
]
