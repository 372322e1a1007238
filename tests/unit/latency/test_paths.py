import math

import pytest
import torch
from torch import nn

from autokd.errors import MeasureError
from autokd.exporters import export_onnx
from autokd.latency import PATH_COUNTS, count_paths


class Branches(nn.Module):
    """Two paths of one and two convolutions, then a block with a shortcut."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(3, 8, 1)
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Linear(8, 10)

    def forward(self, pictures):
        features = self.one(pictures) + self.second(torch.relu(self.first(pictures)))
        features = features + self.depthwise(features)
        return self.head(features.mean((2, 3)))


def named(model):
    return dict(zip(PATH_COUNTS, count_paths(model), strict=True))


def test_layers_and_paths_are_counted(tmp_path):
    counts = named(export_onnx(Branches(), tmp_path / "m.onnx", shape=(3, 8, 8)))
    assert counts["pointwise convolutions"] == 2
    assert counts["depthwise convolutions"] == 1
    assert counts["other convolutions"] == 1
    assert counts["matrix products"] == 1
    assert counts["sums"] == 2
    assert counts["layers with weights on the longest path"] == 4
    assert counts["layers with weights on the shortest path"] == 2
    # The four paths have 2, 3, 3 and 4.
    assert counts["layers with weights on a path, in the mean"] == pytest.approx(3.0)
    assert counts["logarithm of the number of paths"] == pytest.approx(math.log(4))


def test_a_chain_has_one_path(tmp_path):
    chain = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    counts = named(export_onnx(chain, tmp_path / "m.onnx", shape=(1, 8, 8)))
    assert counts["logarithm of the number of paths"] == 0
    assert counts["layers with weights on the longest path"] == 2
    assert counts["layers with weights on the shortest path"] == 2


def test_weights_do_not_matter(tmp_path):
    networks = [Branches(), Branches()]
    files = [
        export_onnx(network, tmp_path / f"{n}.onnx", shape=(3, 8, 8))
        for n, network in enumerate(networks)
    ]
    assert count_paths(files[0]) == count_paths(files[1])


def test_rubbish_is_refused(tmp_path):
    rubbish = tmp_path / "rubbish.onnx"
    rubbish.write_bytes(b"no network")
    with pytest.raises(MeasureError, match=r"rubbish.onnx must be an ONNX file"):
        count_paths(rubbish)


class Standardised(nn.Conv2d):
    """A convolution whose weights are computed in the graph."""

    def forward(self, pictures):
        weight = self.weight / self.weight.flatten(1).norm(dim=1)[:, None, None, None]
        weight = weight * pictures.mean()  # so that nothing folds it
        return self._conv_forward(pictures, weight, self.bias)


def test_a_convolution_whose_weights_are_computed_is_one_of_the_others(tmp_path):
    network = nn.Sequential(Standardised(4, 4, 1, groups=2), nn.Flatten(), nn.Linear(256, 2))
    counts = named(export_onnx(network, tmp_path / "m.onnx", shape=(4, 8, 8)))
    assert counts["other convolutions"] == 1
