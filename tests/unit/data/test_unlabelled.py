import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from autokd.config import Config
from autokd.data import load_data, load_test
from autokd.data.arrays import build_array_pictures
from autokd.data.unlabelled import JoinedPictures
from autokd.errors import DataError


def rows(images):
    return [each.numpy().tobytes() for each in images]


@pytest.fixture
def make_more(tmp_path, write_picture):
    """A folder of `n` pictures, half of them in a sub-folder."""

    def make(n: int = 10, **options: object) -> Path:
        root = tmp_path / "more"
        for index in range(n):
            write_picture(root / ("" if index % 2 else "below") / f"{index}.png", **options)
        return root

    return make


@pytest.fixture
def write_npz(tmp_path):
    def write(**arrays: object) -> str:
        np.savez(tmp_path / "more.npz", **arrays)
        return f"npz:{tmp_path / 'more.npz'}"

    return write


@pytest.fixture
def load(make_npz):
    """Four classes of grey 6x5 pictures, and pictures without labels."""

    def load(unlabelled, **options: object):
        changes = {"unlabelled": Path(unlabelled), **options}
        return load_data(make_npz().model_copy(update=changes))

    return load


# ---------------------------------------------------------------------- folders


def test_pictures_of_the_same_shape_are_kept_as_they_are(load, make_more):
    root = make_more(size=(5, 6), mode="L")
    data = load(root)
    on_disk = {np.array(Image.open(path)).tobytes() for path in root.rglob("*.png")}
    assert set(rows(data.unlabelled_images)) == on_disk
    assert data.card.n_unlabelled == len(data.unlabelled_images) == 10
    assert data.unlabelled_images.dtype == torch.uint8


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_take_the_shape_and_the_channels_of_the_data_set(
    make_npz, make_more, channels, mode
):
    x = np.zeros((40, 6, 5, channels), dtype=np.uint8)
    options = {"unlabelled": make_more(mode=mode, size=(33, 21))}
    data = load_data(make_npz(x_train=x).model_copy(update=options))
    assert data.unlabelled_images.shape == (10, channels, 6, 5)


def test_sizes_grey_and_colour_may_be_mixed(load, make_more, write_picture):
    root = make_more(size=(9, 9))
    write_picture(root / "deep" / "er" / "wide.png", size=(70, 8), mode="L")
    assert load(root).unlabelled_images.shape == (11, 1, 6, 5)


def test_other_files_are_ignored(load, make_more):
    root = make_more()
    for name in ("notes.txt", ".hidden.png", "Thumbs.db"):
        (root / name).write_bytes(b"?")
    assert load(root).card.n_unlabelled == 10


@pytest.mark.parametrize("part", ["head", "body"])
def test_few_unreadable_pictures_are_skipped_and_named(load, make_more, caplog, part):
    root = make_more(n=200, size=(5, 6))
    path = root / "7.png"
    path.write_bytes(path.read_bytes()[:100] if part == "body" else b"no picture")
    with caplog.at_level(logging.WARNING, logger="autokd.data"):
        card = load(root).card
    assert (card.n_unlabelled, card.n_skipped) == (199, 0)
    assert f"`--unlabelled {root}`: 1 unreadable pictures skipped (0.50%)" in caplog.text
    assert "7.png" in caplog.text


@pytest.mark.parametrize("part", ["head", "body"])
def test_many_unreadable_pictures_are_refused_by_name(load, make_more, part):
    root = make_more(size=(5, 6))
    path = root / "7.png"
    path.write_bytes(path.read_bytes()[:100] if part == "body" else b"no picture")
    with pytest.raises(DataError, match=r"--unlabelled .* less than 1 % .* got 1 \(10.0%\): .*7"):
        load(root)


def test_a_folder_that_is_not_there_is_refused(load, tmp_path):
    with pytest.raises(DataError, match=r"must be a folder or npz:FILE, got no such folder$"):
        load(tmp_path / "no")
    (tmp_path / "pictures.npz").touch()
    with pytest.raises(DataError, match=r"got a file; did you mean `npz:.*/pictures.npz`\?"):
        load(tmp_path / "pictures.npz")
    with pytest.raises(DataError, match=r"got no such folder; did you mean `cats`\?"):
        load("folder:cats")


def test_a_folder_without_a_picture_is_refused(load, tmp_path):
    (tmp_path / "none" / "below").mkdir(parents=True)
    (tmp_path / "none" / "notes.txt").touch()
    with pytest.raises(DataError, match="must hold pictures, got none in it or below"):
        load(tmp_path / "none")


def test_a_folder_that_cannot_be_looked_into_is_refused(load, make_more, monkeypatch):
    root = make_more()
    with pytest.raises(DataError, match="must be readable, got File name too long"):
        load(root / ("a" * 300))

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(DataError, match=r"must be readable, got Permission denied in .*more;"):
        load(root)


# ---------------------------------------------------------------------- npz files


@pytest.mark.parametrize("key", ["x", "x_train"])
@pytest.mark.parametrize("axes", [(), (1,)])
def test_arrays_are_read_from_either_key(load, write_npz, key, axes):
    x = np.random.default_rng(1).integers(0, 256, (7, 6, 5, *axes), dtype=np.uint8)
    data = load(write_npz(**{key: x}, y_train=np.zeros(3)))
    assert rows(data.unlabelled_images) == [each.tobytes() for each in x]


def test_arrays_of_another_shape_are_fitted(load, write_npz):
    x = np.full((7, 16, 12, 3), 9, dtype=np.uint8)
    images = load(write_npz(x=x)).unlabelled_images
    assert images.shape == (7, 1, 6, 5)
    assert (images == 9).all()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.zeros(3)}, "must hold `x` or `x_train`, got y$"),
        ({}, "must hold `x` or `x_train`, got nothing$"),
        ({"x": np.zeros((7, 30), np.uint8)}, r"`x` must be NHW or NHWC .* got \(7, 30\)"),
        ({"x": np.zeros((7, 6, 5, 4), np.uint8)}, "with 1 or 3 channels"),
        ({"x": np.zeros((0, 6, 5), np.uint8)}, "must be NHW or NHWC"),
        ({"x_train": np.zeros((7, 6, 5))}, "`x_train` must be uint8, got float64"),
        ({"x": np.array([object()])}, "--unlabelled npz:.* must be a readable file"),
    ],
)
def test_a_file_with_wrong_arrays_is_refused(load, write_npz, arrays, message):
    with pytest.raises(DataError, match=message):
        load(write_npz(**arrays))


def test_a_missing_file_is_refused(load, tmp_path):
    with pytest.raises(DataError, match=r"--unlabelled npz:.*no.npz` must be a readable file"):
        load(f"npz:{tmp_path / 'no.npz'}")


# ---------------------------------------------------------------------- how many


@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_a_limit_draws_by_the_seed_and_a_larger_one_keeps_what_a_smaller_one_drew(
    load, make_more, write_npz, kind
):
    x = np.random.default_rng(1).integers(0, 256, (30, 6, 5), dtype=np.uint8)
    source = make_more(n=30, size=(5, 6), mode="L") if kind == "folder" else write_npz(x=x)
    whole = rows(load(source).unlabelled_images)
    few, same, more = (rows(load(source, unlabelled_limit=n).unlabelled_images) for n in (5, 5, 12))
    other = rows(load(source, unlabelled_limit=5, seed=1).unlabelled_images)
    assert few == same == sorted(few, key=whole.index)
    assert set(few) < set(more) < set(whole)
    assert set(few) != set(other)
    assert rows(load(source, unlabelled_limit=99).unlabelled_images) == whole


def test_a_limit_of_the_training_pictures_is_not_theirs(load, make_more):
    card = load(make_more(n=30), train_limit=20).card
    assert (card.n_train + card.n_val, card.n_unlabelled) == (20, 30)


# ---------------------------------------------------------------------- the card


def test_the_data_set_stays_what_it_is(make_npz, load, make_more):
    plain = load_data(make_npz())
    data = load(make_more())
    assert len(plain.unlabelled_images) == 0
    assert plain.unlabelled_images.shape[1:] == (1, 6, 5)
    assert (plain.card.n_unlabelled, plain.card.unlabelled_digest) == (0, "")
    assert plain.card == replace(data.card, n_unlabelled=0, unlabelled_digest="")
    for name in ("train_images", "train_labels", "val_images", "val_labels"):
        assert torch.equal(getattr(plain, name), getattr(data, name))


def test_they_have_a_digest_of_their_own(load, write_npz):
    x = np.random.default_rng(1).integers(0, 256, (7, 6, 5), dtype=np.uint8)
    digests = [load(write_npz(x=each)).card.unlabelled_digest for each in (x, x, x + 1, x[:6])]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert all(len(each) == 64 for each in digests)


def test_search_and_test_have_the_same_card(make_npz, make_more):
    config = make_npz().model_copy(update={"unlabelled": make_more()})
    assert load_data(config).card == load_test(config).card


# ---------------------------------------------------------------------- the cache


@pytest.mark.parametrize("kinds", ["folder folder", "folder npz", "npz folder"])
def test_a_large_set_is_the_same_as_a_small_one(
    make_folder, make_npz, make_more, write_npz, cache_dir, kinds
):
    first, second = kinds.split()
    x = np.random.default_rng(1).integers(0, 256, (10, 6, 5), dtype=np.uint8)
    config = Config(data=f"folder:{make_folder()}") if first == "folder" else make_npz()
    more = make_more() if second == "folder" else write_npz(x=x)
    config = config.model_copy(update={"unlabelled": Path(more)})
    small = load_data(config)
    assert not cache_dir.exists()
    for _ in range(2):  # written, then used again
        large = load_data(config, memory_limit_bytes=100)
        assert large.card == small.card
        for name in ("train_images", "val_images", "unlabelled_images"):
            assert torch.equal(getattr(large, name), getattr(small, name))
    n_files = 2 if first == "folder" else 1  # a test split that lies in memory needs none
    assert len(list(cache_dir.iterdir())) == n_files


def test_a_cached_set_is_not_decoded_again(make_npz, make_more, monkeypatch):
    config = make_npz().model_copy(update={"unlabelled": make_more()})
    load_data(config, memory_limit_bytes=100)

    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr("autokd.data.folder.fit_picture", refuse)
    load_data(config, memory_limit_bytes=100)


@pytest.mark.parametrize("change", ["pixels", "file", "limit"])
def test_what_changes_the_pictures_changes_the_file(
    make_npz, make_more, write_picture, cache_dir, change
):
    root = make_more()
    config = make_npz().model_copy(update={"unlabelled": root})
    load_data(config, memory_limit_bytes=100)
    if change == "pixels":  # of the labelled ones, which lie in memory
        x = np.zeros((40, 6, 5), dtype=np.uint8)
        config = make_npz(x_train=x).model_copy(update={"unlabelled": root})
    elif change == "file":
        write_picture(root / "7.png")
    else:
        config = config.model_copy(update={"unlabelled_limit": 5})
    data = load_data(config, memory_limit_bytes=100)
    names = sorted(path.name for path in cache_dir.iterdir())
    assert len(names) == 2
    assert len(data.unlabelled_images) == (5 if change == "limit" else 10)


def test_joined_pictures_are_read_in_any_order():
    first, second = (
        build_array_pictures(np.full((n, 6, 5, 1), value, dtype=np.uint8), (1, 6, 5))
        for n, value in ((3, 10), (4, 20))
    )
    both = JoinedPictures(first=first, second=second, n_first=3, n_second=4)
    values = [each[0, 0, 0] for each in both.read(np.array([6, 0, 3, 2, 5])) if each is not None]
    assert values == [20, 10, 20, 10, 20]
    assert (both.shape, both.fingerprint) == ((1, 6, 5), "")
    assert (both.name(2), both.name(3)) == ("picture 2", "picture 0")
