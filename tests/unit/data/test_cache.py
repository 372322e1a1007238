import errno
from pathlib import Path

import numpy as np
import pytest
import torch

from autokd.config import Config
from autokd.data import cache, load_data, load_test
from autokd.errors import DataError


@pytest.fixture
def config(make_folder):
    return Config(data=f"folder:{make_folder(n=100, size=(8, 8))}")


def test_a_large_set_is_the_same_as_a_small_one(config, cache_dir):
    path = Path(config.data.removeprefix("folder:")) / "a" / "7.png"
    path.write_bytes(path.read_bytes()[:100])
    small = load_data(config), load_test(config)
    assert not cache_dir.exists()
    for _ in range(2):  # written, then used again
        large = (
            load_data(config, memory_limit_bytes=1000),
            load_test(config, memory_limit_bytes=1000),
        )
        assert large[0].card == small[0].card
        assert torch.equal(large[0].train_images, small[0].train_images)
        assert torch.equal(large[0].val_images, small[0].val_images)
        assert torch.equal(large[1].images, small[1].images)
    assert len(list(cache_dir.iterdir())) == 2


def test_large_splits_are_views_of_the_file(config):
    search = load_data(config, memory_limit_bytes=1000)
    assert search.train_images.untyped_storage().data_ptr() == (
        search.val_images.untyped_storage().data_ptr()
    )


def test_a_cached_set_is_not_decoded_again(config, monkeypatch):
    load_data(config, memory_limit_bytes=1000)

    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr("autokd.data.folder.fit_picture", refuse)
    load_data(config, memory_limit_bytes=1000)


@pytest.mark.parametrize("change", ["seed", "image_size", "file"])
def test_what_changes_the_pictures_changes_the_file(config, cache_dir, write_picture, change):
    load_data(config, memory_limit_bytes=1000)
    if change == "file":
        write_picture(Path(config.data.removeprefix("folder:")) / "a" / "0.png", size=(8, 8))
    else:
        config = config.model_copy(update={change: 16})
    load_data(config, memory_limit_bytes=1000)
    assert len(list(cache_dir.iterdir())) == 4


def test_writing_to_a_cached_tensor_leaves_the_file_alone(config):
    first = load_data(config, memory_limit_bytes=1000)
    before = first.train_images.clone()
    first.train_images.zero_()
    assert torch.equal(load_data(config, memory_limit_bytes=1000).train_images, before)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_full_disk_is_an_error_and_leaves_no_file(config, cache_dir, monkeypatch, number):
    def fail(self, _):
        assert self.stat().st_size > 0
        raise OSError(number, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(DataError, match=r"must have room .* got No space left .* AUTOKD_CACHE"):
        load_data(config, memory_limit_bytes=1000)
    assert list(cache_dir.iterdir()) == []


def test_an_interrupted_decoding_leaves_no_file(config, cache_dir, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("autokd.data.folder.fit_picture", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_data(config, memory_limit_bytes=1000)
    assert list(cache_dir.iterdir()) == []


def test_pictures_are_read_in_chunks(config, monkeypatch):
    whole = load_data(config).train_images
    monkeypatch.setattr(cache, "_CHUNK_BYTES", 3 * 8 * 8 * 7)
    assert torch.equal(load_data(config).train_images, whole)


def test_resized_arrays_are_cached_and_others_are_not(make_npz, cache_dir):
    config = make_npz(x_train=np.zeros((40, 6, 5), dtype=np.uint8))
    load_data(config, memory_limit_bytes=10)
    assert not cache_dir.exists()
    load_data(config.model_copy(update={"image_size": 8}), memory_limit_bytes=10)
    assert len(list(cache_dir.iterdir())) == 2
