import pytest
import torch
from torch import nn

from autokd.distillation import build_exits
from autokd.errors import BuildError


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 8, 3, 2, padding=1)
        self.third = nn.Conv2d(8, 16, 3, 2, padding=1)
        self.head = nn.Linear(16, 5)

    def forward(self, views):
        maps = self.third(self.second(self.first(views).relu()).relu()).relu()
        return self.head(maps.mean((2, 3)))


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    views = torch.rand(8, 1, 12, 12, generator=generator)
    return views, nn.functional.one_hot(torch.arange(8) % 5, 5).float()


def build(n_exits=2, student=None, views=None):
    torch.manual_seed(0)
    student = student or Student()
    example = torch.rand(2, 1, 12, 12) if views is None else views
    exits, reader = build_exits(student, example, n_exits=n_exits, n_classes=5, seed=3)
    return student, exits, reader


@pytest.mark.parametrize(("wanted", "got"), [(1, 1), (2, 2), (3, 2)])
def test_the_last_maps_before_the_deepest_get_exits(wanted, got):
    _, exits, _ = build(n_exits=wanted)
    assert len(exits.heads) == got


def test_exits_teach_the_earlier_layers_and_not_the_end(batch):
    views, targets = batch
    student, exits, _ = build()
    exits.loss(student(views), targets).backward()
    assert student.first.weight.grad.abs().sum() > 0
    assert student.head.weight.grad is None
    assert student.third.weight.grad is None
    assert all(weight.grad is not None for weight in exits.heads.parameters())


def test_exits_learn_labels_beside_the_same_prior_as_the_end(batch):
    views, targets = batch
    student, exits, _ = build()
    logits = student(views)
    prior = torch.tensor([0.6, 0.1, 0.1, 0.1, 0.1]).log()
    bias = exits.heads[0].bias
    grads = [
        torch.autograd.grad(exits.loss(logits, targets, log_prior=one), bias, retain_graph=True)[0]
        for one in (None, torch.full((5,), 0.2).log(), prior)
    ]
    assert grads[0] == pytest.approx(grads[1], abs=1e-6)
    assert grads[2][0] > grads[0][0], "what is frequent is not to be said of itself"


def test_an_exit_is_taught_as_in_the_paper(batch):
    views, targets = batch
    student, exits, reader = build()
    logits = student(views)
    *shallow, deepest = reader.features
    goal = deepest.mean((2, 3))
    expected = 0.0
    for project, head, feature in zip(exits.bottlenecks, exits.heads, shallow, strict=True):
        vector = project(feature).mean((2, 3))
        said = head(vector)
        hard = -(targets * said.log_softmax(1)).sum(1).mean()
        theirs, ours = (one.div(3).log_softmax(1) for one in (logits, said))
        soft = 9 * (theirs.exp() * (theirs - ours)).sum(1).mean()
        far = ((vector - goal) ** 2 * ((vector > 0) | (goal > 0))).sum() / len(views)
        expected = expected + 0.7 * hard + 0.3 * soft + 0.03 * far
    assert exits.loss(logits, targets).item() == pytest.approx(expected.item(), rel=1e-4)


def test_training_the_exits_lowers_their_loss(batch):
    views, targets = batch
    student, exits, _ = build()
    optimiser = torch.optim.Adam([*student.parameters(), *exits.parameters()], lr=0.01)
    losses = []
    for _ in range(60):
        loss = exits.loss(student(views), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 1.3


def test_the_student_is_as_it_was_when_the_reader_is_closed():
    student, _, reader = build()
    names = set(student.state_dict())
    reader.close()
    assert set(student.state_dict()) == names
    assert not any(module._forward_hooks for module in student.modules())


def test_the_seed_decides_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    student = Student()
    torch.set_rng_state(state)
    first, second = (
        build_exits(student, torch.rand(2, 1, 12, 12), n_exits=1, n_classes=5, seed=seed)[0]
        for seed in (3, 3)
    )
    assert torch.equal(first.heads[0].weight, second.heads[0].weight)


def test_a_student_of_one_map_cannot_have_exits():
    flat = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 144, 5))
    with pytest.raises(BuildError, match="two maps larger than 1x1"):
        build(student=flat)
