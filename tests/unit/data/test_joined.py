from dataclasses import replace

import numpy as np
import pytest
import torch

from autokd.config import Config
from autokd.data import NO_LABEL, join_unlabelled, load_data
from autokd.distillation.training import TrainingData


@pytest.fixture
def config(make_folder, write_picture, tmp_path):
    for index in range(7):
        write_picture(tmp_path / "more" / f"{index}.png", size=(30, 20))
    return Config(data=f"folder:{make_folder(size=(8, 8))}", unlabelled=tmp_path / "more")


@pytest.mark.parametrize("limit_bytes", [2**30, 100], ids=["memory", "file"])
def test_both_kinds_are_one_list_without_a_copy(config, limit_bytes):
    data = load_data(config, memory_limit_bytes=limit_bytes)
    joined = join_unlabelled(data)
    n = data.card.n_train
    assert torch.equal(joined.train_images[:n], data.train_images)
    assert torch.equal(joined.train_images[n:], data.unlabelled_images)
    assert torch.equal(joined.train_labels[:n], data.train_labels)
    assert joined.train_labels[n:].tolist() == [NO_LABEL] * 7
    assert joined.train_images.data_ptr() == data.train_images.data_ptr()
    assert joined.train_images[n:].data_ptr() == data.unlabelled_images.data_ptr()
    assert joined.train_images.is_contiguous()
    assert joined.val_images is data.val_images
    assert joined.val_labels is data.val_labels


def test_no_validation_picture_is_in_the_list(config):
    data = load_data(config)
    images = {each.numpy().tobytes() for each in join_unlabelled(data).train_images}
    assert not images & {each.numpy().tobytes() for each in data.val_images}


def test_without_such_pictures_the_training_split_is_the_list():
    data = load_data(Config())
    joined = join_unlabelled(data)
    assert joined.train_images is data.train_images
    assert joined.train_labels is data.train_labels


def test_pictures_that_lie_elsewhere_are_copied(config):
    data = load_data(config)
    moved = replace(data, unlabelled_images=data.unlabelled_images.clone())
    assert torch.equal(join_unlabelled(moved).train_images, join_unlabelled(data).train_images)
    some = replace(data, train_images=data.train_images[::2], train_labels=data.train_labels[::2])
    n = len(some.train_labels)
    assert torch.equal(join_unlabelled(some).train_images[n:], data.unlabelled_images)
    assert torch.equal(join_unlabelled(some).train_images[:n], data.train_images[::2])


def test_a_training_can_take_the_list(config):
    joined = join_unlabelled(load_data(config))
    assert isinstance(joined, TrainingData)
    assert np.issubdtype(joined.train_labels.numpy().dtype, np.int64)
