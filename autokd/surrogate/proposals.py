"""Candidates to choose from."""

from collections.abc import Sequence

from numpy.random import Generator

from autokd.surrogate.encoding import Encoding
from autokd.types import Sample

__all__ = ["propose"]


def propose(
    encoding: Encoding, *, parents: Sequence[Sample], n: int, rng: Generator
) -> list[Sample]:
    """Candidates, half of them drawn evenly and half of them neighbours of good ones.

    Args:
        encoding: Of the space.
        parents: What neighbours are made of; where there are none, all are drawn evenly.
        n: How many.
        rng: What is drawn from.

    Returns:
        Samples; the same one may be there twice.
    """
    n_neighbours = n // 2 if parents else 0
    drawn = [encoding.random(rng) for _ in range(n - n_neighbours)]
    chosen = rng.integers(max(1, len(parents)), size=n_neighbours)
    return drawn + [encoding.mutate(parents[int(index)], rng) for index in chosen]
