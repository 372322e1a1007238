import math
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from autokd.errors import TeacherError
from autokd.exporters import export_onnx
from autokd.teachers import Committee, Source, Teacher, build_committee, evaluate_teacher
from autokd.teachers.committee import weigh_by_accuracy, weigh_by_confidence
from autokd.teachers.preprocessing import plain_preprocessing

SHAPE = (3, 12, 12)
VIEWS = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(1))
WAYS = [{}, {"weights": (0.2, 0.5, 0.3)}, {"by_confidence": True}]


class Says(torch.nn.Module):
    """Gives the same logits whatever it is shown."""

    def __init__(self, *logits):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor(logits))

    def forward(self, x):
        return self.logits.expand(len(x), -1)


def make_teacher(network, *, name="t", view_shape=SHAPE):
    source = Source(network=network, preprocessing=plain_preprocessing(view_shape))
    return Teacher(source, name=name, view_shape=view_shape)


@pytest.fixture
def teachers(net):
    return [make_teacher(net(), name=name) for name in "abc"]


def probabilities(logits, temperature=1.0):
    return F.softmax(logits / temperature, dim=1)


@pytest.mark.parametrize("ways", WAYS)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_committee_of_equal_teachers_teaches_what_each_does(net, ways, temperature):
    network = net()
    members = [make_teacher(network) for _ in range(3)]
    found = probabilities(Committee(members, **ways)(VIEWS), temperature)
    torch.testing.assert_close(found, probabilities(members[0](VIEWS), temperature))


@pytest.mark.parametrize("ways", WAYS)
def test_the_order_of_the_members_does_not_matter(teachers, ways):
    order = [2, 0, 1]
    shuffled = {"weights": [ways["weights"][i] for i in order]} if "weights" in ways else ways
    first = Committee(teachers, **ways)
    second = Committee([teachers[i] for i in order], **shuffled)
    torch.testing.assert_close(first(VIEWS), second(VIEWS))
    assert first.digest == second.digest
    assert (first.name, second.name) == ("a + b + c", "c + a + b")


@pytest.mark.parametrize("ways", WAYS)
def test_a_prediction_lies_among_its_members_and_adds_up_to_one(teachers, ways):
    found = Committee(teachers, **ways)(VIEWS).exp()
    each = torch.stack([probabilities(teacher(VIEWS)) for teacher in teachers])
    torch.testing.assert_close(found.sum(1), torch.ones(5))
    assert (found <= each.amax(0) + 1e-6).all()
    assert (found >= each.amin(0) - 1e-6).all()


def test_probabilities_are_averaged_not_logits():
    loud, calm = make_teacher(Says(30.0, 0.0, 0.0)), make_teacher(Says(0.0, 3.0, 0.0))
    found = Committee([loud, calm])(VIEWS).exp()[0]
    by_hand = (probabilities(loud(VIEWS)) + probabilities(calm(VIEWS)))[0] / 2
    torch.testing.assert_close(found, by_hand)
    weighed = Committee([loud, calm], weights=(1.0, 3.0))
    assert weighed.weights == (0.25, 0.75)
    assert weighed(VIEWS)[0].argmax() == 1


def test_the_surer_teacher_is_heard_picture_by_picture():
    sure, unsure = make_teacher(Says(0.0, 5.0, 0.0)), make_teacher(Says(0.5, 0.0, 0.0))
    fair = Committee([sure, unsure])(VIEWS).exp()
    confident = Committee([sure, unsure], by_confidence=True)(VIEWS).exp()
    assert (confident[:, 1] > fair[:, 1]).all()
    ignorant = make_teacher(Says(0.0, 0.0, 0.0))
    alone = Committee([sure, ignorant], by_confidence=True)(VIEWS)
    torch.testing.assert_close(alone, F.log_softmax(sure(VIEWS), dim=1), atol=1e-4, rtol=1e-4)


def test_confidence_weights_are_shares_even_where_nobody_knows_anything():
    logs = F.log_softmax(torch.randn(3, 6, 4) * 5, dim=2)
    torch.testing.assert_close(weigh_by_confidence(logs).sum(0), torch.ones(6))
    nothing = torch.full((3, 2, 4), math.log(1 / 4))
    torch.testing.assert_close(weigh_by_confidence(nothing), torch.full((3, 2), 1 / 3))


@given(
    st.lists(st.floats(0.26, 1), min_size=1, max_size=6),
    st.integers(4, 1000),
    st.integers(1, 10**6),
)
def test_accuracy_weights_are_shares_in_the_order_of_the_accuracies(accuracies, n_classes, n):
    weights = weigh_by_accuracy(accuracies, n_classes=n_classes, n_pictures=n)
    assert sum(weights) == pytest.approx(1)
    assert min(weights) > 0
    by_accuracy = np.argsort(accuracies, kind="stable")
    assert (np.diff(np.array(weights)[by_accuracy]) >= -1e-12).all()


def test_an_accurate_teacher_weighs_more_than_its_accuracy_and_a_perfect_one_not_all():
    good, better = weigh_by_accuracy((0.9, 0.99), n_classes=10, n_pictures=1000)
    assert better / good > 1.4
    good, perfect = weigh_by_accuracy((0.9, 1.0), n_classes=10, n_pictures=100)
    assert 1.4 < perfect / good < 2


def test_a_teacher_that_guesses_has_no_weight():
    with pytest.raises(ValueError, match="must be above 1/4"):
        weigh_by_accuracy((0.9, 0.25), n_classes=4, n_pictures=100)


@pytest.mark.parametrize("ways", WAYS)
def test_a_committee_has_no_gradients_and_stays_in_eval_mode(teachers, ways):
    committee = Committee(teachers, **ways)
    assert committee.train() is committee
    torch.nn.Sequential(committee).train()
    assert not any(module.training for module in committee.modules())
    assert not committee(VIEWS.clone().requires_grad_()).requires_grad


def test_a_committee_has_the_surface_of_a_teacher(teachers):
    committee = Committee(teachers)
    assert committee.members == tuple(teachers)
    assert committee.n_params == 3 * teachers[0].n_params
    assert committee.view_shape == SHAPE
    assert committee.device == teachers[0].device == torch.device("cpu")
    assert committee.onnx_file is None
    assert committee.to("cpu") is committee
    labels = committee(VIEWS).argmax(1)
    images = (VIEWS * 255).round().to(torch.uint8)
    assert evaluate_teacher(committee, images=images, labels=labels) > 0.5


def test_the_digest_follows_members_and_weights(teachers):
    digests = {
        Committee(teachers).digest,
        Committee(teachers[:2]).digest,
        Committee(teachers, by_confidence=True).digest,
        Committee(teachers, weights=(1.0, 2.0, 3.0)).digest,
    }
    assert len(digests) == 4
    assert Committee(teachers, weights=(2.0, 2.0, 2.0)).digest == Committee(teachers).digest


def test_a_size_that_is_not_known_makes_the_sum_unknown(teachers):
    teachers[1].n_params = None
    assert Committee(teachers).n_params is None


@pytest.mark.parametrize("ways", WAYS)
@pytest.mark.parametrize("is_script", [False, True])
def test_a_committee_goes_to_onnx_with_any_batch(net, teachers, tmp_path, ways, is_script):
    if is_script:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deprecates TorchScript
            script = torch.jit.script(net())
        own = plain_preprocessing(SHAPE)
        source = Source(network=script, preprocessing=own, form="script")
        teachers[0] = Teacher(source, name="s", view_shape=SHAPE)
    committee = Committee(teachers, **ways)
    assert committee.is_exportable
    assert (committee.build_exportable() is committee) is not is_script
    path = export_onnx(committee.build_exportable(), tmp_path / "c.onnx", shape=SHAPE)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(None, {"image": VIEWS.numpy()})[0])
    torch.testing.assert_close(found, committee(VIEWS), atol=1e-5, rtol=1e-4)


def test_a_member_that_cannot_be_exported_keeps_the_committee_from_it(teachers):
    teachers[1].is_exportable = False
    committee = Committee(teachers)
    assert not committee.is_exportable
    with pytest.raises(TeacherError, match=r"must be made of PyTorch modules .* got a \+ b \+ c"):
        committee.build_exportable()


def test_a_committee_can_be_a_member(teachers):
    inner = Committee(teachers[:2])
    outer = Committee([inner, teachers[2]])
    by_hand = (inner(VIEWS).exp() + probabilities(teachers[2](VIEWS))) / 2
    torch.testing.assert_close(outer(VIEWS).exp(), by_hand)


def test_members_of_other_classes_are_refused_by_name(net, teachers):
    odd = make_teacher(net(n_classes=6), name="odd")
    with pytest.raises(TeacherError, match="got 6 from odd and 4 from a; pass --teacher-finetune"):
        Committee([*teachers, odd])


def test_what_is_no_committee_is_refused(net, teachers):
    with pytest.raises(ValueError, match="two or more"):
        Committee(teachers[:1])
    with pytest.raises(ValueError, match="of the same views"):
        Committee([teachers[0], make_teacher(net(), view_shape=(3, 8, 8))])
    for ways in ({"weights": (1.0, 2.0)}, {"weights": (1.0, 2.0, 0.0)}, {**WAYS[1], **WAYS[2]}):
        with pytest.raises(ValueError, match="`weights` must be"):
            Committee(teachers, **ways)


@pytest.mark.parametrize("vote", ["mean", "accuracy", "confidence"])
def test_one_teacher_stays_itself_and_several_vote_as_they_were_told(teachers, vote):
    numbers = {"n_classes": 4, "n_pictures": 100}
    alone = build_committee(teachers[:1], vote=vote, accuracies=[0.9], **numbers)
    assert alone is teachers[0]
    together = build_committee(teachers, vote=vote, accuracies=[0.5, 0.7, 0.9], **numbers)
    assert together.by_confidence == (vote == "confidence")
    is_fair = together.weights == pytest.approx([1 / 3] * 3)
    assert is_fair == (vote != "accuracy")
    assert list(together.weights) == sorted(together.weights)
