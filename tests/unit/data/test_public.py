"""What is different at one site of a federation: public pictures, and classes that it lacks."""

import numpy as np
import pytest
import torch
from PIL import Image

from autokd.config import Config
from autokd.data import load_data, load_public, load_test
from autokd.data.pictures import TRAIN
from autokd.data.splits import build_splits
from autokd.errors import DataError


def write_public(folder, n=30):
    pixels = np.random.default_rng(0).integers(0, 256, (n, 8, 8), dtype=np.uint8)
    np.savez(folder / "public.npz", x=pixels)
    return f"npz:{folder / 'public.npz'}"


def test_public_pictures_are_the_same_at_every_site_whatever_its_seed(tmp_path):
    public = write_public(tmp_path)
    found = [
        load_public(Config(public=public, public_limit=10, seed=seed), shape=(1, 8, 8))
        for seed in (0, 7)
    ]
    assert torch.equal(found[0].images, found[1].images)
    assert found[0].digest == found[1].digest
    other = load_public(Config(public=public, public_limit=11), shape=(1, 8, 8))
    assert (len(found[0].images), len(other.images)) == (10, 11)
    assert other.digest != found[0].digest


def test_a_fault_names_the_option_that_was_typed():
    with pytest.raises(DataError, match="`--public nowhere` must be a folder or npz:FILE"):
        load_public(Config(public="nowhere"), shape=(1, 8, 8))


def test_a_site_may_lack_classes_and_keeps_the_only_picture_of_one():
    labels = np.repeat([0, 1, 3], [30, 20, 1])
    splits = build_splits(
        labels, np.full(len(labels), TRAIN), classes=tuple("abcd"), val_ratio=0.2,
        train_limit=None, seed=0, may_lack=True,
    )  # fmt: skip
    parts = splits.train, splits.val, splits.test
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert 50 in splits.train
    for part in parts[1:]:
        assert sorted(set(labels[part])) == [0, 1]


def test_a_site_of_one_class_has_nothing_to_tell_apart():
    labels = np.repeat([0, 1], [30, 1])
    with pytest.raises(DataError, match="at least 2 classes with 2 pictures, got 1"):
        build_splits(
            labels, np.full(len(labels), TRAIN), classes=("a", "b"), val_ratio=0.2,
            train_limit=None, seed=0, may_lack=True,
        )  # fmt: skip


def write_folder(folder, counts):
    for name, n in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(n):
            Image.fromarray(np.full((8, 8), 8 * number, np.uint8)).save(
                folder / name / f"{number}.png"
            )


def test_an_empty_folder_names_a_class_that_a_site_lacks(tmp_path):
    write_folder(tmp_path / "own", {"a": 20, "b": 20, "c": 0})
    data = f"folder:{tmp_path / 'own'}"
    with pytest.raises(DataError, match="each class must have a picture"):
        load_data(Config(data=data))
    assert load_data(Config(data=data, site="s")).card.classes == ("a", "b", "c")
    assert load_test(Config(data=data, site="s")).labels.unique().tolist() == [0, 1]


def test_a_folder_without_any_picture_is_refused(tmp_path):
    write_folder(tmp_path / "own", {"a": 0, "b": 0})
    with pytest.raises(DataError, match="must hold pictures, got none in any class"):
        load_data(Config(data=f"folder:{tmp_path / 'own'}", site="s"))
