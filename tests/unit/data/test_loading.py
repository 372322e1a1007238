import dataclasses
import logging

import numpy as np
import pytest
import torch

from autokd.config import Config
from autokd.data import load_data, load_test
from autokd.errors import DataError


def rows(images):
    return {bytes(each.numpy().tobytes()) for each in images}


def test_no_test_picture_is_in_search_data(make_npz):
    config = make_npz()
    search, test = load_data(config), load_test(config)
    fields = {field.name for field in dataclasses.fields(search)}
    labelled = {"train_images", "train_labels", "val_images", "val_labels"}
    assert fields == {"card", "unlabelled_images"} | labelled
    for images in (search.train_images, search.val_images):
        assert not rows(images) & rows(test.images)
        shared = images.untyped_storage().nbytes()
        assert shared == search.train_images.numel() + search.val_images.numel()


def test_the_splits_make_up_the_whole_set_once(make_npz):
    config = make_npz()
    search, test = load_data(config), load_test(config)
    parts = [rows(each) for each in (search.train_images, search.val_images, test.images)]
    assert sum(len(each) for each in parts) == len(set().union(*parts)) == 40


def test_loading_is_a_function_of_the_configuration(make_npz):
    config = make_npz()
    first, second = load_data(config), load_data(config)
    assert first.card == second.card == load_test(config).card
    assert torch.equal(first.train_images, second.train_images)
    assert torch.equal(first.val_labels, second.val_labels)


def test_loading_leaves_the_global_generators_alone(make_npz):
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global state is what is tested
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    load_data(make_npz())
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_the_digest_tells_seeds_pixels_and_labels_apart(make_npz):
    config = make_npz()
    digests = {load_data(config).card.digest}
    digests.add(load_data(config.model_copy(update={"seed": 1})).card.digest)
    x = np.random.default_rng(0).integers(0, 256, (40, 6, 5), dtype=np.uint8)
    x[-1, 0, 0] ^= 1
    digests.add(load_data(make_npz(x_train=x)).card.digest)
    digests.add(load_data(make_npz(y_train=np.arange(40)[::-1] % 4)).card.digest)
    assert len(digests) == 4


def test_the_digest_covers_the_test_split(make_npz):
    x, y = np.zeros((8, 6, 5), dtype=np.uint8), np.arange(8) % 4
    first = load_data(make_npz(x_test=x, y_test=y)).card
    second = load_data(make_npz(x_test=x + 1, y_test=y)).card
    assert first.digest != second.digest
    assert first.mean == second.mean


def test_mean_and_std_are_those_of_the_training_split(make_npz):
    x = np.random.default_rng(1).integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
    x[..., 2] = 51
    search = load_data(make_npz(x_train=x))
    pixels = search.train_images.double() / 255
    assert search.card.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert search.card.std[:2] == pytest.approx(pixels.std((0, 2, 3), correction=0)[:2].tolist())
    assert search.card.mean[2] == pytest.approx(0.2)
    assert search.card.std[2] == 1e-3


def test_the_card_counts_the_splits(make_npz):
    config = make_npz()
    search, test = load_data(config), load_test(config)
    card = search.card
    assert (card.n_train, card.n_val, card.n_test) == (25, 7, 8)
    assert (card.n_train, card.n_val) == (len(search.train_images), len(search.val_labels))
    assert card.n_test == len(test.images) == len(test.labels)
    assert card.shape == (1, 6, 5) == tuple(search.train_images.shape[1:])
    assert card.n_skipped == 0


def test_half_a_percent_of_unreadable_pictures_is_skipped_and_logged(make_folder, caplog):
    root = make_folder(n=100, size=(8, 8))
    (root / "a" / "7.png").write_bytes(b"no picture")
    config = Config(data=f"folder:{root}")
    with caplog.at_level(logging.WARNING, logger="autokd.data"):
        card = load_data(config).card
    assert card.n_skipped == 1
    assert card.n_train + card.n_val + card.n_test == 199
    assert "a/7.png" in caplog.text
    assert "0.50%" in caplog.text


def test_a_picture_that_breaks_off_is_skipped_and_its_label_with_it(make_folder):
    root = make_folder(n=100, size=(8, 8))
    path = root / "b" / "7.png"
    path.write_bytes(path.read_bytes()[:100])  # the head is fine
    search = load_data(Config(data=f"folder:{root}"))
    test = load_test(Config(data=f"folder:{root}"))
    labels = torch.cat([search.train_labels, search.val_labels, test.labels])
    assert search.card.n_skipped == 1
    assert torch.bincount(labels).tolist() == [100, 99]
    assert len(search.train_images) == search.card.n_train


@pytest.mark.parametrize("content", [b"no picture", None], ids=["head", "body"])
def test_two_percent_of_unreadable_pictures_are_refused_by_name(make_folder, content):
    root = make_folder(n=100, size=(8, 8))
    for index in range(4):
        path = root / "a" / f"{index}.png"
        path.write_bytes(path.read_bytes()[:100] if content is None else content)
    with pytest.raises(DataError, match=r"less than 1 % unreadable pictures, got 4 \(2.0%\)") as e:
        load_data(Config(data=f"folder:{root}"))
    assert str(e.value).count(".png") == 3


def test_test_data_is_not_collected_by_pytest():
    assert load_test(Config()).__test__ is False
