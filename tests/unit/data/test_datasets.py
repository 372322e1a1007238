import itertools
import struct
import sys

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from autokd.config import Config
from autokd.data import load_data, load_test
from autokd.errors import DataError

SETS = """
import numpy as np, torch
from PIL import Image
rng = np.random.default_rng(0)
arrays = [rng.integers(0, 256, (6, 5, 3), dtype=np.uint8) for _ in range(20)]
def train_alone(): return [(each, i % 2) for i, each in enumerate(arrays)]
def with_none(): return train_alone(), None
def with_test(): return train_alone(), [(np.full((6, 5, 3), 7, np.uint8), i % 2) for i in range(4)]
def images(): return [(Image.fromarray(each), i % 2) for i, each in enumerate(arrays)]
def tensors(): return [(torch.from_numpy(each).permute(2, 0, 1), torch.tensor(i % 2))
                       for i, each in enumerate(arrays)]
def floats(): return [(torch.from_numpy(each).permute(2, 0, 1) / 255, np.int64(i % 2))
                      for i, each in enumerate(arrays)]
def torch_set():
    return torch.utils.data.TensorDataset(torch.stack([x for x, _ in tensors()]),
                                          torch.arange(20) % 2)
def sizes(): return [(np.full((16 + i, 20, 3), i, np.uint8), i % 2) for i in range(20)]
class Named(list):
    classes = ["cat", "dog"]
def named(): return Named(train_alone())
def raises(): raise RuntimeError("out of luck\\nand more")
class Failing(list):
    def __getitem__(self, index):
        if index == 3: raise OSError("disk gone")
        return super().__getitem__(index)
def raises_later(): return Failing(train_alone())
def number(): return 3
def text(): return "abc"
def stream(): return iter(train_alone())
def unlabelled(): return [each for each in arrays]
def triples(): return [(each, 0, 1) for each in arrays]
def float_labels(): return [(each, 0.5) for each in arrays]
def vectors(): return [(each, torch.zeros(3)) for each in arrays]
def texts(): return [("a.png", 0)]
def negative(): return [(each, -1) for each in arrays]
def empty(): return []
constant = 3
"""
names = (f"user_sets_{index}" for index in itertools.count())


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    name = next(names)
    (tmp_path / f"{name}.py").write_text(SETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return name


def read_user(module, function, **options):
    return load_data(Config(data=f"python:{module}:{function}", **options))


@pytest.mark.parametrize("function", ["with_none", "images", "tensors", "floats", "torch_set"])
def test_a_users_pictures_may_be_of_any_kind(user_module, function):
    expected, found = read_user(user_module, "train_alone"), read_user(user_module, function)
    assert torch.equal(expected.train_images, found.train_images)
    assert torch.equal(expected.train_labels, found.train_labels)
    assert expected.card.digest == found.card.digest


def test_a_users_test_split_is_the_test_split(user_module):
    test = load_test(Config(data=f"python:{user_module}:with_test"))
    assert (test.images == 7).all()
    assert len(test.labels) == 4


def test_a_users_pictures_may_differ_in_size(user_module):
    images = read_user(user_module, "sizes").train_images
    assert images.shape[1:] == (3, 16, 16)
    assert (images == images[:, :1, :1, :1]).all()
    assert read_user(user_module, "sizes", image_size=9).card.shape == (3, 9, 9)


def test_a_users_pictures_beyond_the_limit_are_read_twice_and_cached(user_module, cache_dir):
    config = Config(data=f"python:{user_module}:sizes")
    small, large = load_data(config), load_data(config, memory_limit_bytes=3000)
    assert torch.equal(small.train_images, large.train_images)
    assert small.card == large.card
    assert len(list(cache_dir.iterdir())) == 2


def test_a_users_classes_are_named(user_module):
    assert read_user(user_module, "named").card.classes == ("cat", "dog")
    assert read_user(user_module, "train_alone").card.classes == ("0", "1")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("raises", r"must run without an error, got RuntimeError: out of luck$"),
        ("raises_later", r"\[3\] must run without an error, got OSError: disk gone$"),
        ("number", "must return data sets or lists .* got int"),
        ("text", "must return data sets or lists .* got str"),
        ("stream", "must return data sets or lists"),
        ("unlabelled", "must be an image and a label, got ndarray"),
        ("triples", "must be an image and a label"),
        ("float_labels", "label must be the integer of a class, got float"),
        ("vectors", "label must be the integer of a class, got Tensor"),
        ("texts", r"\[0\]: image must be a Pillow image"),
        ("negative", "must not be negative, got -1"),
        ("empty", "must hold pictures, got none"),
        ("constant", "must name a function"),
        ("train_alon", "got no train_alon; did you mean `train_alone`"),
    ],
)
def test_a_users_mistake_is_told_in_one_line(user_module, function, message):
    with pytest.raises(DataError, match=message) as caught:
        read_user(user_module, function)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["no_such_module:f", "broken:f"])
@pytest.mark.usefixtures("user_module")
def test_a_module_that_cannot_be_imported_is_refused(tmp_path, spec):
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(DataError, match=r"got (ModuleNotFoundError|ZeroDivisionError): "):
        load_data(Config(data=f"python:{spec}"))


@pytest.mark.parametrize("spec", ["module", "module:", ":f"])
def test_a_function_without_a_module_is_refused(spec):
    with pytest.raises(DataError, match="`--data` must be python:module:function"):
        load_data(Config(data=f"python:{spec}"))


def write_mnist(root):
    """Files that torchvision's own MNIST reads."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, n in (("train", 40), ("t10k", 20)):
        pixels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        head = struct.pack(">iiii", 2051, n, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        labels = (np.arange(n) % 10).astype(np.uint8)
        head = struct.pack(">ii", 2049, n)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())


def write_tree(root, *parts, n=10, suffix=".png"):
    rng = np.random.default_rng(0)
    for part in parts:
        for label in ("a", "b"):
            (root / part / label).mkdir(parents=True)
            for index in range(n):
                pixels = rng.integers(0, 256, (12 + index, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / label / f"{index}{suffix}")


@pytest.mark.parametrize("name", ["MNIST", "mnist"])
def test_a_set_with_arrays_is_taken_as_it_is(tmp_path, name):
    write_mnist(tmp_path)
    config = Config(data=f"torchvision:{name}", data_root=tmp_path, val_ratio=0.25)
    search, test = load_data(config), load_test(config)
    own = torchvision.datasets.MNIST(tmp_path, train=False)
    assert torch.equal(test.images[:, 0], own.data)
    assert torch.equal(test.labels, own.targets)
    assert search.card.shape == (1, 28, 28)
    assert (search.card.n_train, search.card.n_val) == (30, 10)
    assert search.card.classes[0] == "0 - zero"


def test_a_set_with_files_is_decoded_like_a_folder(tmp_path):
    write_tree(tmp_path / "country211", "train", "test")
    config = Config(data="torchvision:country211", data_root=tmp_path)
    search = load_data(config)
    assert search.card.shape == (3, 8, 8)
    assert search.card.classes == ("a", "b")
    assert search.card.n_test == len(load_test(config).images) == 20


def test_a_set_that_calls_its_splits_otherwise_is_opened(tmp_path):
    write_tree(tmp_path / "imagenette2", "train", "val", n=5, suffix=".jpeg")
    config = Config(data="torchvision:Imagenette", data_root=tmp_path, image_size=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchvision.datasets.Imagenette, "_WNID_TO_CLASS", {"a": ("A",), "b": ("B",)})
        card = load_data(config).card
    assert (card.n_train + card.n_val, card.n_test) == (10, 10)


def test_a_set_without_splits_is_cut(tmp_path):
    write_tree(tmp_path / "eurosat", "2750")
    card = load_data(Config(data="torchvision:EuroSAT", data_root=tmp_path)).card
    assert (card.n_train, card.n_val, card.n_test) == (12, 4, 4)


def test_few_unreadable_pictures_of_a_set_are_skipped(tmp_path):
    write_tree(tmp_path / "eurosat", "2750", n=60)
    (tmp_path / "eurosat" / "2750" / "a" / "3.png").write_bytes(b"no picture")
    config = Config(data="torchvision:EuroSAT", data_root=tmp_path)
    assert load_data(config).card.n_skipped == 1
    (tmp_path / "eurosat" / "2750" / "a" / "4.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="less than 1 % unreadable pictures, got 2"):
        load_data(config)


@pytest.mark.parametrize("name", ["MNIST", "CIFAR10", "Country211", "EuroSAT", "SEMEION"])
def test_missing_files_are_refused_with_a_remedy(tmp_path, name):
    with pytest.raises(DataError, match="pass --download or put it in --data-root"):
        load_data(Config(data=f"torchvision:{name}", data_root=tmp_path))


def test_a_failed_download_is_told(tmp_path, monkeypatch):
    def fail(_):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", fail)
    config = Config(data="torchvision:MNIST", data_root=tmp_path, download=True)
    with pytest.raises(DataError, match="got a failed download: no route to host"):
        load_data(config)


def test_an_unknown_set_is_refused_with_near_ones():
    with pytest.raises(DataError, match="got 'CIFAR1'; did you mean CIFAR10 or CIFAR100"):
        load_data(Config(data="torchvision:CIFAR1"))


@pytest.mark.parametrize("name", ["ImageFolder", "VisionDataset", "datasets", "__doc__"])
def test_what_is_no_set_of_its_own_is_refused(name):
    with pytest.raises(DataError, match="must name a classification set"):
        load_data(Config(data=f"torchvision:{name}"))


@pytest.mark.parametrize("name", ["CocoDetection", "EMNIST"])
def test_a_set_that_wants_to_know_more_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="wants more; use python:module:function"):
        load_data(Config(data=f"torchvision:{name}", data_root=tmp_path))


def test_a_set_whose_targets_are_no_classes_is_refused(tmp_path, monkeypatch):
    class Boxes(torchvision.datasets.VisionDataset):
        def __init__(self, root):
            super().__init__(root)

        def __len__(self):
            return 5

        def __getitem__(self, index):
            return Image.new("RGB", (8, 8)), {"boxes": [1, 2, 3, 4]}

    monkeypatch.setattr(torchvision.datasets, "Kitti", Boxes)
    with pytest.raises(DataError, match="label must be the integer of a class, got dict"):
        load_data(Config(data="torchvision:Kitti", data_root=tmp_path))
