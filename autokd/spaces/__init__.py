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

__all__ = [
    "Space",
    "build_space",
    "copy_space",
    "describe_space",
    "list_spaces",
    "load_architecture",
    "load_recipe",
]
