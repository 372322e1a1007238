import os

import numpy as np
import pytest
import torch
from PIL import Image

from autokd.config import Config
from autokd.data import load_data, load_test
from autokd.errors import DataError


def load(root, **options):
    return load_data(Config(data=f"folder:{root}", **options))


def test_pictures_of_one_size_are_kept_as_they_are(make_folder):
    root = make_folder()
    search = load(root)
    on_disk = {np.array(Image.open(path)).tobytes() for path in root.rglob("*.png")}
    images = torch.cat([search.train_images, search.val_images]).permute(0, 2, 3, 1)
    assert {each.numpy().tobytes() for each in images.contiguous()} <= on_disk
    assert search.card.shape == (3, 10, 12)
    assert search.card.classes == ("a", "b")


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_split_folders_are_the_splits(make_folder, val):
    root = make_folder("train", val, "test", n=4)
    card = load(root).card
    assert (card.n_train, card.n_val, card.n_test) == (8, 8, 8)
    config = Config(data=f"folder:{root}")
    files = {np.array(Image.open(path)).tobytes() for path in (root / "test").rglob("*.png")}
    images = load_test(config).images.permute(0, 2, 3, 1).contiguous()
    assert {each.numpy().tobytes() for each in images} == files


def test_splits_that_are_not_there_are_cut(make_folder):
    card = load(make_folder("train")).card
    assert (card.n_train, card.n_val, card.n_test) == (12, 4, 4)


def test_a_class_may_be_called_train(tmp_path, write_picture):
    for label in ("plane", "train"):
        for index in range(10):
            write_picture(tmp_path / "set" / label / f"{index}.png")
    assert load(tmp_path / "set").card.classes == ("plane", "train")


def test_pictures_below_sub_folders_of_a_class_are_found(make_folder, write_picture):
    root = make_folder()
    write_picture(root / "a" / "more" / "x.png")
    card = load(root).card
    assert card.n_train + card.n_val + card.n_test == 21


@pytest.mark.parametrize("name", [".hidden.png", "Thumbs.db", "notes.txt", "README"])
def test_other_files_are_ignored(make_folder, name):
    root = make_folder()
    (root / "a" / name).write_bytes(b"?")
    (root / name).write_bytes(b"?")
    (root / ".cache").mkdir()
    assert load(root).card.n_skipped == 0


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".webp", ".gif", ".tif", ".PNG", ".ppm"])
def test_formats_of_pillow_are_read(make_folder, suffix):
    assert load(make_folder(n=5, suffix=suffix)).card.shape == (3, 10, 12)


def test_grey_pictures_have_one_channel(make_folder, write_picture):
    root = make_folder(mode="L")
    write_picture(root / "a" / "deep.png", mode="I;16")
    Image.new("1", (12, 10), 1).save(root / "a" / "bits.png")
    assert load(root).card.shape == (1, 10, 12)


def test_one_picture_in_colour_makes_all_of_them_colour(make_folder, write_picture):
    root = make_folder(mode="L")
    write_picture(root / "b" / "x.png", mode="RGB")
    images = load(root).train_images
    assert images.shape[1] == 3
    assert (images[:, 0] == images[:, 1]).flatten(1).all(1).sum() >= len(images) - 1


def test_pictures_of_many_sizes_become_squares_of_the_median_side(make_folder, write_picture):
    root = make_folder(size=(45, 37))
    write_picture(root / "a" / "tiny.png", size=(3, 90))
    write_picture(root / "b" / "large.png", size=(300, 200))
    assert load(root).card.shape == (3, 32, 32)


def test_the_size_can_be_asked_for(make_folder):
    assert load(make_folder(), image_size=16).card.shape == (3, 16, 16)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="must be a folder, got no such folder"):
        load(tmp_path / "no")


def test_a_folder_without_classes_is_refused(tmp_path, write_picture):
    write_picture(tmp_path / "flat" / "x.png")
    with pytest.raises(DataError, match="one sub-folder a class, got no sub-folder"):
        load(tmp_path / "flat")


def test_a_class_without_a_picture_is_named(make_folder):
    root = make_folder()
    (root / "c").mkdir()
    with pytest.raises(DataError, match=r"each class must have a picture, got none in .*/c;"):
        load(root)


def test_splits_with_other_classes_are_refused(make_folder, write_picture):
    root = make_folder("train", "test")
    write_picture(root / "test" / "extra" / "x.png")
    with pytest.raises(DataError, match=r"test/ must hold the classes of train/, .* in extra"):
        load(root)


def test_a_test_folder_without_classes_is_refused(make_folder, write_picture):
    root = make_folder("train")
    write_picture(root / "test" / "x.png")
    with pytest.raises(DataError, match="test/ must hold the classes of train/"):
        load(root)


@pytest.mark.parametrize("splits", [("val", "test"), ("train", "val", "valid")])
def test_splits_that_are_missing_or_twice_there_are_refused(make_folder, splits):
    with pytest.raises(DataError, match="must hold train/ and at most one val/"):
        load(make_folder(*splits))


def test_one_class_is_refused(tmp_path, write_picture):
    for index in range(10):
        write_picture(tmp_path / "set" / "a" / f"{index}.png")
    with pytest.raises(DataError, match="at least 2 classes"):
        load(tmp_path / "set")


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", ".thumbnails/large"])
def test_hidden_folders_hold_copies_that_are_no_pictures(make_folder, write_picture, hidden):
    root = make_folder()
    before = load(root).card
    write_picture(root / "a" / hidden / "copy.png")
    assert load(root).card == before


def test_names_of_any_bytes_are_read_and_classes_of_them_are_refused(make_folder, write_picture):
    root, strange = make_folder(), os.fsdecode(b"caf\xe9")
    try:
        (root / "a" / f"{strange}.txt").touch()
    except OSError:
        pytest.skip("the file system wants names in UTF-8")
    if strange.isprintable():
        pytest.skip("the locale is not one of UTF-8")
    write_picture(root / "a" / f"{strange}.png")
    assert load(root).card.n_train > 0
    for index in range(10):
        write_picture(root / strange / f"{index}.png")
    with pytest.raises(DataError, match=r"a class must have a name in UTF-8, got 'caf\\udce9'"):
        load(root)


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_pictures_of_few_bits_in_files_of_sixteen_are_refused(make_folder, bits):
    root = make_folder(mode="I;16")
    load(root)
    for path in root.rglob("*.png"):
        with Image.open(path) as image:
            pixels = np.asarray(image) >> (16 - bits)
        Image.fromarray(pixels.astype(np.uint16)).save(path)
    with pytest.raises(
        DataError, match="pictures of 16 bits must reach 4096 of 65535, got"
    ) as caught:
        load(root)
    assert "\n" not in str(caught.value)
