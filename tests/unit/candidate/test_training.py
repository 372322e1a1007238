"""Pictures, teacher and loop joined: what is remembered, what is asked, what is learnt."""

import dataclasses

import pytest
import torch

from autokd.candidate import KnownTeacher, build_student, train_student
from autokd.config import Config
from autokd.data import load_data
from autokd.distillation import Engine, Plan
from autokd.errors import BuildError, TeacherError
from autokd.spaces import build_space
from autokd.teachers import KnowledgeBank
from autokd.types import Recipe

TINY = {"depth_1": 1, "depth_2": 1, "depth_3": 1, "width_1": 8, "width_2": 16, "width_3": 32}
PLAN = Plan(epochs=2, batch_size=32, seed=0, device=torch.device("cpu"))
SPACE = build_space("mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10)


class Teacher(torch.nn.Module):
    """A small convolutional network that counts how many pictures it was asked about."""

    def __init__(self, n_classes=10):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.front = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.ReLU())
            self.back = torch.nn.Sequential(
                torch.nn.Conv2d(8, 16, 3, 2, padding=1), torch.nn.ReLU()
            )
            self.head = torch.nn.Linear(16, n_classes)
        self.n_asked = 0

    def forward(self, views):
        self.n_asked += len(views)
        return self.head(self.back(self.front(views)).mean((2, 3))) * 8


@pytest.fixture(scope="module")
def data():
    return load_data(Config(train_limit=200))


@pytest.fixture
def teacher(tmp_path):
    network = Teacher().eval()
    bank = KnowledgeBank(network, cache=tmp_path, teacher_digest="t", data_digest="d")
    return KnownTeacher(network=network, bank=bank, n_views=4)


def train(recipe, *, data, teacher, plan=PLAN):
    n_classes = data.card.n_classes
    space = build_space("mobile", recipe="default", input_shape=(1, 8, 8), n_classes=n_classes)
    student, _ = build_student(space, TINY, data=data.card, seed=0)
    return student, train_student(student, recipe, data=data, teacher=teacher, plan=plan)


def test_a_second_training_never_asks_the_teacher_but_for_the_check(data, teacher):
    recipe = Recipe(augmentation="crop")
    _, first = train(recipe, data=data, teacher=teacher)
    n_train, n_first = len(data.train_images), teacher.network.n_asked
    assert first.answers == "kept"
    assert n_first == 2 * n_train + PLAN.batch_size  # two views, and the check
    train(dataclasses.replace(recipe, temperature=2.0), data=data, teacher=teacher)
    assert teacher.network.n_asked == n_first + PLAN.batch_size


def test_remembered_answers_teach_what_live_ones_do(data, teacher):
    recipe = Recipe(augmentation="randaugment", magnitude=5)
    live = KnownTeacher(network=teacher.network, n_views=4)
    _, kept = train(recipe, data=data, teacher=teacher)
    _, asked = train(recipe, data=data, teacher=live)
    assert (kept.answers, asked.answers) == ("kept", "live")
    losses = [[row.train_loss for row in one.curve] for one in (kept, asked)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        ({"temperature": 1.0}, "kept"),
        ({"temperature": 2.0, "temperature_end": 1.5}, "kept"),
        ({"loss": "dkd"}, "kept"),
        ({"is_standardised": True}, "live"),
        ({"is_adaptive": True}, "live"),
        ({"teacher_confidence": 0.3}, "live"),
    ],
)
def test_what_a_bank_knows_of_very_many_classes_teaches_what_the_teacher_does(
    data, tmp_path, options, answers
):
    classes = tuple(f"class {number}" for number in range(1200))
    data = dataclasses.replace(data, card=dataclasses.replace(data.card, classes=classes))
    network = Teacher(n_classes=1200).eval()
    with torch.no_grad():
        network.head.bias[10:] -= 3  # it knows that they are not there
    bank = KnowledgeBank(network, cache=tmp_path, teacher_digest="t", data_digest="d")
    recipe = Recipe(augmentation="none", alpha=1.0, alpha_end=1.0, **options)
    plan = dataclasses.replace(PLAN, epochs=1, engine=Engine(device=PLAN.device))
    kept, live = (
        train(
            recipe,
            data=data,
            teacher=KnownTeacher(network=network, bank=one, n_views=4),
            plan=plan,
        )[1]
        for one in (bank, None)
    )
    assert (kept.answers, live.answers) == (answers, "live")
    assert kept.curve[0].train_loss == pytest.approx(live.curve[0].train_loss, rel=0.05)


@pytest.mark.parametrize(("targets", "answers"), [("exact", "live"), ("mixed", "mixed")])
def test_a_mixture_is_asked_about_or_its_answers_are_mixed(data, teacher, targets, answers):
    recipe = Recipe(augmentation="crop", mix="mixup", mix_alpha=1.0, mix_targets=targets)
    _, training = train(recipe, data=data, teacher=teacher)
    assert training.answers == answers


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_a_mixture_is_taught_alike_with_a_bank_and_without(data, teacher, mix):
    recipe = Recipe(augmentation="crop", mix=mix, mix_alpha=1.0, mix_targets="mixed")
    exact = dataclasses.replace(recipe, mix_targets="exact")
    bare = KnownTeacher(network=teacher.network, n_views=4)
    plan = dataclasses.replace(PLAN, engine=Engine(device=PLAN.device))
    kept, live, asked = (
        train(taught, data=data, teacher=by, plan=plan)[1]
        for taught, by in ((recipe, teacher), (recipe, bare), (exact, teacher))
    )
    assert (kept.answers, live.answers, asked.answers) == ("mixed", "mixed", "live")
    first, second, third = (one.curve[0].train_loss for one in (kept, live, asked))
    assert first == pytest.approx(second, abs=abs(second - third) / 3)


def test_plain_training_has_no_answers(data, teacher):
    _, training = train(Recipe(alpha=0.0, alpha_end=0.0), data=data, teacher=teacher)
    assert (training.answers, teacher.network.n_asked) == ("", 0)


@pytest.mark.parametrize("kind", ["hint", "attention", "fsp", "rkd", "crd"])
def test_features_are_learnt_from_the_bank_and_live(data, teacher, kind):
    recipe = Recipe(augmentation="crop", feature_loss=kind, feature_weight=0.1)
    student, kept = train(recipe, data=data, teacher=teacher)
    _, live = train(recipe, data=data, teacher=KnownTeacher(network=teacher.network, n_views=4))
    assert (kept.answers, live.answers) == ("kept", "live")
    losses = [[row.train_loss for row in one.curve] for one in (kept, live)]
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)
    fresh, _ = build_student(SPACE, TINY, data=data.card, seed=0)
    shapes = [
        {name: value.shape for name, value in one.state_dict().items()} for one in (student, fresh)
    ]
    assert shapes[0] == shapes[1], "projectors are thrown away"
    for network in (student, teacher.network):
        for module in network.modules():
            assert not module._forward_hooks
            assert not module._forward_pre_hooks


def test_features_with_mixtures_ask_the_teacher(data, teacher):
    recipe = Recipe(augmentation="none", mix="cutmix", mix_alpha=1.0, feature_loss="attention")
    _, training = train(recipe, data=data, teacher=teacher)
    assert training.answers == "live"


def test_taps_can_be_named_and_a_student_fails_where_they_do_not_exist(data, teacher):
    recipe = Recipe(augmentation="none", feature_loss="hint", feature_weight=0.1)
    named = dataclasses.replace(teacher, teacher_taps=("front",), student_taps=("stem",))
    train(recipe, data=data, teacher=named)
    wrong = dataclasses.replace(teacher, teacher_taps=("frnt",), student_taps=("stem",))
    with pytest.raises(BuildError, match="frnt"):
        train(recipe, data=data, teacher=wrong)
    with pytest.raises(BuildError, match="`--teacher-tap` must not be given with --loss crd"):
        train(
            dataclasses.replace(recipe, feature_loss="crd"),
            data=data,
            teacher=dataclasses.replace(teacher, teacher_taps=("front",)),
        )


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:FutureWarning")  # what the user may have
@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_teacher_that_shows_no_features_is_refused_not_replaced(data, teacher):
    traced = torch.jit.trace(teacher.network, torch.zeros(2, 1, 8, 8), check_trace=False)
    blind = KnownTeacher(network=traced, n_views=4)
    recipe = Recipe(augmentation="none", feature_loss="attention")
    with pytest.raises(TeacherError, match="exposes none"):
        train(recipe, data=data, teacher=blind)


def test_a_teacher_that_changed_stops_the_training(data, teacher):
    recipe = Recipe(augmentation="crop")
    train(recipe, data=data, teacher=teacher)
    with torch.no_grad():
        teacher.network.head.bias.add_(5.0)
    with pytest.raises(TeacherError, match="the teacher has changed"):
        train(recipe, data=data, teacher=teacher)


def test_features_that_changed_behind_the_same_logits_stop_the_training(data, teacher):
    named = dataclasses.replace(teacher, teacher_taps=("front",))
    recipe = Recipe(augmentation="crop", feature_loss="hint", feature_weight=0.1)
    train(recipe, data=data, teacher=named)
    front, back = teacher.network.front[0], teacher.network.back[0]
    with torch.no_grad():
        front.weight.mul_(2), front.bias.mul_(2), back.weight.div_(2)
    train(dataclasses.replace(recipe, feature_loss="none"), data=data, teacher=named)
    with pytest.raises(TeacherError, match="the teacher has changed"):
        train(recipe, data=data, teacher=named)


def test_a_student_teaches_itself_without_a_teacher(data):
    recipe = Recipe(alpha=0.0, alpha_end=0.0, augmentation="none", exits=2)
    student, training = train(recipe, data=data, teacher=None)
    assert len(training.curve) == PLAN.epochs
    assert training.answers == ""
    assert not any(module._forward_hooks for module in student.modules())
    fresh, _ = build_student(SPACE, TINY, data=data.card, seed=0)
    assert set(student.state_dict()) == set(fresh.state_dict())


def test_a_generation_is_taught_by_the_one_before(data, teacher):
    rows = []
    recipe = Recipe(augmentation="none", generations=3)
    student, _ = build_student(SPACE, TINY, data=data.card, seed=0)
    training = train_student(
        student, recipe, data=data, teacher=teacher, plan=PLAN, on_epoch=rows.append
    )
    assert [row.epoch for row in rows] == [1, 2, 3, 4, 5, 6]
    assert list(training.curve) == rows
    n_train = len(data.train_images)
    assert teacher.network.n_asked == n_train + PLAN.batch_size  # by the first generation alone
    assert training.answers == "kept, live"


def test_generations_hear_of_a_mixture_in_the_same_way(data, teacher):
    recipe = Recipe(augmentation="none", mix="mixup", mix_alpha=1.0, generations=2)
    _, training = train(recipe, data=data, teacher=teacher)
    assert training.answers == "mixed"


def test_a_student_without_a_teacher_is_born_again_too(data):
    recipe = Recipe(alpha=0.0, alpha_end=0.0, augmentation="none", generations=2)
    _, training = train(recipe, data=data, teacher=None)
    assert [row.alpha for row in training.curve] == [0.0, 0.0, 0.5, 0.5]
    assert training.answers == "live"
