"""What is inherited of whom: laws on networks of the bundled spaces and on made-up ones."""

import copy
import dataclasses
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from autokd.candidate import Relative, build_student, find_relative, inherit_weights
from autokd.candidate.inheritance import measure_kinship
from autokd.spaces import build_space
from autokd.types import DataCard

CARD = DataCard(
    name="made up", digest="", shape=(1, 8, 8), classes=tuple("0123456789"), mean=(0.5,),
    std=(0.5,), n_train=1, n_val=1, n_test=1,
)  # fmt: skip
SPACES = {
    name: build_space(name, recipe="default", input_shape=CARD.shape, n_classes=10)
    for name in ("mobile", "resnet", "vit")
}
ONE_DEEP = {"depth_1": 1, "depth_2": 1, "depth_3": 1}


def build(space="mobile", *, seed=0, **values):
    return build_student(SPACES[space], values, data=CARD, seed=seed)[0]


def trained(space="mobile", **values):
    """A student with weights and statistics that no fresh one has."""
    student = build(space, seed=7, **values)
    with torch.no_grad():
        for name, value in student.state_dict().items():
            if name.endswith("running_mean"):
                value.uniform_(-0.2, 0.2)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 2.0)
    return student.eval()


def answer(student):
    torch.manual_seed(3)
    with torch.no_grad():
        return student.eval()(torch.rand(4, *CARD.shape))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("seed", range(3))
def test_the_same_architecture_inherits_the_function(space, seed):
    sample = SPACES[space].random(seed)
    relative = trained(space, **sample)
    student = build(space, seed=1, **sample)
    assert inherit_weights(student, relative.state_dict()) == 1.0
    torch.testing.assert_close(answer(student), answer(relative), rtol=0, atol=0)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(("seed", "other"), list(itertools.permutations(range(3), 2)))
def test_whatever_is_not_inherited_stays_fresh(space, seed, other):
    ours, theirs = SPACES[space].random(seed), SPACES[space].random(other)
    relative, student = trained(space, **theirs), build(space, **ours)
    fresh = copy.deepcopy(student.state_dict())
    share = inherit_weights(student, relative.state_dict())
    names = dict(student.named_parameters())
    n = sum(value.numel() for value in names.values())
    n_changed = sum((names[key] != fresh[key]).sum().item() for key in names)
    assert 0 <= share <= 1
    # Of biases, and of norms' weights, many are the same in both; kernels have zeros around them.
    assert bool(n_changed) == bool(share)
    matrices = [key for key in names if names[key].ndim == 2]
    n_matrices = sum((names[key] != fresh[key]).sum().item() for key in matrices)
    assert n_matrices <= share * n + 1e-6
    assert torch.isfinite(answer(student)).all()


def test_a_wider_student_has_its_relative_in_its_first_channels():
    relative, student = trained(width_1=16, width_2=32), build(width_1=24, width_2=64)
    fresh = copy.deepcopy(student.state_dict())
    share = inherit_weights(student, relative.state_dict())
    assert 0.2 < share < 1
    mine, theirs = student.state_dict(), relative.state_dict()
    for key, value in theirs.items():
        first = tuple(slice(0, n) for n in value.shape)
        torch.testing.assert_close(mine[key][first], value, rtol=0, atol=0)
        rest = torch.ones_like(mine[key], dtype=torch.bool)
        rest[first] = False
        assert torch.equal(mine[key][rest], fresh[key][rest])


def test_a_narrower_student_gets_the_first_channels():
    relative, student = trained(width_1=32, width_2=64), build(width_1=16, width_2=32)
    share = inherit_weights(student, relative.state_dict())
    assert share == 1.0
    for key, value in student.state_dict().items():
        assert torch.equal(
            value, relative.state_dict()[key][tuple(slice(0, n) for n in value.shape)]
        )


def test_a_kernel_that_grows_computes_the_same():
    relative, student = trained(kernel_1=3, kernel_2=3), build(kernel_1=5, kernel_2=5)
    share = inherit_weights(student, relative.state_dict())
    assert 0.9 < share < 1
    torch.testing.assert_close(answer(student), answer(relative), rtol=1e-4, atol=1e-5)


def test_a_kernel_that_shrinks_keeps_its_centre():
    relative, student = trained(kernel_1=5), build(kernel_1=3)
    assert inherit_weights(student, relative.state_dict()) == 1.0
    kernels = [key for key, value in student.state_dict().items() if value.shape[2:] == (3, 3)]
    theirs = relative.state_dict()
    for key in kernels:
        inner = theirs[key] if theirs[key].shape[-1] == 3 else theirs[key][..., 1:4, 1:4]
        assert torch.equal(student.state_dict()[key], inner)


@pytest.mark.parametrize(("ours", "theirs"), [(3, 1), (1, 3), (2, 3)])
def test_of_another_depth_the_first_blocks_are_inherited(ours, theirs):
    relative, student = trained(depth_2=theirs), build(depth_2=ours)
    fresh = copy.deepcopy(student.state_dict())
    assert inherit_weights(student, relative.state_dict()) > 0.5
    key = "network.stages.1.{}.body.0.weight"
    mine, other = student.state_dict(), relative.state_dict()
    for block in range(ours):
        expected = other if block < theirs else fresh
        assert torch.equal(mine[key.format(block)], expected[key.format(block)])


def test_the_order_in_a_file_does_not_matter():
    relative, student = trained(), build()
    state = relative.state_dict()
    assert inherit_weights(student, {key: state[key] for key in sorted(state)[::-1]}) == 1.0
    torch.testing.assert_close(answer(student), answer(relative), rtol=0, atol=0)


def test_layers_that_only_one_has_do_not_shift_the_others():
    relative = trained(expansion_2=1, **ONE_DEEP)  # without its first convolution
    student = build(expansion_2=2, squeeze_excite=True, **ONE_DEEP)
    inherit_weights(student, relative.state_dict())
    mine, theirs = student.state_dict(), relative.state_dict()
    block = "network.stages.1.0.body"
    assert torch.equal(mine[f"{block}.3.weight"][:16], theirs[f"{block}.0.weight"])
    assert torch.equal(mine[f"{block}.7.weight"][:, :16], theirs[f"{block}.3.weight"])
    assert torch.equal(mine[f"{block}.8.running_var"], theirs[f"{block}.4.running_var"])


def test_joined_projections_are_cut_one_by_one():
    relative, student = trained("vit", width=32), build("vit", width=64)
    inherit_weights(student, relative.state_dict())
    key = "network.encoders.0.query_key_value.weight"
    mine, theirs = student.state_dict()[key], relative.state_dict()[key]
    for index in range(3):
        ours = mine[64 * index : 64 * index + 32, :32]
        assert torch.equal(ours, theirs[32 * index : 32 * (index + 1)])


def test_positions_of_other_patches_are_not_taken_over():
    relative, student = trained("vit", patch=2), build("vit", patch=4)
    fresh = copy.deepcopy(student.state_dict())
    assert inherit_weights(student, relative.state_dict()) > 0.5
    for key in ("network.patches.position", "network.patches.project.weight"):
        assert torch.equal(student.state_dict()[key], fresh[key])


def test_the_head_is_kept_where_the_classes_are_as_many():
    relative = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    same = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    other = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    before = copy.deepcopy(other.state_dict())
    assert inherit_weights(same, relative.state_dict()) == 1.0
    assert torch.equal(same[2].weight, relative[2].weight[:, :5])
    assert inherit_weights(other, relative.state_dict()) == pytest.approx(35 / 59)
    assert torch.equal(other[2].weight, before["2.weight"])


@pytest.mark.parametrize(
    "stranger",
    [
        lambda: trained("resnet"),
        lambda: trained("vit"),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)),
        lambda: nn.Identity(),
    ],
)
def test_nothing_is_inherited_of_an_unrelated_network(stranger):
    student = build()
    fresh = copy.deepcopy(student.state_dict())
    assert inherit_weights(student, stranger().state_dict()) == 0.0
    assert all(torch.equal(value, fresh[key]) for key, value in student.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_student_keeps_its_dtype(dtype):
    relative, student = trained(), build()
    state = {
        key: value.to(dtype) if value.is_floating_point() else value
        for key, value in relative.state_dict().items()
    }
    assert inherit_weights(student, state) == 1.0
    assert {value.dtype for value in student.parameters()} == {torch.float32}
    torch.testing.assert_close(answer(student), answer(relative), rtol=0.1, atol=0.1)


def test_a_network_on_another_device_is_no_obstacle():
    student = build().to("meta")
    assert inherit_weights(student, trained().state_dict()) == 1.0
    assert {value.device.type for value in student.parameters()} == {"meta"}


def test_channels_in_a_few_groups_are_taken_over_as_they_are_or_not_at_all():
    relative = nn.Sequential(nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 4, 1))
    wider = nn.Sequential(nn.Conv2d(16, 16, 3, groups=2), nn.Conv2d(16, 4, 1))
    equal, fresh = copy.deepcopy(wider), wider[0].weight.detach().clone()
    inherit_weights(wider, relative.state_dict())
    assert torch.equal(wider[0].weight, fresh)
    other = nn.Sequential(nn.Conv2d(16, 16, 3, groups=2), nn.Conv2d(16, 4, 1))
    assert inherit_weights(equal, other.state_dict()) == 1.0


# ---------------------------------------------------------------------- who


SCALARS = st.one_of(st.integers(0, 64), st.booleans(), st.sampled_from(["relu", "silu"]))
ARCHITECTURES = st.dictionaries(st.sampled_from("abcde"), SCALARS, min_size=1)


@given(ours=ARCHITECTURES, theirs=ARCHITECTURES)
def test_kinship_is_a_share_and_the_same_from_both_sides(ours, theirs):
    kinship = measure_kinship(ours, theirs)
    assert 0 <= kinship <= 1
    assert kinship == measure_kinship(theirs, ours)
    assert measure_kinship(ours, ours) == 1
    assert kinship < 1 or ours == theirs


def relative(trial, *, accuracy=0.9, **architecture):
    return Relative(trial=trial, architecture=architecture, accuracy=accuracy)


def test_the_most_similar_one_is_chosen_and_not_the_largest():
    candidates = [
        relative(0, width=128, depth=3, activation="relu"),
        relative(1, width=24, depth=2, activation="relu"),
        relative(2, width=8, depth=1, activation="silu"),
    ]
    wanted = {"width": 32, "depth": 2, "activation": "relu"}
    for order in itertools.permutations(candidates):
        assert find_relative(wanted, order).trial == 1


def test_over_a_whole_space_each_is_asked_about_as_often():
    space = SPACES["mobile"]
    pool = [relative(seed, **space.architecture_of(space.random(seed))) for seed in range(40)]
    chosen = [
        find_relative(space.architecture_of(space.random(seed)), pool).trial
        for seed in range(1000, 1200)
    ]
    most = max(chosen.count(trial) for trial in set(chosen))
    assert most < 40  # of 200
    assert len(set(chosen)) > 20


def test_one_that_has_learnt_little_gives_way_to_a_cousin():
    twin = relative(0, accuracy=0.3, width=32, depth=2)
    cousin = relative(1, accuracy=0.9, width=24, depth=2)
    assert find_relative({"width": 32, "depth": 2}, [twin, cousin]) is cousin
    better = dataclasses.replace(twin, accuracy=0.88)
    assert find_relative({"width": 32, "depth": 2}, [better, cousin]) is better


def test_of_equals_the_first_is_chosen_and_of_strangers_none():
    first, second = relative(3, width=32), relative(8, width=32)
    assert find_relative({"width": 32}, [second, first]) is first
    assert find_relative({"width": 32}, [relative(0, width=2)]) is None
    assert find_relative({"width": 32}, [relative(0, accuracy=0.0, width=32)]) is None
    assert find_relative({"width": 32}, []) is None
