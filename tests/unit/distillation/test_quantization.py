"""Where numbers are rounded in a student, and from when on."""

import copy

import pytest
import torch
from torch import nn

from autokd.distillation import QuantizedStudent, Student, build_quantized_student
from autokd.distillation.fake_quantization import ActivationQuantizer, QuantizedLayer
from autokd.distillation.quantization import stage_at
from autokd.errors import BuildError


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    def forward(self, pictures):
        maps = self.stem(pictures)
        return self.head(torch.relu(maps + self.body(maps)))


class Gated(nn.Module):
    """Hard-swish, and squeeze and excite."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Hardswish())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Hardsigmoid())
        self.head = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 3, 3))

    def forward(self, pictures):
        maps = self.stem(pictures)
        return self.head(maps * self.gate(maps)).mean((2, 3))


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 4, 4)
        self.place = nn.Parameter(torch.zeros(1, 4, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, pictures):
        tokens = self.patches(pictures).flatten(2).transpose(1, 2) + self.place
        return self.head(self.layer(tokens).mean(1))


def build(network=Residual, *, n_steps=10, **options):
    torch.manual_seed(0)
    student = Student(network(), mean=[0.4], std=[0.3])
    for _ in range(5):
        student.train()(torch.rand(16, 1, 8, 8))
    pictures = torch.rand(16, 1, 8, 8)
    rounded = build_quantized_student(student, pictures[:2], n_steps=n_steps, **options)
    return student.eval(), rounded, pictures


def rounded_tensors(rounded: QuantizedStudent) -> list[str]:
    """What the quantizers are called on, by name."""
    graph = rounded.network.graph
    return [
        node.args[0].name
        for node in graph.nodes
        if node.op == "call_module" and node.target.startswith("quantizer")
    ]


@pytest.mark.parametrize("network", [Residual, Gated, Attending])
def test_the_first_stage_is_the_float_network(network):
    student, rounded, pictures = build(network)
    assert torch.allclose(rounded.train()(pictures), student(pictures), atol=1e-6)


@pytest.mark.parametrize("network", [Residual, Gated, Attending])
def test_the_last_one_is_near_it(network):
    student, rounded, pictures = build(network)
    rounded.observe(pictures)
    error = (rounded.eval()(pictures) - student(pictures)).abs().max()
    assert 0 < error < 0.05 * student(pictures).abs().max()


def test_stages_follow_each_other_step_by_step():
    _, rounded, pictures = build(n_steps=10)
    found = []
    for _ in range(10):
        rounded.train()(pictures)
        layers = [one for one in rounded.modules() if isinstance(one, QuantizedLayer)]
        quantizers = [one for one in rounded.modules() if isinstance(one, ActivationQuantizer)]
        assert len({one.is_quantizing for one in layers}) == 1
        assert len({(one.is_quantizing, one.is_observing) for one in quantizers}) == 1
        one = quantizers[0]
        found.append((layers[0].is_quantizing, one.is_quantizing, one.is_observing))
    observers, weights = (False, False, True), (True, False, True)
    both, fixed = (True, True, True), (True, True, False)
    assert found == [observers] * 1 + [weights] * 2 + [both] * 4 + [fixed] * 3


@pytest.mark.parametrize("n_steps", [1, 2, 3, 7, 100])
def test_observers_always_come_first(n_steps):
    assert stage_at(0 / n_steps) == "observers"
    assert stage_at(1.0) == "fixed"


def test_evaluation_rounds_everything_and_moves_nothing():
    _, rounded, pictures = build()
    rounded.train()(pictures)
    before = copy.deepcopy(rounded.state_dict())
    first = rounded.eval()(pictures)
    assert torch.equal(rounded(pictures * 1), first)
    assert not torch.equal(rounded.train()(pictures), first)
    rounded.load_state_dict(before)
    assert torch.equal(rounded.eval()(pictures), first)


def test_a_student_goes_on_from_its_state_as_if_never_cut_off():
    _, rounded, pictures = build()
    _, other, _ = build()
    for _ in range(4):
        rounded.train()(pictures)
    other.load_state_dict(rounded.state_dict())
    assert torch.equal(other.train()(pictures), rounded(pictures))
    assert other.n_done == 5


def test_everything_that_it_learns_gets_a_gradient():
    _, rounded, pictures = build(n_steps=1000)
    rounded.n_done.fill_(500)
    for _ in range(2):
        rounded.train()(pictures)
    rounded(pictures).square().sum().backward()
    assert all(value.grad.abs().sum() > 0 for value in rounded.parameters())


def test_what_integer_kernels_take_and_give_is_rounded():
    _, rounded, _ = build(Residual)
    wanted = ["div", "relu", "layer_1", "relu_1", "adaptive_avg_pool2d", "flatten"]
    assert rounded_tensors(rounded) == wanted
    quantizers = [one for one in rounded.modules() if isinstance(one, ActivationQuantizer)]
    assert len(quantizers) == len(wanted) - 1  # flatten shares the one of the pool


def test_hard_swish_stays_in_floating_point_between_rounded_tensors():
    _, rounded, _ = build(Gated)
    names = rounded_tensors(rounded)
    assert {"layer_0", "hardswish", "hardsigmoid", "mul"} <= set(names)
    by_node = {node.name: node for node in rounded.network.graph.nodes}
    pooled = next(user for user in by_node["max_pool2d"].users)
    multiplied = next(user for user in by_node["mul"].users)
    assert pooled.target == multiplied.target  # the largest of some integers is one of them


def test_tokens_are_rounded_before_linear_layers_only():
    _, rounded, _ = build(Attending)
    graph = rounded.network.graph
    readers = [
        {user.target for user in node.users}
        for node in graph.nodes
        if node.op == "call_module" and node.target.startswith("quantizer")
    ]
    assert all(str(target).startswith("layer_") for one in readers[2:] for target in one)


def test_settled_scales_are_constants_and_the_student_goes_on():
    _, rounded, pictures = build()
    rounded.observe(pictures)
    settled = rounded.settle()
    assert torch.allclose(settled(pictures), rounded.eval()(pictures), atol=1e-6)
    rounded.observe(pictures * 9)
    assert not torch.allclose(settled(pictures), rounded.eval()(pictures), atol=1e-4)


def test_a_student_without_such_layers_is_refused():
    with pytest.raises(BuildError, match="must have convolutions of pictures or linear layers"):
        build_quantized_student(nn.Flatten(), torch.rand(2, 1, 8, 8), n_steps=1)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="`weight_bits` must be 7 or 8, got 4"):
        build_quantized_student(Residual(), torch.rand(2, 1, 8, 8), n_steps=1, weight_bits=4)
    with pytest.raises(ValueError, match="`n_steps` must be at least 1, got 0"):
        build_quantized_student(Residual(), torch.rand(2, 1, 8, 8), n_steps=0)
