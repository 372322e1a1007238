"""Seeded, stratified splits; what a source brings along is kept as it is."""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from autokd.data.pictures import TEST, TRAIN, VAL
from autokd.errors import DataError

__all__ = ["Splits", "build_splits", "check_trained"]

_TEST_RATIO = 0.2


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Splits:
    """Indices of the pictures of each split; no picture is in two of them.

    Attributes:
        train: Trained on.
        val: Choose.
        test: Report.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Cutter:
    """Cuts sets of indices so that both parts have the classes in the same shares."""

    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    seed: int
    may_lack: bool

    def cut(
        self, whole: NDArray[np.int64], *, ratio: float, what: str
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What stays and what is cut off."""
        counts = np.bincount(self.labels[whole], minlength=len(self.classes))
        if self.may_lack:
            return self._cut_common(
                whole, is_rare=counts[self.labels[whole]] < 2, ratio=ratio, what=what
            )
        smallest = int(counts.argmin())
        fault = (
            f"class `{self.classes[smallest]}` must have enough pictures to cut {what} off, "
            f"got {counts[smallest]} of {len(whole)} for {len(self.classes)} classes"
        )
        if counts[smallest] < 2:
            raise DataError(f"{fault}; at least 2 are needed")
        try:
            rest, off = train_test_split(
                whole, test_size=ratio, stratify=self.labels[whole], random_state=self.seed
            )
        except ValueError as error:  # a part would be smaller than the number of classes
            raise DataError(f"{fault}; use more pictures") from error
        return np.sort(rest), np.sort(off)

    def _cut_common(
        self, whole: NDArray[np.int64], *, is_rare: NDArray[np.bool_], ratio: float, what: str
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The only picture of a class stays; the others are cut as ever."""
        common = whole[~is_rare]
        present, labels = np.unique(self.labels[common], return_inverse=True)
        own = np.zeros(len(self.labels), dtype=np.int64)
        own[common] = labels
        names = tuple(self.classes[index] for index in present)
        if len(names) < 2:
            raise DataError(f"data must have at least 2 classes with 2 pictures, got {len(names)}")
        cutter = _Cutter(labels=own, classes=names, seed=self.seed, may_lack=False)
        rest, off = cutter.cut(common, ratio=ratio, what=what)
        return np.sort(np.concatenate([rest, whole[is_rare]])), off

    def limit(self, whole: NDArray[np.int64], *, n: int) -> NDArray[np.int64]:
        """At most `n` of them; what a small limit keeps, a larger one keeps too.

        As many of each class as its share is, but two of a rare one, so that it can be split.

        Args:
            whole: Places of pictures.
            n: How many are kept.

        Returns:
            Places, in order.
        """
        labels = self.labels[whole]
        place = np.empty(len(whole))
        shuffled = np.random.default_rng(self.seed).permutation(len(whole))
        for label in np.unique(labels):
            members = shuffled[labels[shuffled] == label]
            place[members] = (np.arange(len(members)) + 0.5) / len(members)
            place[members[:2]] -= 1.0
        return np.sort(whole[np.argsort(place, kind="stable")[:n]])


def build_splits(
    labels: NDArray[np.int64],
    roles: NDArray[np.int64],
    *,
    classes: tuple[str, ...],
    val_ratio: float,
    train_limit: int | None,
    seed: int,
    may_lack: bool = False,
) -> Splits:
    """Training, validation and test split of a source.

    A source without a test split loses a fifth to one; then training and validation together
    are limited; then the validation split is cut off, unless the source brings its own.

    Args:
        labels: One per picture.
        roles: `TRAIN`, `VAL` or `TEST`, one per picture.
        classes: Names in the order of the labels.
        val_ratio: Share of the training pictures, in [0, 1].
        train_limit: Most pictures of training and validation together.
        seed: Of the cuts.
        may_lack: Whether a class may have few pictures or none, as at one site of a federation;
            the only picture of a class is trained on.

    Returns:
        The splits, each in the order of the source.

    Raises:
        DataError: There are fewer than two classes, or a class has too few pictures.
    """
    if len(classes) < 2:
        raise DataError(
            f"`--data` must have at least 2 classes, got {len(classes)}: {', '.join(classes)}; in "
            "a folder, each sub-folder is one"
        )
    cutter = _Cutter(labels=labels, classes=classes, seed=seed, may_lack=may_lack)
    train, val, test = (np.flatnonzero(roles == role) for role in (TRAIN, VAL, TEST))
    if len(test) == 0:
        train, test = cutter.cut(train, ratio=_TEST_RATIO, what="a test split")
    if train_limit is not None and len(train) + len(val) > train_limit:
        n_val = round(train_limit * len(val) / (len(train) + len(val)))
        if min(train_limit - n_val, n_val or train_limit) < len(classes):
            raise DataError(
                f"`--train-limit` must leave a picture for each of {len(classes)} classes "
                f"in each split, got {train_limit}"
            )
        train = cutter.limit(train, n=train_limit - n_val)
        val = cutter.limit(val, n=n_val)
    if len(val) == 0:
        train, val = cutter.cut(train, ratio=val_ratio, what="a validation split")
    check_trained(labels[train], classes, may_lack=may_lack)
    return Splits(train=train, val=val, test=test)


def check_trained(
    train_labels: NDArray[np.int64], classes: tuple[str, ...], *, may_lack: bool = False
) -> None:
    """Makes sure that every class can be learned, here or elsewhere.

    Args:
        train_labels: Of the training split.
        classes: Names in the order of the labels.
        may_lack: Whether others may know the classes that have no picture in it.

    Raises:
        DataError: A class has no picture in it.
    """
    counts = np.bincount(train_labels, minlength=len(classes))
    if counts.min() == 0 and not may_lack:
        raise DataError(
            f"class `{classes[int(counts.argmin())]}` must have a training picture, got none"
        )
