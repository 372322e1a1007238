"""Where trials may be stopped, and which of the stopped ones go on."""

from collections.abc import Callable, Collection, Sequence
from typing import final

from autokd.surrogate import Standing

__all__ = ["REDUCTION", "Rungs", "choose_rungs"]

REDUCTION = 4
"""Of so many trials that have reached a rung, one goes on beyond it."""

_LEAST_TRIALS = 12  # in a smaller study there is little to choose from
_UNLIKELY = 0.05  # to enter the front: nobody's turn
_LIKELY = 0.25  # to enter the front: goes on when nothing new is to be tried any more


def choose_rungs(epochs: int, *, budget: int) -> tuple[int, ...]:
    """The epochs after which a trial may be stopped.

    Args:
        epochs: Of a training.
        budget: Trials of the study.

    Returns:
        A quarter of the epochs, a sixteenth and so on, ascending; none in a small study.
    """
    if budget < _LEAST_TRIALS:
        return ()
    rungs: list[int] = []
    share = epochs / REDUCTION
    while round(share) >= 1 and round(share) < epochs:
        rungs.insert(0, round(share))
        share /= REDUCTION
    return tuple(dict.fromkeys(rungs))


@final
class Rungs:
    """Says of a trial that has reached a rung whether it goes on, and of a stopped one when.

    It goes on if it is its turn among those that were stopped there and it is not unlikely to
    enter the front. The first trial, with which the students are compared, is never stopped.
    """

    def __init__(
        self, epochs: Sequence[int], *, standings: Callable[[], Sequence[Standing]]
    ) -> None:
        """Nobody is stopped yet.

        Args:
            epochs: After which a trial may be stopped, ascending.
            standings: Tells how the stopped trials stand, the one that is worth most first.
        """
        self._epochs, self._standings = tuple(epochs), standings

    @property
    def epochs(self) -> tuple[int, ...]:
        """After which a trial may be stopped."""
        return self._epochs

    def stops(self, trial: int) -> tuple[int, ...]:
        """Epochs after which a trial asks whether to go on."""
        return () if trial == 0 else self._epochs

    def next(
        self, *, is_last_call: bool = False, among: Collection[int] | None = None
    ) -> Standing | None:
        """The stopped trial that should go on now.

        Args:
            is_last_call: Nothing new will begin any more: whoever is likely to enter the front
                goes on, whether it is its turn or not.
            among: Trials that can be chosen; one that was told to stop may not have ended yet.

        Returns:
            The one that is worth most; none where nobody should.
        """
        for one in self._standings():
            if among is not None and one.key not in among:
                continue
            is_able = one.probability >= _UNLIKELY or not one.is_foreseen
            if one.is_turn and is_able:
                return one
            if is_last_call and one.probability >= _LIKELY:
                return one
        return None

    def explain(self, trial: int, *, epoch: int, epochs: int) -> str:
        """Why a trial is stopped, in a few words.

        Args:
            trial: A stopped one.
            epoch: That it has reached.
            epochs: Of a whole training.

        Returns:
            A line.
        """
        where = f"stopped after epoch {epoch} of {epochs}"
        for one in self._standings():
            if one.key == trial and one.is_foreseen:
                until = "" if one.probability < _UNLIKELY else " until its turn comes"
                return f"{where}{until}: {one.probability:.0%} likely to enter the front"
        return f"{where}: others are better there or have yet to come"
