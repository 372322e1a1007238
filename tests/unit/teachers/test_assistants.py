"""Which assistants there are, how large they are, and that each is taught once."""

from dataclasses import dataclass, field

import pytest
import torch

from autokd.config import Config
from autokd.errors import TeacherError
from autokd.teachers import (
    Committee,
    TeachNetwork,
    build_assistant_requests,
    load_assistant,
    plan_assistants,
)
from autokd.teachers.assistants import LARGE_GAP, LARGE_LAG
from autokd.teachers.auto_teacher import build_auto, choose_size, scale_size


@dataclass
class Teach:
    """Notes who teaches; makes the network another one without training it."""

    lessons: list[tuple[str, int]] = field(default_factory=list)

    def __call__(self, network, *, plan, checkpoint, teacher):  # noqa: ARG002
        self.lessons.append((teacher.name, plan.epochs))
        with torch.no_grad():
            for value in network.parameters():
                assert value.requires_grad
                value.add_(0.01)
        return network


@pytest.fixture
def teach():
    return Teach()


@pytest.fixture
def hire(tmp_path, teach, card):
    """The assistants of a configuration, each taught by the one before."""

    def hire(teacher, *specs, n_params=None, data=None, **options):
        config = Config(assistant=specs, device="cpu", **options)
        hired = []
        for request in build_assistant_requests(config):
            assistant = load_assistant(
                request,
                teacher=teacher,
                n_params=n_params if request.kind == "auto" else None,
                config=config,
                data=data or card(),
                teach=teach,
                cache=tmp_path / "cache",
            )
            hired.append(assistant)
            teacher = assistant
        return hired

    return hire


def plan(*specs, n_teacher=1_000_000, n_student=10_000, find_lag=lambda: 1.0):
    requests = build_assistant_requests(Config(assistant=specs))
    return plan_assistants(
        requests, teacher="big", n_teacher=n_teacher, n_student=n_student, find_lag=find_lag
    )


def test_one_assistant_has_the_geometric_mean_of_teacher_and_student():
    ((request, n_params),) = plan("auto")
    assert (request.spec, n_params) == ("auto", 100_000)


def test_the_sizes_of_a_chain_go_down_in_equal_steps():
    sizes = [n_params for _, n_params in plan("auto", "auto", "auto")]
    assert sizes == [pytest.approx(10**power, rel=1e-4) for power in (5.5, 5, 4.5)]
    between = [n_params for _, n_params in plan("auto", "timm:x", "auto")]
    assert between == [sizes[0], None, sizes[2]]


@pytest.mark.parametrize(("ratio", "n_hired"), [(LARGE_GAP, 0), (LARGE_GAP + 0.1, 1), (0.5, 0)])
def test_an_assistant_is_made_only_over_a_large_gap(ratio, n_hired):
    assert len(plan("auto", n_teacher=round(1000 * ratio), n_student=1000)) == n_hired


@pytest.mark.parametrize(("lag", "n_hired"), [(LARGE_LAG, 0), (LARGE_LAG + 0.001, 1), (-0.1, 0)])
def test_a_student_that_is_as_good_alone_needs_none(lag, n_hired):
    assert len(plan("auto", find_lag=lambda: lag)) == n_hired


def test_no_student_is_trained_alone_to_find_out_what_parameters_tell():
    assert plan("auto", n_teacher=1000, n_student=1000, find_lag=pytest.fail) == ()
    assert len(plan("timm:x", find_lag=pytest.fail)) == 1


def test_a_named_assistant_is_hired_whatever_the_gap():
    assert [r.spec for r, _ in plan("timm:x", "auto", n_teacher=2, n_student=1)] == ["timm:x"]
    assert [r.spec for r, _ in plan("timm:x", n_teacher=None)] == ["timm:x"]
    assert plan() == ()


def test_a_teacher_of_unknown_size_cannot_be_halved():
    with pytest.raises(TeacherError, match=r"`--assistant auto` must know .* got big, which does"):
        plan("auto", n_teacher=None)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 224, 224)])
@pytest.mark.parametrize("n_params", [200_000, 400_000, 3_000_000])
def test_a_network_is_widened_to_a_number_of_parameters(card, shape, n_params):
    data = card(shape)
    with torch.device("meta"):
        source, _ = build_auto(data, has_cuda=False, n_params=n_params)
    found = sum(value.numel() for value in source.network.parameters())
    assert found == pytest.approx(n_params, rel=0.25)


def test_a_size_out_of_reach_is_the_nearest_there_is(card):
    data = card((1, 8, 8))
    own = choose_size(data, has_cuda=False)
    assert scale_size(own, data=data, n_params=1)["channels"] == (4, 8, 16, 16)
    assert scale_size(own, data=data, n_params=10**12)["channels"] == (256, 512, 1024, 1024)
    n_own = sum(v.numel() for v in build_auto(data, has_cuda=False)[0].network.parameters())
    assert scale_size(own, data=data, n_params=n_own) == own


def test_an_assistant_is_taught_once_and_read_from_the_cache_after_that(hire, teach, load):
    assert isinstance(teach, TeachNetwork)
    teacher = load("auto")
    (first,), (second,) = (hire(teacher, "auto", n_params=20_000) for _ in range(2))
    assert [name for name, _ in teach.lessons] == ["auto"]
    assert first.digest == second.digest != teacher.digest
    assert first.n_params == pytest.approx(20_000, rel=0.2)
    views = torch.rand(2, 3, 12, 12)
    assert torch.equal(first(views), second(views))


def test_another_teacher_size_seed_or_data_set_is_another_lesson(hire, teach, load, card):
    teacher = load("auto")
    hire(teacher, "auto", n_params=20_000)
    hire(load("auto", seed=1), "auto", n_params=20_000)
    hire(teacher, "auto", n_params=60_000)
    hire(teacher, "auto", n_params=20_000, seed=1)
    hire(teacher, "auto", n_params=20_000, data=card(digest="other"))
    assert len(teach.lessons) == 5
    hire(teacher, "auto", n_params=20_000)
    assert len(teach.lessons) == 5


def test_each_of_a_chain_is_taught_by_the_one_before(hire, teach, load):
    chain = hire(load("auto"), "timm:test_resnet", "auto", n_params=9000, teacher_image_size=32)
    assert [assistant.name for assistant in chain] == ["timm:test_resnet", "auto"]
    assert [name for name, _ in teach.lessons] == ["auto", "timm:test_resnet"]
    views = torch.rand(2, 3, 12, 12)
    assert [tuple(assistant(views).shape) for assistant in chain] == [(2, 4)] * 2
    assert chain[0].preprocessing.shape == (3, 32, 32)
    assert chain[1].preprocessing.shape == (3, 12, 12)  # made for the data, whatever is said
    assert not any(value.requires_grad for one in chain for value in one.parameters())


def test_a_committee_can_teach_an_assistant(hire, teach, load):
    committee = Committee([load("auto"), load("auto", seed=1)])
    hire(committee, "auto", n_params=9000)
    assert [name for name, _ in teach.lessons] == ["auto + auto"]


def test_a_file_is_taken_as_it_is_and_must_know_the_classes(hire, teach, load, net, tmp_path):
    for n_classes in (4, 6):
        path = tmp_path / f"{n_classes}.pt2"
        program = torch.export.export(net(n_classes=n_classes), (torch.zeros(2, 3, 12, 12),))
        torch.export.save(program, path)
    (assistant,) = hire(load("auto"), f"file:{tmp_path}/4.pt2")
    assert teach.lessons == []
    assert assistant(torch.rand(1, 3, 12, 12)).shape == (1, 4)
    with pytest.raises(TeacherError, match="predicts 6 classes, the data has 4; give it a head"):
        hire(load("auto"), f"file:{tmp_path}/6.pt2")


def test_making_an_assistant_leaves_the_callers_random_numbers_alone(hire, load):
    teacher = load("auto")
    state = torch.get_rng_state()
    hire(teacher, "auto", n_params=9000)
    assert torch.equal(torch.get_rng_state(), state)
