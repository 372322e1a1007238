"""How far an accuracy that was observed once lies from what it would be on average."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

__all__ = ["Noise"]

_BORROWED = 2  # degrees of freedom that the seeds of another study count for, at the most


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What is known of the noise of an observed accuracy.

    Attributes:
        n_val: Pictures that the accuracy is a share of; 0 where that is not known.
        seed_std: Standard deviation of the accuracy from seed to seed; 0 where that is not known.
        degrees: Of freedom, that `seed_std` was estimated with.
    """

    n_val: int = 0
    seed_std: float = 0.0
    degrees: int = 0

    @classmethod
    def of_seeds(cls, groups: Iterable[Sequence[float]], *, n_val: int = 0) -> "Noise":
        """The noise from trainings that differ in nothing but their seeds, pooled.

        Args:
            groups: Accuracies in [0, 1] of the same training; a single one says nothing.
            n_val: Pictures that they were counted on.

        Returns:
            The square root of the mean variance, by degrees of freedom.
        """
        squares, degrees = 0.0, 0
        for group in groups:
            mean = sum(group) / max(1, len(group))
            squares += sum((value - mean) ** 2 for value in group)
            degrees += max(0, len(group) - 1)
        std = math.sqrt(squares / degrees) if degrees else 0.0
        return cls(n_val=n_val, seed_std=std, degrees=degrees)

    @property
    def is_told(self) -> bool:
        """Whether seeds were compared; equal ones to the last picture tell nothing either."""
        return self.degrees > 0 and self.seed_std > 0

    @property
    def log_spread(self) -> float:
        """Standard deviation of the logarithm of the variance, as an estimate from so few."""
        return math.sqrt(2 / max(1, self.degrees))

    def borrowed(self, *, n_val: int) -> "Noise":
        """As another study takes it over: hardly surer than a guess, and on its own pictures."""
        return Noise(n_val=n_val, seed_std=self.seed_std, degrees=min(self.degrees, _BORROWED))

    def floor_std(self, accuracies: Float64[np.ndarray, " count"]) -> float:
        """The standard deviation that counting right answers has at least.

        Args:
            accuracies: In [0, 1]; at least one.

        Returns:
            That of a binomial share, in the root mean square; 0 where `n_val` is not known.
        """
        if not self.n_val:
            return 0.0
        return math.sqrt(float((accuracies * (1 - accuracies)).mean().clip(0.0)) / self.n_val)
