"""A network as a graph computes what the network does, whatever Python it is written in."""

import pytest
import torch
from torch import nn

from autokd.distillation.capture import capture_network
from autokd.errors import BuildError


def train_a_little(network, shape=(3, 8, 8)):
    """Statistics that are not those of the beginning."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    for _ in range(3):
        network.train()(torch.rand(8, *shape) * 3)
    return network.eval()


class Branches(nn.Module):
    """Writes in place, adds in place, reshapes by hand, drops out."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6))
        self.second = nn.Sequential(
            nn.Conv2d(6, 6, 3, padding="same", groups=6, bias=False), nn.BatchNorm2d(6)
        )
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6 * 64, 4)

    def forward(self, pictures):
        maps = self.relu(self.first(pictures))
        more = self.second(maps)
        more += maps
        self.relu(more)
        return self.head(self.drop(more.view(pictures.shape[0], -1)))


class PartWriter(nn.Module):
    def forward(self, pictures):
        maps = pictures * 1.0
        maps[:, 0].add_(1)
        return maps.mean((2, 3))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_folding_changes_no_output_for_batches_of_any_size(n):
    network = train_a_little(Branches())
    graph = capture_network(network, torch.rand(2, 3, 8, 8))
    pictures = torch.rand(n, 3, 8, 8)
    assert torch.allclose(graph(pictures), network(pictures), atol=1e-5)
    assert torch.allclose(graph.train()(pictures), network(pictures), atol=1e-5)
    assert "batch_norm" not in graph.code


def test_a_norm_that_follows_no_convolution_stays():
    network = train_a_little(
        nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.Flatten())
    )
    graph = capture_network(network, torch.rand(2, 3, 8, 8))
    pictures = torch.rand(3, 3, 8, 8)
    assert torch.allclose(graph(pictures), network(pictures), atol=1e-6)
    assert "batch_norm" in graph.code


def test_a_convolution_that_others_read_before_its_norm_is_not_folded():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, pictures):
            maps = self.conv(pictures)
            return (maps + self.norm(maps)).flatten(1)

    network = train_a_little(Both())
    pictures = torch.rand(3, 3, 8, 8)
    graph = capture_network(network, pictures)
    assert torch.allclose(graph(pictures), network(pictures), atol=1e-5)


def test_a_frozen_network_is_left_as_it_is_and_its_copy_can_be_trained():
    network = train_a_little(Branches()).requires_grad_(requires_grad=False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    graph = capture_network(network, torch.rand(2, 3, 8, 8))
    graph(torch.rand(2, 3, 8, 8)).sum().backward()
    assert all(value.grad is not None for value in graph.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_writing_into_a_part_of_a_tensor_is_refused_with_the_operation():
    with pytest.raises(BuildError, match=r"part of a tensor to be quantized, got .*\(add_"):
        capture_network(PartWriter(), torch.rand(2, 3, 8, 8))


def test_what_cannot_be_traced_is_refused():
    class Moody(nn.Module):
        def forward(self, pictures):
            return pictures.mean((2, 3)) if pictures.sum() > 0 else pictures.amax((2, 3))

    with pytest.raises(BuildError, match=r"traceable by torch.export to be quantized"):
        capture_network(Moody(), torch.rand(2, 3, 8, 8))
