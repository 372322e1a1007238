"""What earlier studies of the same space let expect of a candidate."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
from jaxtyping import Float64

from autokd.surrogate.accuracy_model import Evidence
from autokd.surrogate.encoding import Encoding
from autokd.surrogate.ladder import Curve, Ladder
from autokd.types import Dimension, Prospect, Sample, Scalar

__all__ = ["Lesson", "Network", "Precedent"]

Network = tuple[Scalar, ...]
_LEAST = 2  # candidates that have reached a rung, to learn of it
_MOST = 400  # candidates that are learnt from; a process of more takes minutes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lesson:
    """What an earlier study has found, of another data set or teacher.

    Attributes:
        dimensions: As they were searched there.
        samples: Of its candidates, in the order of their trials.
        prospects: What was known of each before it was trained, measured there.
        curves: Accuracies of each at the rungs of that study; the last rung is the end.
        n_rungs: Of that study.
    """

    dimensions: tuple[Dimension, ...]
    samples: tuple[Sample, ...]
    prospects: tuple[Prospect, ...]
    curves: tuple[Curve, ...]
    n_rungs: int = 1

    def __len__(self) -> int:
        """How many candidates."""
        return len(self.samples)

    def thin(self, n: int) -> "Lesson":
        """So many of the candidates at the most, evenly over the study."""
        rows = np.unique(np.linspace(0, len(self) - 1, min(n, len(self))).round().astype(int))
        return dataclasses.replace(
            self,
            samples=tuple(self.samples[row] for row in rows),
            prospects=tuple(self.prospects[row] for row in rows),
            curves=tuple(self.curves[row] for row in rows),
        )

    def front(self) -> list[Sample]:
        """Samples that were trained to the end and that no faster one equals, fastest first."""
        ended = [row for row, curve in enumerate(self.curves) if len(curve) == self.n_rungs]
        ended.sort(key=lambda row: (self.prospects[row].latency_ms, -self.curves[row][-1]))
        best, found = -1.0, []
        for row in ended:
            if self.curves[row][-1] > best:
                best = self.curves[row][-1]
                found.append(self.samples[row])
        return found


@final
class Precedent:
    """One lesson as a model, asked about candidates of another study.

    What it says is an accuracy of the earlier study. Only how it rises and falls means anything
    here: the new study finds level and scale, or that there is nothing in it.
    """

    def __init__(self, dimensions: Sequence[Dimension], lesson: Lesson) -> None:
        """Learns the lesson.

        Args:
            dimensions: Of the new study; those that the earlier one had too are compared.
            lesson: Of two candidates or more.

        Raises:
            ValueError: No dimension is in both, or there are fewer than two candidates.
        """
        before = {one.label: one for one in lesson.dimensions}
        joined = [_join(one, before[one.label]) for one in dimensions if one.label in before]
        shared = [one for one in joined if one is not None]
        if not shared:
            raise ValueError("`lesson` must share a dimension with the study, got none")
        if len(lesson) < _LEAST:
            raise ValueError(f"`lesson` must hold two candidates, got {len(lesson)}")
        self._dimensions = tuple(dimensions)
        self._encoding = Encoding(shared)
        self._front = lesson.front()
        self._lesson = lesson = lesson.thin(_MOST)
        self._shift = np.zeros(len(lesson.prospects[0].traits))
        counts = [
            sum(len(curve) > rung for curve in lesson.curves) for rung in range(lesson.n_rungs)
        ]
        n_rungs = max(1, sum(count >= _LEAST for count in counts))
        self._ladder = Ladder(n_rungs)
        traits = np.array([one.traits for one in lesson.prospects], dtype=np.float64)
        evidence = self._describe(lesson.samples, traits)
        self._is_able = self._ladder.fit(evidence, [curve[:n_rungs] for curve in lesson.curves])

    def align(self, known: Mapping[Network, Prospect | None]) -> None:
        """Finds by how much traits differ here and there, from networks that are known in both.

        Larger pictures make every network slower by about the same factor, and so does a slower
        device; traits are logarithms.

        Args:
            known: What the new study has looked at, by the values of architecture and precision.
        """
        ours = [one for one in self._dimensions if one.room != "recipe"]
        shifts = {
            key: np.subtract(here.traits, there.traits)
            for sample, there in zip(self._lesson.samples, self._lesson.prospects, strict=True)
            if (here := known.get(key := tuple(_value(sample, one) for one in ours))) is not None
        }
        if shifts:
            self._shift = np.median(np.array(list(shifts.values())), axis=0)

    def foresee(
        self, samples: Sequence[Sample], traits: Float64[np.ndarray, "count traits"]
    ) -> Float64[np.ndarray, " count"]:
        """What the accuracy at the end would have been in the earlier study.

        Args:
            samples: Of the new study.
            traits: Of each, as measured or guessed in the new study.

        Returns:
            The mean alone: how unsure it is shows in how far the new study is from it.
        """
        if not self._is_able or not len(samples):
            return np.zeros(len(samples))
        evidence = self._describe(samples, traits - self._shift)
        return self._ladder.predict(evidence, [()] * len(samples))[0]

    def seeds(self, n: int) -> list[Sample]:
        """Samples from the earlier front that can be tried in the new study.

        Args:
            n: So many at the most, evenly from the fastest to the slowest.

        Returns:
            Values of the new study's dimensions; those of a recipe may be missing.
        """
        found = [one for sample in self._front if (one := self._translate(sample))]
        rows = np.unique(np.linspace(0, len(found) - 1, min(n, len(found))).round().astype(int))
        return [found[row] for row in rows]

    def _translate(self, sample: Sample) -> Sample | None:
        """The sample as far as its values are in the new space; none where a network is not."""
        kept: Sample = {}
        for one in self._dimensions:
            if one.label in sample and _holds(one, sample[one.label]):
                kept[one.label] = sample[one.label]
            elif one.room == "architecture":
                return None
        return kept

    def _describe(
        self, samples: Sequence[Sample], traits: Float64[np.ndarray, "count traits"]
    ) -> Evidence:
        codes = self._encoding.encode(samples)
        return Evidence(
            traits=traits,
            architecture=codes[:, list(self._encoding.architecture_columns)],
            recipe=codes[:, list(self._encoding.recipe_columns)],
        )


def _value(sample: Sample, dimension: Dimension) -> Scalar:
    """What an earlier sample has; before there was a precision to choose, all were the default."""
    return sample.get(dimension.label, dimension.default if dimension.room == "precision" else "")


def _join(new: Dimension, old: Dimension) -> Dimension | None:
    """A dimension that holds the values of both; none where they are of different kinds."""
    if bool(new.choices) != bool(old.choices) or new.is_log != old.is_log:
        return None
    if new.choices:
        more = tuple(value for value in old.choices if value not in new.choices)
        return dataclasses.replace(new, choices=(*new.choices, *more))
    return dataclasses.replace(new, low=min(new.low, old.low), high=max(new.high, old.high))


def _holds(dimension: Dimension, value: Scalar) -> bool:
    if dimension.choices:
        return value in dimension.choices
    return isinstance(value, int | float) and dimension.low <= value <= dimension.high
