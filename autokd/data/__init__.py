"""Data sets in, seeded splits out, kept in memory; augmentation on whole batches.

    source (digits, npz, folder, torchvision, python)
      → splits (seeded, stratified); pictures without labels beside them
      → decoding (once, into one uint8 array, or a cache file where that is too large)
      → `SearchData` for the search, `TestData` for the final report and nobody else

A `SearchData` holds no pixel of the test split; only `load_test` gives it out.
"""

from autokd.data.augmentation import N_VIEWS, Augment, Viewer, Views, as_view, build_augmentation
from autokd.data.joined import NO_LABEL, TrainingPictures, join_unlabelled
from autokd.data.loading import SearchData, TestData, load_data, load_test

__all__ = [
    "NO_LABEL",
    "N_VIEWS",
    "Augment",
    "SearchData",
    "TestData",
    "TrainingPictures",
    "Viewer",
    "Views",
    "as_view",
    "build_augmentation",
    "join_unlabelled",
    "load_data",
    "load_test",
]
