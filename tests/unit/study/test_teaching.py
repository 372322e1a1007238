"""The teachers and assistants of a study, joined, judged, measured and shown."""

import dataclasses
import time

import psutil
import pytest
import torch

from autokd.config import Config
from autokd.data import N_VIEWS, SearchData, load_data
from autokd.distillation import Engine, Training
from autokd.distillation import training as training_module
from autokd.errors import TeacherError
from autokd.spaces import build_space
from autokd.study import schooling, teaching
from autokd.study.crew import InlineCrew
from autokd.study.forked_crew import ForkedCrew
from autokd.study.insight import check_features
from autokd.study.progress import SearchProgress
from autokd.study.teaching import build_teachers, recall_teachers
from autokd.teachers import Committee, Teacher
from autokd.testing import FakeTarget
from autokd.types import EpochLog

ROW = EpochLog(
    epoch=1, train_loss=0.0, val_loss=0.0, val_accuracy=0.5, learning_rate=0.1, alpha=0.0,
    temperature=1.0, seconds=0.0,
)  # fmt: skip

NETWORKS = """
import torch

class Template(torch.nn.Module):
    # Compares a picture with the mean of each class.
    def __init__(self, scale, n_classes=10):
        super().__init__()
        means = torch.load("means.pt")
        self.fc = torch.nn.Linear(64, n_classes)
        with torch.no_grad():
            self.fc.weight.copy_(scale * means[:n_classes])
            self.fc.bias.copy_(-scale / 2 * (means[:n_classes] ** 2).sum(1))

    def forward(self, x):
        return self.fc(x.flatten(1))

def calm(): return Template(0.5)
def loud(): return Template(20.0)
def half(): return Template(1.0, n_classes=5)
def dull():
    network = Template(1.0)
    torch.nn.init.zeros_(network.fc.weight)
    torch.nn.init.zeros_(network.fc.bias)
    return network
"""


@pytest.fixture(scope="module")
def data() -> SearchData:
    return load_data(Config(train_limit=300))


@pytest.fixture
def trainings(monkeypatch):
    """What was trained, and by whom; nothing is, beyond a first guess of the class means."""
    done = []

    def train(student, recipe, *, data, teacher, plan, on_epoch, keepers):
        done.append((None if teacher is None else teacher.network.name, recipe, plan.epochs))
        with torch.no_grad():
            for value in student.parameters():
                value.add_(0.001)
        del data, on_epoch, keepers
        engine = Engine(device=torch.device("cpu"))
        return Training(curve=(), val_accuracy=0.5, engine=engine, seconds=2.0)

    monkeypatch.setattr(teaching, "train_student", train)
    monkeypatch.setattr(schooling, "check_teacher", _check_unless_made(schooling.check_teacher))
    return done


def _check_unless_made(check):
    """What the fake training makes knows nothing, which is not its fault."""

    def check_unless_made(accuracy, **options):
        if accuracy == pytest.approx(0.1, abs=0.06):
            return
        check(accuracy, **options)

    return check_unless_made


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(SearchProgress, "say", lambda _, text: lines.append(text))
    return lines


@pytest.fixture
def build(data, tmp_path, monkeypatch):
    """`build_teachers` in a folder with some networks, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "class_means.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)
    pixels = data.train_images.flatten(1).float() / 255
    means = torch.stack([pixels[data.train_labels == label].mean(0) for label in range(10)])
    torch.save(means, tmp_path / "means.pt")
    space = build_space("mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10)
    target = FakeTarget()

    def build(*teachers, crew=None, **options):
        config = Config(
            teacher=[f"python:class_means:{name}" if ":" not in name and name != "auto" else name
                     for name in teachers],
            train_limit=300, device="cpu", **options,
        )  # fmt: skip
        return build_teachers(
            config, data, space=space, target=target, models=tmp_path / "models",
            device=torch.device("cpu"),
            crew=crew or InlineCrew(), progress=SearchProgress(is_silent=True),
        )  # fmt: skip

    return build


def test_one_teacher_stays_itself(build, said):
    faculty = build("calm")
    assert set(faculty.teachers) == {"teacher"}
    assert isinstance(faculty.teachers["teacher"].network, Teacher)
    assert faculty.card.name == "python:class_means:calm"
    assert faculty.card.n_params == 650
    assert faculty.card.val_accuracy > 0.7
    assert faculty.training_s == 0
    assert said == []


@pytest.mark.parametrize("vote", ["mean", "accuracy", "confidence"])
def test_several_teachers_are_one_whose_latency_is_the_sum_of_theirs(build, said, vote):
    alone = [build(name).card for name in ("calm", "loud")]
    faculty = build("calm", "loud", teacher_vote=vote)
    committee = faculty.teachers["teacher"].network
    assert isinstance(committee, Committee)
    assert committee.by_confidence == (vote == "confidence")
    assert faculty.card.latency_ms == pytest.approx(sum(card.latency_ms for card in alone))
    assert faculty.card.n_params == 1300
    assert faculty.card.digest == committee.digest
    assert faculty.card.name == "python:class_means:calm + python:class_means:loud"
    assert [line.split(": ")[0] for line in said] == [
        "teacher python:class_means:calm", "teacher python:class_means:loud",
    ]  # fmt: skip
    assert all("% on validation" in line for line in said)


def test_each_of_several_teachers_must_beat_the_majority(build):
    message = "^`--teacher python:class_means:dull` must beat the majority class"
    with pytest.raises(TeacherError, match=message):
        build("calm", "dull")


def test_the_teacher_that_knows_other_classes_is_named(build):
    message = "^`--teacher python:class_means:half` predicts 5 classes, the data has 10; pass"
    with pytest.raises(TeacherError, match=message):
        build("calm", "half")
    with pytest.raises(TeacherError, match=r"^`--teacher` predicts 5 classes"):
        build("half")


def test_a_wrong_teacher_is_told_before_another_is_trained(build, trainings):
    with pytest.raises(TeacherError, match="got timm:x without weights"):
        build("auto", "timm:x")
    with pytest.raises(TeacherError, match="`--assistant` must be auto"):
        build("auto", assistant="atuo")
    assert trainings == []


def test_an_assistant_is_taught_by_the_textbook_and_stands_beside_the_teacher(
    build, said, trainings
):
    faculty = build("calm", assistant="timm:test_resnet", teacher_image_size=8)
    assert list(faculty.teachers) == ["teacher", "assistant", "both"]
    ((teacher, recipe, _),) = trainings
    assert teacher == "python:class_means:calm"
    assert (recipe.alpha, recipe.temperature, recipe.loss) == (0.9, 4.0, "soft_targets")
    assert recipe.alpha_schedule == recipe.temperature_schedule == "constant"
    both = faculty.teachers["both"].network
    roles = ("teacher", "assistant")
    assert both.members == tuple(faculty.teachers[role].network for role in roles)
    assert faculty.card.name == "python:class_means:calm"
    assert faculty.training_s == 2.0
    assert [line.split(":")[0] for line in said] == [
        "epochs of the assistant", "assistant timm", "both together",
    ]  # fmt: skip


def test_a_teacher_that_was_cut_off_goes_on_from_its_last_epoch(build, monkeypatch, tmp_path):
    seen = []

    def see(_, title, row, *, epochs):
        assert (title, epochs) == ("teacher", 30)
        seen.append(row.epoch)
        if seen == [1, 2, 3]:
            raise KeyboardInterrupt

    monkeypatch.setattr(SearchProgress, "epoch", see)
    engine = Engine(device=torch.device("cpu"))  # whichever is faster here rounds otherwise
    monkeypatch.setattr(training_module, "_choose_engine", lambda *_, **__: engine)
    with pytest.raises(KeyboardInterrupt):
        build("auto")
    cache = tmp_path / "cache/autokd/teachers"
    assert sorted(file.suffix for file in cache.iterdir()) == [".checkpoint", ".lock"]
    resumed = build("auto")
    assert seen == list(range(1, 31))
    file, lock = sorted(cache.iterdir(), key=lambda file: file.suffix, reverse=True)
    assert (file.suffix, lock.suffix) == (".safetensors", ".lock")
    file.unlink()
    whole = build("auto")
    assert resumed.teachers["teacher"].network.digest == whole.teachers["teacher"].network.digest
    assert resumed.training_s > 0


def test_who_is_interrupted_leaves_no_trainer_behind(build, monkeypatch):
    def train(*_, on_epoch, **__):
        on_epoch(ROW)
        time.sleep(60)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(teaching, "train_student", train)
    monkeypatch.setattr(SearchProgress, "epoch", interrupt)
    crew, before = ForkedCrew(1), psutil.Process().children()
    with pytest.raises(KeyboardInterrupt):
        build("auto", crew=crew)
    assert not crew.running
    assert psutil.Process().children() == before


def test_a_chain_is_taught_in_its_order_and_comes_from_the_cache_the_second_time(build, trainings):
    chain = ["timm:test_resnet", "timm:test_vit"]
    first = build("calm", assistant=chain)
    assert [teacher for teacher, _, _ in trainings] == ["python:class_means:calm", chain[0]]
    second = build("calm", assistant=chain)
    assert len(trainings) == 2
    assert second.training_s == 0
    for name, teacher in first.teachers.items():
        assert teacher.network.digest == second.teachers[name].network.digest
    assert first.teachers["assistant"].network.name == "timm:test_vit"


@pytest.mark.parametrize("bank", [True, False])
def test_an_assistant_is_taught_out_of_the_bank_that_students_ask(
    build, trainings, monkeypatch, bank
):
    train, heard = teaching.train_student, []

    def listen(student, recipe, *, teacher, **options):
        heard.append(teacher)
        return train(student, recipe, teacher=teacher, **options)

    monkeypatch.setattr(teaching, "train_student", listen)
    faculty = build("calm", assistant="timm:test_resnet", bank=bank, views=3)
    known = faculty.teachers["teacher"]
    assert [teacher for teacher, _, _ in trainings] == ["python:class_means:calm"]
    assert [one.bank and one.bank.path for one in heard] == [known.bank and known.bank.path]
    assert (heard[0].bank is not None) == bank
    assert (heard[0].n_views, known.n_views) == (N_VIEWS, 3), "the cache holds it for any --views"


def test_auto_makes_an_assistant_only_where_the_teacher_is_far_larger(
    build, said, trainings, monkeypatch
):
    small = build("calm", assistant="auto")
    assert set(small.teachers) == {"teacher"}
    assert "no auto assistant: the teacher has 0.0 times" in said[-1]
    monkeypatch.setattr("autokd.teachers.assistants.LARGE_GAP", 5)
    lazy = build("auto", assistant="auto")
    assert set(lazy.teachers) == {"teacher"}
    assert said[-2].startswith("the student alone: ")
    assert "no auto assistant" in said[-1]
    assert "points above it" in said[-1]
    monkeypatch.setattr("autokd.teachers.assistants.LARGE_LAG", -1)
    large = build("auto", assistant="auto")
    ratio = large.card.n_params / large.teachers["assistant"].network.n_params
    assert 2.5 < ratio < 3.5  # the root of 8.5
    assert [teacher for teacher, _, _ in trainings] == [None, None, "auto"]
    assert (lazy.training_s, large.training_s) == (4.0, 2.0)  # teacher, student alone; assistant


@pytest.mark.parametrize("lag", [-1, 1])
def test_another_machine_needs_an_assistant_or_not_as_the_first_one_did(
    build, trainings, monkeypatch, data, tmp_path, lag
):
    monkeypatch.setattr("autokd.teachers.assistants.LARGE_GAP", 5)
    monkeypatch.setattr("autokd.teachers.assistants.LARGE_LAG", lag)
    first, n_trained = build("auto", assistant="auto"), len(trainings)
    assert ("assistant" in first.teachers) == (lag < 0)
    carried = {path.name: path.read_bytes() for path in first.trained}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere/autokd/teachers").mkdir(parents=True)
    for name, content in carried.items():
        (tmp_path / "elsewhere/autokd/teachers" / name).write_bytes(content)
    there = recall_teachers(
        Config(teacher=["auto"], assistant="auto", train_limit=300, device="cpu"),
        data,
        space=build_space("mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10),
        device=torch.device("cpu"),
        accuracies=first.accuracies,
        lag=first.lag,
    )
    assert {role: one.network.digest for role, one in there.items()} == {
        role: one.network.digest for role, one in first.teachers.items()
    }
    assert len(trainings) == n_trained


def test_a_wrong_assistant_is_named_by_its_option(build):
    with pytest.raises(
        TeacherError, match=r"^`--assistant timm:resnet1` must be a network of timm"
    ):
        build("calm", assistant="timm:resnet1")
    with pytest.raises(TeacherError, match=r"^`--assistant file:x.onnx` must be a file"):
        build("calm", assistant="file:x.onnx")


def test_both_vote_as_several_teachers_do(build, trainings):
    options = {"assistant": "timm:test_resnet", "teacher_image_size": 8}
    del trainings
    both = build("calm", "loud", teacher_vote="confidence", **options).teachers["both"].network
    assert both.by_confidence
    assert both.members[0].by_confidence
    assert dataclasses.asdict(build("calm", **options).card)["name"] == "python:class_means:calm"


def test_losses_on_features_are_refused_before_the_search_where_nothing_shows_any(build):
    several = build("calm", "loud")
    plain, wanting = (
        build_space("mobile", recipe=recipe, input_shape=(1, 8, 8), n_classes=10)
        for recipe in ("default", "features")
    )
    check_features(several, space=plain)
    with pytest.raises(TeacherError, match="needs the features of one teacher made of modules"):
        check_features(several, space=wanting)
    check_features(build("calm"), space=wanting)
