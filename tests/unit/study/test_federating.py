"""One site of a federation: resumed in any round, beside its twin, handed over."""

import dataclasses
import json
import os

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import autokd
from autokd.cli import federating
from autokd.config import Config
from autokd.data import load_data
from autokd.distillation import Plan
from autokd.errors import CharterError, ConfigError, DivergedError, MeetingError, StudyError
from autokd.exporters import Bundle
from autokd.federation import Answers, Charter
from autokd.study import delivery, handover, sites
from autokd.study.joint_space import build_joint_space
from autokd.study.progress import SearchProgress
from autokd.study.rounds import RoundFolder
from autokd.study.sites import choose_sample, count_epochs_alone
from autokd.testing import FakeTarget
from autokd.types import load_json

STUDENT = """
from torch import nn

def student(shape, n_classes):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, n_classes)
    )
"""


@pytest.fixture
def build(tmp_path, monkeypatch):
    """A configuration of site `a` in files of its own, nothing that touches a clock."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTOKD_CACHE", str(tmp_path / "cache"))
    (tmp_path / "networks.py").write_text(STUDENT)
    np.savez(tmp_path / "public.npz", x=(load_digits().images[1000:1050] * 15).astype(np.uint8))
    monkeypatch.setattr(handover, "build_target", lambda *_, **__: FakeTarget())
    monkeypatch.setattr("autokd.exporters.bundle.has_openvino", lambda: False)

    def build(**options):
        values = {
            "site": "a", "meeting": tmp_path / "meeting", "public": "npz:public.npz",
            "n_sites": 2, "rounds": 2, "epochs": 1, "first_epochs": 1, "train_limit": 120,
            "views": 2, "wait_s": 0.05, "student": "python:networks.py:student",
            "runs_dir": tmp_path / "runs",
        }  # fmt: skip
        return Config(**{**values, **options})

    return build


def answer_as_b(folder, *, numbers):
    """Site `b`, which says the class of every public picture."""
    charter = load_json(Charter, (folder / "meeting/charter.json").read_bytes())
    (folder / "meeting/sites/b.json").write_text('{"site": "b", "token": "of b"}')
    labels = load_digits().target[1000:1050]
    logs = np.full(charter.answers_shape, -9, np.float16)
    logs[:, np.arange(50), labels] = 0
    for number in numbers:
        file = folder / f"meeting/round-{number:02d}/b.npz"
        file.parent.mkdir(exist_ok=True)
        answers = Answers(site="b", n_pictures=99, logs=logs)
        file.write_bytes(answers.write(charter=charter, number=number))


def federate(config, **options):
    return autokd.federate(config, **{"is_registered": False, **options})


def files_of(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_site_waits_goes_on_and_is_handed_over(build, tmp_path, monkeypatch):
    registered = []
    monkeypatch.setattr(
        delivery, "register_model", lambda *_, **told: registered.append(told) or "m"
    )
    with pytest.raises(MeetingError, match="got 1 in round 0"):
        federate(build())
    published = (tmp_path / "meeting/round-00/a.npz").read_bytes()
    answer_as_b(tmp_path, numbers=[0])
    with pytest.raises(MeetingError, match="got 1 in round 1"):
        federate(build())
    answer_as_b(tmp_path, numbers=[1])
    done = federate(build(), out=tmp_path / "out", is_registered=None)
    assert (tmp_path / "meeting/round-00/a.npz").read_bytes() == published
    assert [one.heard for one in done.rounds] == [(), ("a", "b"), ("a", "b")]
    assert [one.sent_bytes > 0 for one in done.rounds] == [True, True, False]
    assert done.sent_bytes == sum(
        (tmp_path / f"meeting/round-0{number}/a.npz").stat().st_size for number in (0, 1)
    )
    assert files_of(tmp_path / "meeting") == {
        "charter.json", "sites/a.json", "sites/b.json",
        *(f"round-0{number}/{site}.npz" for number in (0, 1) for site in "ab"),
    }  # fmt: skip
    # Of 96 private and 50 public pictures, 32 a step: 3 steps, then twice 4.
    assert done.alone.epochs == round((3 + 2 * 4) / 3)
    assert done.gain == done.student.test_accuracy - done.alone.test_accuracy
    assert done.student.test_accuracy == pytest.approx(done.bundle.test_accuracy)
    card = json.loads((tmp_path / "out/card.json").read_text())
    assert (card["site"], card["n_sites"], card["federated_gain"]) == ("a", 2, done.gain)
    assert card["made_again"]["command"].startswith("autokd federate --study ")
    assert card["made_again"]["command"].endswith(" --meeting MEETING")
    digest = load_data(build()).card.digest
    for file in (tmp_path / "out").iterdir():
        assert digest.encode() not in file.read_bytes(), f"{file.name} tells which pictures it had"
    assert "site a" in (tmp_path / "out/card.md").read_text()
    (told,) = registered
    public = np.load(tmp_path / "public.npz")["x"][:4, None] / 255
    assert told["example"][0] == pytest.approx(public, abs=1e-6)
    again = federate(build(), out=tmp_path / "out")
    assert again.rounds == done.rounds
    assert again.student == done.student
    logits, names = RoundFolder(build().study_dir).load_consensus(1)
    assert (logits.shape, names) == ((2, 50, 10), ("a", "b"))


def test_the_rounds_are_in_mlflow_once(build, tmp_path):
    from mlflow import MlflowClient

    with pytest.raises(MeetingError):
        federate(build())
    answer_as_b(tmp_path, numbers=[0, 1])
    done = federate(build())
    federate(build())
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    experiment = client.get_experiment_by_name(build().study_name)
    (run,) = client.search_runs([experiment.experiment_id])
    told = client.get_metric_history(run.info.run_id, "round_val_accuracy")
    assert [(one.step, one.value) for one in told] == [
        (one.number, one.val_accuracy) for one in done.rounds
    ]
    assert run.data.metrics["federated_gain"] == done.gain
    assert run.data.metrics["alone_test_accuracy"] == done.alone.test_accuracy
    assert run.data.params["site"] == "a"
    assert run.data.tags["autokd.mark"] == (build().study_dir / "identity").read_text().strip()


def test_a_student_is_handed_over_though_the_one_alone_diverges(
    build, tmp_path, monkeypatch, capsys
):
    with pytest.raises(MeetingError):
        federate(build())
    answer_as_b(tmp_path, numbers=[0, 1])

    def diverge(*_, **__):
        raise DivergedError("loss is nan in epoch 1 of 4")

    lines, progress = [], SearchProgress(is_silent=True)
    monkeypatch.setattr(progress, "say", lines.append)
    monkeypatch.setattr(sites, "train_student", diverge)
    done = federate(build(), out=tmp_path / "out", progress=progress)
    assert "warning: the student alone is left out, and so is a gain: loss is nan in" in str(lines)
    assert (done.alone, done.gain) == (None, None)
    card = json.loads((tmp_path / "out/card.json").read_text())
    assert card["test_accuracy"] == pytest.approx(done.student.test_accuracy)
    assert card["why_no_gain"] == "the training of the student alone diverged"
    federating._print_rounds(done)
    assert "there is no gain to tell" in capsys.readouterr().out
    assert federating._as_dict(done)["alone_test_accuracy"] is None


@pytest.mark.parametrize("left", ["", "0123"])
def test_a_token_that_is_not_whole_is_told_before_the_site_shows_itself(build, tmp_path, left):
    config = build()
    config.study_dir.mkdir(parents=True)
    (config.study_dir / "token").write_text(left)
    with pytest.raises(StudyError, match=r"must have its 32 characters in .*token, got '"):
        federate(config)
    assert not (tmp_path / "meeting").exists()
    (config.study_dir / "token").unlink()
    with pytest.raises(MeetingError):
        federate(config)
    assert len((config.study_dir / "token").read_text()) == 32


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, {"alpha": 0.5, "temperature": 1.0, "teacher_confidence": 0.0}),
        ({"alpha": 0.9, "temperature": 3.0}, {"alpha": 0.9, "temperature": 3.0}),
        ({"fix": {"alpha": "0.7"}}, {"alpha": 0.7, "temperature": 1.0}),
        ({"loss": "dkd"}, {"alpha": 0.5, "loss": "dkd"}),
        ({}, {"is_balanced": False}),
        ({"balanced": True}, {"is_balanced": True}),
        ({"recipe": "shift"}, {"alpha": 0.5, "temperature": 1.0, "teacher_confidence": 0.5}),
    ],
)
def test_the_student_of_a_site_is_trained_by_its_recipe(build, options, wanted):
    config = build(**options)
    data = load_data(config)
    space = build_joint_space(config, data.card, has_assistant=False)
    sample, recipe = choose_sample(space, config, data=data)
    for name, value in wanted.items():
        got = getattr(recipe, name)
        assert got == (value if isinstance(value, bool | str) else pytest.approx(value))
    assert space.freeze(sample)[1] == dataclasses.replace(recipe, is_balanced=False)


def test_a_recipe_that_says_nothing_of_the_others_is_one_of_a_federation_too(build, tmp_path):
    (tmp_path / "own.yaml").write_text("label_smoothing: 0.1\naugmentation: crop\n")
    for options, wanted in (({}, (0.5, 0.5, 1.0)), ({"temperature": 3.0}, (0.5, 0.5, 3.0))):
        config = build(recipe="own.yaml", **options)
        data = load_data(config)
        space = build_joint_space(config, data.card, has_assistant=False)
        recipe = choose_sample(space, config, data=data)[1]
        assert (recipe.alpha, recipe.alpha_end, recipe.temperature) == wanted


@pytest.mark.parametrize("n_public", [800, 31])
@pytest.mark.parametrize("n_private", [20, 60, 327, 5000])
def test_the_twin_has_as_many_steps_within_half_an_epoch(n_private, n_public):
    plan = Plan(epochs=10, batch_size=32, seed=0, device=torch.device("cpu"))
    epochs = count_epochs_alone(
        n_private, n_public=n_public, plan=plan, first_epochs=30, n_rounds=3
    )
    alone, together = (n // min(32, n) for n in (n_private, n_private + n_public))
    assert abs(epochs * alone - (30 * alone + 3 * 10 * together)) <= alone / 2


def test_a_site_says_what_it_has_decided(build, capsys):
    with pytest.raises(MeetingError):
        federate(build(), progress=SearchProgress())
    assert "recipe default, where it leaves a choice: alpha=0.5 " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("uri", "is_registered", "is_there"),
    [
        (None, None, True),
        ("http://me:secret@host:5000", None, False),
        ("http://me:secret@host:5000", True, True),
        (None, False, False),
    ],
)
def test_a_student_leaves_its_site_only_where_that_is_asked_for(
    build, monkeypatch, uri, is_registered, is_there
):
    seen, lines, progress = [], [], SearchProgress(is_silent=True)
    monkeypatch.setattr(handover, "register_bundle", lambda *_, **told: seen.append(told))
    monkeypatch.setattr(progress, "say", lines.append)
    public = torch.zeros(5, 1, 8, 8, dtype=torch.uint8)
    bundle = Bundle(
        files=(), test_accuracy=0.5, onnx_test_accuracy=0.5, top1_agreement=1.0, latency_ms=1.0,
        card={},
    )  # fmt: skip
    handover.register_site(
        build(tracking_uri=uri), bundle,
        public=public, is_registered=is_registered, progress=progress,
    )  # fmt: skip
    assert [told["pictures"] is public for told in seen] == [True] * is_there
    is_told = any("weights would leave this site for http://***@host" in line for line in lines)
    assert is_told == (uri is not None and not is_there)


def test_answers_that_others_laid_down_in_its_name_are_not_its_own(build, tmp_path):
    with pytest.raises(MeetingError):
        federate(build())
    answer_as_b(tmp_path, numbers=[0])
    own, other = (tmp_path / f"meeting/round-00/{site}.npz" for site in "ab")
    genuine = own.read_bytes()
    own.write_bytes(other.read_bytes())
    with pytest.raises(MeetingError, match="must be those that it has published itself, got oth"):
        federate(build())
    own.unlink()
    with pytest.raises(MeetingError, match="got 1 in round 1"):
        federate(build())
    assert own.read_bytes() == genuine


def test_a_study_goes_on_with_a_device_of_another_kind(build, tmp_path):
    with pytest.raises(MeetingError):
        federate(build())
    answer_as_b(tmp_path, numbers=[0])
    kept = RoundFolder(build().study_dir)
    kept.keep(dataclasses.replace(kept.load(0), engine="fp32 channels_last cuda graphed"))
    with pytest.raises(MeetingError):
        federate(build())
    assert kept.load(1).engine == "fp32 channels_last cpu x1"


def test_checkpoints_of_a_site_keep_to_their_limit(build):
    config = build()
    stale = config.study_dir / "checkpoints" / "round-7-9.0.checkpoint"
    stale.parent.mkdir(parents=True)
    stale.touch()
    os.truncate(stale, round(config.checkpoints_gb * 2**30) + 1)  # takes no room
    with pytest.raises(MeetingError):
        federate(config)
    assert not stale.exists()


class Halting(SearchProgress):
    """Asks for an end, as Ctrl-C does, when a round begins."""

    def __init__(self, title):
        super().__init__(is_silent=True)
        self.title = title

    def begin(self, title, *, total, done=0):
        super().begin(title, total=total, done=done)
        if title == self.title:
            import signal

            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_ends_after_the_epoch_and_the_same_command_goes_on(build, tmp_path):
    config = build(epochs=2, first_epochs=4)
    with pytest.raises(MeetingError):
        federate(config)
    answer_as_b(tmp_path, numbers=[0, 1])
    with pytest.raises(KeyboardInterrupt):
        federate(config, progress=Halting("epochs of round 1"))
    (kept,) = (config.study_dir / "checkpoints").glob("*.checkpoint")
    assert kept.name == "round-1-2.0.checkpoint"
    done = federate(config)
    assert [len(one.curve) for one in done.rounds] == [4, 2, 2]
    assert not list((config.study_dir / "checkpoints").glob("*.checkpoint"))


def test_the_same_name_with_other_data_is_refused(build, tmp_path):
    with pytest.raises(MeetingError):
        federate(build())
    with pytest.raises(CharterError, match="`--site` must be a name of its own, got a"):
        federate(build(seed=1, runs_dir=tmp_path / "elsewhere"))
    with pytest.raises(StudyError, match="was made with seed=0, got 1"):
        federate(build(seed=1))


def test_a_study_does_not_go_on_in_another_meeting(build, tmp_path):
    with pytest.raises(MeetingError):
        federate(build())
    answer_as_b(tmp_path, numbers=[0, 1])
    federate(build())
    with pytest.raises(CharterError, match="must be the one in which site a has published before"):
        federate(build(meeting=tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    (tmp_path / "meeting").rename(tmp_path / "mounted")
    assert federate(build(meeting=tmp_path / "mounted")).rounds[-1].heard == ("a", "b")


def test_other_public_pictures_are_refused(build, tmp_path):
    with pytest.raises(MeetingError):
        federate(build())
    np.savez(tmp_path / "other.npz", x=(load_digits().images[:50] * 15).astype(np.uint8))
    with pytest.raises(CharterError, match="digest of the `--public` pictures must be"):
        federate(build(site="b", public="npz:other.npz"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"site": None}, "`--site` must be given, got nothing"),
        ({"meeting": None}, "`--meeting` must be given, got nothing; name a folder"),
        ({"public": None}, "`--public` must be given, got nothing"),
        ({"student": None}, "`--student` must say what is trained"),
        ({"n_sites": 3, "sites": ("a", "b")}, "`--n-sites` must be the number of --sites, 2, got"),
        ({"baseline": True}, "`baseline` must be left to `autokd distill`"),
        ({"budget": 3}, "`budget` must be left to `autokd search`"),
        ({"teacher": ("timm:resnet18",)}, "`teacher` must be left to `autokd distill`"),
        ({"alpha": 0.0}, "must learn from what the others say in a federation"),
        ({"loss": "soft_targets+hint"}, "must have no loss on features in a federation"),
        ({"fix": {"mix": "mixup", "mix_targets": "exact"}}, "`mix_targets` must be mixed in a fed"),
        ({"fix": {"mix_targets": "exact"}}, "`mix_targets` must be mixed in a federation, got ex"),
        ({"loss": "cross_entropy"}, "must learn from what the others say in a federation"),
        ({"recipe": "features"}, "must have no loss on features in a federation"),
        ({"recipe": "self"}, "must have no exits and one generation in a federation"),
    ],
)
def test_what_a_site_cannot_do_is_told_before_it_shows_itself(build, tmp_path, options, message):
    with pytest.raises(ConfigError) as caught:
        federate(build(**options))
    assert message in str(caught.value)
    assert not (tmp_path / "meeting").exists()
