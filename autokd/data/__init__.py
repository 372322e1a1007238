"""Data sets in, seeded splits out, kept in memory; augmentation on whole batches.

    source (digits, npz, folder, torchvision, python)
      → splits (seeded, stratified); pictures without labels beside them
      → decoding (once, into one uint8 array, or a cache file where that is too large)
      → `SearchData` for the search, `TestData` for the final report and nobody else

A `SearchData` holds no pixel of the test split; only `load_test` gives it out.
"""

from autokd.data.augmentation import (
    N_VIEWS,
    Augment,
    JoinedViewer,
    Viewer,
    Views,
    as_view,
    build_augmentation,
    build_viewer,
)
from autokd.data.joined import NO_LABEL, TrainingPictures, join_unlabelled
from autokd.data.loading import (
    PublicData,
    SearchData,
    TestData,
    load_data,
    load_public,
    load_test,
)
from autokd.data.pairs import NamedPictures, Pairs, load_named_pictures, load_pairs

__all__ = [
    "NO_LABEL",
    "N_VIEWS",
    "Augment",
    "JoinedViewer",
    "NamedPictures",
    "Pairs",
    "PublicData",
    "SearchData",
    "TestData",
    "TrainingPictures",
    "Viewer",
    "Views",
    "as_view",
    "build_augmentation",
    "build_viewer",
    "join_unlabelled",
    "load_data",
    "load_named_pictures",
    "load_pairs",
    "load_public",
    "load_test",
]
