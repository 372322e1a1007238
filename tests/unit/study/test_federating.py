"""One site of a federation: resumed in any round, beside its twin, handed over."""

import json
import os

import numpy as np
import pytest
from sklearn.datasets import load_digits

import autokd
from autokd.config import Config
from autokd.errors import CharterError, ConfigError, MeetingError, StudyError
from autokd.federation import Answers, Charter
from autokd.study import handover
from autokd.study.progress import SearchProgress
from autokd.study.rounds import RoundFolder
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
            "n_sites": 2, "rounds": 2, "epochs": 1, "train_limit": 120, "views": 2,
            "wait_s": 0.05, "student": "python:networks.py:student", "runs_dir": tmp_path / "runs",
        }  # fmt: skip
        return Config(**{**values, **options})

    return build


def answer_as_b(folder, *, numbers):
    """Site `b`, which says the class of every public picture."""
    charter = load_json(Charter, (folder / "meeting/charter.json").read_bytes())
    labels = load_digits().target[1000:1050]
    logs = np.full(charter.answers_shape, -9, np.float16)
    logs[:, np.arange(50), labels] = 0
    for number in numbers:
        file = folder / f"meeting/round-{number:02d}/b.npz"
        file.parent.mkdir(exist_ok=True)
        answers = Answers(site="b", n_pictures=99, logs=logs)
        file.write_bytes(answers.write(charter=charter, number=number))


def federate(config, **options):
    return autokd.federate(config, is_registered=False, **options)


def files_of(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_site_waits_goes_on_and_is_handed_over(build, tmp_path):
    with pytest.raises(MeetingError, match="got 1 in round 0"):
        federate(build())
    published = (tmp_path / "meeting/round-00/a.npz").read_bytes()
    answer_as_b(tmp_path, numbers=[0])
    with pytest.raises(MeetingError, match="got 1 in round 1"):
        federate(build())
    answer_as_b(tmp_path, numbers=[1])
    done = federate(build(), out=tmp_path / "out")
    assert (tmp_path / "meeting/round-00/a.npz").read_bytes() == published
    assert [one.heard for one in done.rounds] == [(), ("a", "b"), ("a", "b")]
    assert [one.sent_bytes > 0 for one in done.rounds] == [True, True, False]
    assert done.sent_bytes == sum(
        (tmp_path / f"meeting/round-0{number}/a.npz").stat().st_size for number in (0, 1)
    )
    assert files_of(tmp_path / "meeting") == {
        "charter.json", "sites/a.json",
        *(f"round-0{number}/{site}.npz" for number in (0, 1) for site in "ab"),
    }  # fmt: skip
    n_private = 96  # of 120, less those that choose
    assert done.alone.epochs == round(1 + 2 * (n_private + 50) / n_private)
    assert done.gain == done.student.test_accuracy - done.alone.test_accuracy
    assert done.student.test_accuracy == pytest.approx(done.bundle.test_accuracy)
    card = json.loads((tmp_path / "out/card.json").read_text())
    assert (card["site"], card["n_sites"], card["federated_gain"]) == ("a", 2, done.gain)
    assert card["made_again"]["command"].startswith("autokd federate --study ")
    assert "site a" in (tmp_path / "out/card.md").read_text()
    again = federate(build(), out=tmp_path / "out")
    assert again.rounds == done.rounds
    assert again.student == done.student
    logits, sites = RoundFolder(build().study_dir).load_consensus(1)
    assert (logits.shape, sites) == ((2, 50, 10), ("a", "b"))


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
    config = build(epochs=2)
    with pytest.raises(MeetingError):
        federate(config)
    answer_as_b(tmp_path, numbers=[0, 1])
    with pytest.raises(KeyboardInterrupt):
        federate(config, progress=Halting("epochs of round 1"))
    (kept,) = (config.study_dir / "checkpoints").glob("*.checkpoint")
    assert kept.name == "round-1-2.0.checkpoint"
    done = federate(config)
    assert [len(one.curve) for one in done.rounds] == [2, 2, 2]
    assert not list((config.study_dir / "checkpoints").glob("*.checkpoint"))


def test_the_same_name_with_other_data_is_refused(build, tmp_path):
    with pytest.raises(MeetingError):
        federate(build())
    with pytest.raises(CharterError, match="`--site` must be a name of its own, got a"):
        federate(build(seed=1, runs_dir=tmp_path / "elsewhere"))
    with pytest.raises(StudyError, match="was made with seed=0, got 1"):
        federate(build(seed=1))


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
        ({"loss": "cross_entropy"}, "must learn from what the others say in a federation"),
    ],
)
def test_what_a_site_cannot_do_is_told_before_it_shows_itself(build, tmp_path, options, message):
    with pytest.raises(ConfigError) as caught:
        federate(build(**options))
    assert message in str(caught.value)
    assert not (tmp_path / "meeting").exists()
