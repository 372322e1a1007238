import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from autokd.config import Config
from autokd.data import load_data, load_test
from autokd.errors import DataError


def test_digits_use_the_whole_range_and_every_picture():
    search, test = load_data(Config()), load_test(Config())
    images = torch.cat([search.train_images, search.val_images, test.images])
    assert search.card.shape == (1, 8, 8)
    assert search.card.classes == tuple("0123456789")
    assert len(images) == 1797
    assert (images.min(), images.max()) == (0, 255)
    total = np.rint(load_digits().images * 255 / 16).sum()
    assert images.double().sum() == total


def test_pixels_and_labels_stay_together(make_npz):
    y = np.arange(40) % 4
    x = np.broadcast_to((y * 60).astype(np.uint8)[:, None, None, None], (40, 6, 5, 3))
    search = load_data(make_npz(x_train=x, y_train=y))
    assert search.card.shape == (3, 6, 5)
    assert torch.equal(search.train_images[:, 0, 0, 0].long(), search.train_labels * 60)


def test_channels_come_first(make_npz):
    x = np.zeros((40, 6, 5, 3), dtype=np.uint8)
    x[..., 1] = 9
    images = load_data(make_npz(x_train=x)).train_images
    assert (images[:, 1] == 9).all()
    assert (images[:, [0, 2]] == 0).all()


def test_a_test_split_in_the_file_is_the_test_split(make_npz):
    x, y = np.full((8, 6, 5), 7, dtype=np.uint8), np.arange(8) % 4
    config = make_npz(x_test=x, y_test=y, classes=np.array(["w", "x", "y", "z"]))
    test = load_test(config)
    assert (test.images == 7).all()
    assert test.labels.tolist() == y.tolist()
    assert load_data(config).card.classes == ("w", "x", "y", "z")


def test_arrays_are_resized_when_a_size_is_asked_for(make_npz):
    config = make_npz(x_train=np.full((40, 6, 5), 9, dtype=np.uint8))
    images = load_data(config.model_copy(update={"image_size": 12})).train_images
    assert images.shape[1:] == (1, 12, 12)
    assert (images == 9).all()


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"must be a readable file .* got FileNotFoundError"):
        load_data(Config(data=f"npz:{tmp_path / 'no.npz'}"))


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_file_that_breaks_off_is_refused(make_npz, keep):
    config = make_npz()
    path = config.data.removeprefix("npz:")
    with open(path, "r+b") as file:  # noqa: PTH123
        size = file.seek(0, 2)
        file.truncate(keep if isinstance(keep, int) else int(keep * size))
    with pytest.raises(DataError, match="must be a readable file"):
        load_data(config)


def test_a_file_with_a_flipped_byte_is_refused(make_npz):
    config = make_npz()
    path = config.data.removeprefix("npz:")
    with open(path, "r+b") as file:  # noqa: PTH123
        file.seek(300)
        file.write(b"\xff\x00\xff\x00")
    with pytest.raises(DataError, match="must be a readable file"):
        load_data(config)


def test_a_single_array_is_refused(tmp_path):
    np.save(tmp_path / "set.npy", np.zeros(3))
    with pytest.raises(DataError, match="got a single array"):
        load_data(Config(data=f"npz:{tmp_path / 'set.npy'}"))


X, Y = np.zeros((8, 6, 5), dtype=np.uint8), np.arange(8) % 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": None}, "must hold `x_train`, got y_train"),
        ({"y_train": None}, "must hold `y_train`"),
        ({"x_test": X}, "must hold `y_test`"),
        ({"y_test": Y}, "must hold `x_test`"),
        ({"x_train": np.zeros((40, 6, 5))}, "must be uint8, got float64"),
        ({"x_train": np.zeros((40, 30), np.uint8)}, r"NHW or NHWC .* got \(40, 30\)"),
        ({"x_train": np.zeros((40, 6, 5, 4), np.uint8)}, "with 1 or 3 channels"),
        ({"x_train": np.zeros((0, 6, 5), np.uint8), "y_train": Y[:0]}, "NHW or NHWC"),
        ({"y_train": Y}, "must hold 40 labels, one a picture, got 8"),
        ({"y_train": np.arange(40) % 4 - 1}, "must not be negative, got -1"),
        ({"y_train": np.arange(40) / 1.0}, "row of integers, got float64"),
        ({"y_train": np.eye(40, dtype=int)}, "row of integers"),
        ({"y_train": np.array([*"abcd"] * 10)}, "row of integers"),
        ({"y_train": np.arange(40) % 4 * 2}, "run from 0 to 6 without a gap, got no 1"),
        ({"y_train": np.arange(40) % 4 * 2**60}, "without a gap"),
        ({"y_train": np.array([object()] * 40)}, "must be a readable file"),
        ({"classes": np.array(["a", "b"])}, "below the 2 classes, got 3"),
        ({"classes": np.array([["a", "b"]])}, "must be a row of names"),
        ({"x_test": X[:, :4], "y_test": Y}, "`x_test` must hold pictures of"),
        ({"x_test": X, "y_test": Y[:3]}, "`y_test` must hold 8 labels"),
        ({"y_train": np.zeros(40, dtype=int)}, "at least 2 classes"),
    ],
)
def test_a_file_with_wrong_arrays_is_refused(make_npz, changes, message):
    with pytest.raises(DataError, match=message):
        load_data(make_npz(**changes))
