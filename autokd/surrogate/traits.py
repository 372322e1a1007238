"""Guesses at the traits of networks that were not looked at, to choose which to look at."""

from typing import final

import numpy as np
from jaxtyping import Float64
from sklearn.linear_model import RidgeCV

__all__ = ["TraitGuess"]

_STRENGTHS = (1e-2, 1e-1, 1.0, 10.0, 100.0)


@final
class TraitGuess:
    """Ridge regression from the columns of architecture and precision to the traits of its network.

    It never decides what is trained: the few that it likes best are built and measured.
    """

    def __init__(
        self,
        architecture: Float64[np.ndarray, "count columns"],
        traits: Float64[np.ndarray, "count traits"],
    ) -> None:
        """Learns from networks that were looked at.

        Args:
            architecture: Their columns in an `Encoding`.
            traits: Their traits.
        """
        self._ridge = RidgeCV(_STRENGTHS).fit(_with_one(architecture), traits)

    def predict(
        self, architecture: Float64[np.ndarray, "count columns"]
    ) -> Float64[np.ndarray, "count traits"]:
        """What the traits of other networks may be."""
        return self._ridge.predict(_with_one(architecture)).reshape(len(architecture), -1)


def _with_one(
    columns: Float64[np.ndarray, "count columns"],
) -> Float64[np.ndarray, "count more"]:
    """A column more, so that there is one where no architecture is searched."""
    return np.column_stack([columns, np.ones(len(columns))])
