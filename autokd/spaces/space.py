"""The joint space: one NNI `MutableDict` that holds the architecture beside the recipe."""

import difflib
import math
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, final

import numpy as np
from torch import nn

from autokd.errors import BuildError, SpaceError
from autokd.spaces.dimensions import build_dimension, decode, has_default, parse_value
from autokd.spaces.nni_api import (
    LabeledMutable,
    Mutable,
    MutableDict,
    SampleValidationError,
)
from autokd.spaces.recipes import validate_recipe
from autokd.types import RECIPE_PRIORS, Dimension, Recipe, Room, Sample

__all__ = ["Space"]


@final
class Space:
    """A searched architecture and a searched recipe under one set of labels.

    `dimensions` is what a sampler sees, `freeze` turns its sample into a student and a recipe.
    There is no second description of the space: both come from NNI's `MutableDict`.
    """

    def __init__(self, name: str, *, architecture: Mutable, recipe: Mapping[str, Any]) -> None:
        """Joins both halves.

        Args:
            name: As the user gave it.
            architecture: The space of students.
            recipe: Fields of `Recipe` to NNI mutables or plain values.

        Raises:
            SpaceError: A label stands in both halves, or a dimension has no counterpart.
        """
        self.name = name
        self._recipe = dict(recipe)
        self._joint = MutableDict(
            {"architecture": architecture, "recipe": MutableDict(dict(recipe))}
        )
        rooms: dict[str, Room] = {
            value.label: "precision" if field == "precision" else "recipe"
            for field, value in recipe.items()
            if isinstance(value, LabeledMutable)
        }
        theirs = set(architecture.simplify(is_leaf=_has_label))
        if both := sorted(theirs & rooms.keys()):
            raise SpaceError(
                f"`{both[0]}` must not be in the architecture and in the recipe; rename its label"
            )
        self._leaves = self._joint.simplify(is_leaf=_has_label)
        self._pinned: Sample = {}
        self._declared = {
            label for label, leaf in self._leaves.items() if label in rooms and has_default(leaf)
        }
        self._all = {
            label: build_dimension(leaf, room=rooms.get(label, "architecture"))
            for label, leaf in sorted(self._leaves.items())
        }

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The dimensions that are searched, pinned ones left out."""
        return tuple(
            dimension for label, dimension in self._all.items() if label not in self._pinned
        )

    def pin(self, values: Mapping[str, str]) -> None:
        """Fixes dimensions, so that no sample differs in them.

        Args:
            values: Label to value, as typed.

        Raises:
            SpaceError: There is no such dimension, or the value is not in it.
        """
        for label, text in values.items():
            if label not in self._all:
                near = difflib.get_close_matches(label, list(self._all), n=1)
                remedy = f"did you mean `{near[0]}`?" if near else "see `autokd spaces show`"
                raise SpaceError(f"`--fix {label}` must name a dimension of the space; {remedy}")
            self._pinned[label] = parse_value(self._all[label], text)

    def values_of(self, field: str) -> set[Any]:
        """Every value that a field of the recipe can take; none where the recipe leaves it out."""
        mutable = self._recipe.get(field)
        if not isinstance(mutable, LabeledMutable):
            return set() if mutable is None else {mutable}
        if mutable.label in self._pinned:
            return {self._pinned[mutable.label]}
        return set(self._all[mutable.label].choices)

    def complete(self, sample: Mapping[str, Any]) -> Sample:
        """The sample with the pinned dimensions in it, and defaults where it has nothing."""
        defaults = {label: dimension.default for label, dimension in self._all.items()}
        return {**defaults, **dict(sample), **self._pinned}

    def random(self, seed: int) -> Sample:
        """A sample drawn by NNI, with the pinned dimensions in it.

        Args:
            seed: Of the draw.

        Returns:
            A complete sample.
        """
        state = np.random.RandomState(seed)
        drawn: Sample = {}
        for label, leaf in self._leaves.items():
            value = leaf.random(None, random_state=state)
            dimension = self._all[label]
            if dimension.choices:
                index = next(
                    i for i, choice in enumerate(dimension.choices) if decode(leaf, choice) == value
                )
                drawn[label] = dimension.choices[index]
            else:
                drawn[label] = float(min(max(value, dimension.low), dimension.high))
        return self.complete(drawn)

    def freeze(self, sample: Mapping[str, Any]) -> tuple[nn.Module, Recipe]:
        """The concrete student and recipe of a sample.

        Args:
            sample: Label to value; pinned and missing dimensions are filled in.

        Returns:
            A student with fresh weights that takes normalised pictures, and its recipe.

        Raises:
            SpaceError: A value is not in its dimension.
            BuildError: The space's own code failed.
        """
        full = self.complete(sample)
        unknown = sorted(set(full) - set(self._all))
        if unknown:
            raise SpaceError(f"`{unknown[0]}` must be a dimension of the space `{self.name}`")
        values = {label: decode(self._leaves[label], value) for label, value in full.items()}
        try:
            frozen = self._joint.freeze(values)
        except SampleValidationError as error:
            raise SpaceError(f"sample must lie in the space: {error}") from error
        except Exception as error:
            raise BuildError(f"space `{self.name}`: {type(error).__name__}: {error}") from error
        return frozen["architecture"], validate_recipe(frozen["recipe"])

    def architecture_of(self, sample: Mapping[str, Any]) -> Sample:
        """The architecture half of a sample."""
        return {
            label: sample[label]
            for label, dimension in self._all.items()
            if dimension.room == "architecture" and label in sample
        }

    def network_of(self, sample: Mapping[str, Any]) -> Sample:
        """What of a sample tells before it is trained how long it takes: all but the recipe."""
        return {
            label: sample[label]
            for label, dimension in self._all.items()
            if dimension.room != "recipe" and label in sample
        }

    def prior(self, name: str, *, architecture: Mapping[str, Any] | None = None) -> Sample:
        """A sample that a specialist would try, of the searched dimensions only.

        Args:
            name: A key of `RECIPE_PRIORS`.
            architecture: Values of the architecture, or of the precision; the default ones if none.

        Returns:
            Label to value, for each searched dimension.
        """
        recipe = {
            label: self._nearest(self._all[label], value)
            for label, value in _PRIORS[name].items()
            if label in self._all
        }
        full = self.complete({**(architecture or {}), **recipe})
        return {dimension.label: full[dimension.label] for dimension in self.dimensions}

    def has_field(self, name: str) -> bool:
        """Whether the recipe says anything of a field, be it one value."""
        return name in self._recipe

    def first_choice(self, instead: Mapping[str, Any] = MappingProxyType({})) -> Sample:
        """The sample of one student where nothing is searched.

        Args:
            instead: Of the textbook's values, where the space has such a dimension.

        Returns:
            Of each dimension what the recipe declares as a default, which is how it says what it
            is for; else the textbook's value; else the first or the middle one. The weight of
            `dkd` rises, as in its paper, where nobody says how it goes.
        """
        known = {label: value for label, value in instead.items() if label in self._all}
        declared = {label: self._all[label].default for label in self._declared}
        chosen = self.complete({**self.prior("textbook"), **known, **declared})
        loss, schedule = self._recipe.get("loss"), self._all.get("alpha_schedule")
        if isinstance(loss, LabeledMutable):
            loss = chosen[loss.label]
        is_open = "alpha_schedule" not in {*self._pinned, *known, *declared}
        if loss == "dkd" and is_open and schedule is not None and "warm_up" in schedule.choices:
            chosen["alpha_schedule"] = "warm_up"
        return chosen

    def undecided(self, sample: Mapping[str, Any]) -> Sample:
        """What of a sample the recipe leaves open, where another value would train otherwise.

        Args:
            sample: A complete one.

        Returns:
            Label to value, without pinned dimensions and those that make no difference here.
        """
        recipe = self._recipe_of(sample)
        return {
            one.label: sample[one.label]
            for one in self.dimensions
            if one.room != "architecture"
            and any(
                self._recipe_of({**sample, one.label: value}) != recipe
                for value in one.choices or (one.low, one.high)
            )
        }

    def _recipe_of(self, sample: Mapping[str, Any]) -> Recipe:
        """The recipe of a complete sample, without its network."""
        return validate_recipe(
            {
                field: decode(value, sample[value.label])
                if isinstance(value, LabeledMutable)
                else value
                for field, value in self._recipe.items()
            }
        )

    def extremes(
        self, cost: Callable[[nn.Module], float], *, timeout_s: float = 3.0
    ) -> tuple[Sample, Sample]:
        """The architectures that look smallest and largest.

        Each dimension is moved alone, the others at their defaults; the cheapest and the
        dearest value of each are put together. Past the time-out the ends of numeric
        dimensions are taken instead.

        Args:
            cost: What a student costs, in any unit.
            timeout_s: For trying.

        Returns:
            The smallest and the largest, architecture dimensions only.
        """
        end = time.monotonic() + timeout_s
        small: Sample = {}
        large: Sample = {}
        for dimension in self.dimensions:
            if dimension.room != "architecture":
                continue
            values = dimension.choices or (dimension.low, dimension.high)
            if time.monotonic() < end:
                costs = [self._cost_of({dimension.label: value}, cost) for value in values]
                built = [index for index, one in enumerate(costs) if not math.isnan(one)]
                order = sorted(built or [0], key=lambda index: costs[index])
            else:
                is_numeric = all(isinstance(value, int | float) for value in values)
                order = sorted(range(len(values)), key=lambda i: values[i] if is_numeric else i)
            small[dimension.label] = values[order[0]]
            large[dimension.label] = values[order[-1]]
        return small, large

    def _cost_of(self, values: Sample, cost: Callable[[nn.Module], float]) -> float:
        try:
            return float(cost(self.freeze(values)[0]))
        except BuildError:
            return float("nan")

    def _nearest(self, dimension: Dimension, value: Any) -> Any:  # noqa: ANN401 - any dimension
        """The value of the dimension that is nearest to the one wanted."""
        if dimension.choices:
            if value in dimension.choices:
                return value
            if not all(isinstance(choice, int | float) for choice in dimension.choices):
                return dimension.default
            return min(dimension.choices, key=lambda choice: abs(float(choice) - float(value)))
        if not dimension.low <= value <= dimension.high:
            return min(max(value, dimension.low), dimension.high)
        if dimension.step is None:
            return value
        steps = round((value - dimension.low) / dimension.step)
        return dimension.low + steps * dimension.step


def _has_label(leaf: Mutable) -> bool:
    """What is not taken apart any further; a choice of several stays one dimension."""
    return isinstance(leaf, LabeledMutable)


_PRIORS: Mapping[str, Mapping[str, Any]] = {
    name: {
        "mix": "none",
        "label_smoothing": 0.0,
        "optimiser": "adamw",
        "learning_rate": 5e-3,
        "weight_decay": 5e-4,
        "mix_alpha": 0.2,
        "alpha_end": values["alpha"],
        "temperature": 4.0,
        "temperature_end": 1.0,
        "temperature_schedule": "constant",
        "loss": "soft_targets",
        "taught_by": "teacher",
        "is_standardised": False,
        "is_adaptive": False,
        "dkd_beta": 8,
        "teacher_confidence": 0.0,
        "feature_weight": 1.0,
        "feature_weight_end": 0.0,
        "feature_schedule": "constant",
        "exits": 0,
        "generations": 1,
        **values,
    }
    for name, values in RECIPE_PRIORS.items()
}
