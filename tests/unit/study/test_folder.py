import json

import pytest

from autokd.config import Config
from autokd.errors import StudyError
from autokd.study.folder import StudyFolder
from autokd.types import Front, TeacherCard

NEW = ("teacher_vote", "assistant")


@pytest.fixture
def folder(tmp_path):
    return StudyFolder(tmp_path)


def forget(folder, *keys):
    """Makes the settings those of an autokd that did not have some options yet."""
    path = folder.path / "settings.json"
    values = json.loads(path.read_text())
    for key in keys:
        del values["config"][key]
    path.write_text(json.dumps(values))


@pytest.mark.parametrize("weights", [None, "w.pt"])
def test_a_study_of_one_teacher_goes_on_as_it_was_written_before_there_were_several(
    folder, weights
):
    config = Config(teacher="timm:x", teacher_weights=weights)
    folder.keep_settings(config, dimensions=(), digests={})
    values = json.loads((folder.path / "settings.json").read_text())["config"]
    assert (values["teacher"], values["teacher_weights"]) == ("timm:x", weights)
    forget(folder, *NEW)
    assert folder.load_config() == config
    folder.check_settings(config, dimensions=())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher": ("auto", "timm:x")}, r"made with teacher=auto, got \['auto', 'timm:x'\]"),
        ({"assistant": "auto"}, "made with assistant=None, got auto"),
        ({"teacher_vote": "accuracy"}, "made with teacher_vote=mean, got accuracy"),
    ],
)
def test_other_teachers_are_another_study(folder, options, message):
    folder.keep_settings(Config(), dimensions=(), digests={})
    forget(folder, *NEW)
    with pytest.raises(StudyError, match=message):
        folder.check_settings(Config(**options), dimensions=())


def test_a_study_that_never_began_holds_nobody_to_its_settings(folder):
    folder.check_settings(Config(teacher="timm:resnet999"), dimensions=())
    folder.check_settings(Config(), dimensions=())


def front(n_trials: int) -> Front:
    teacher = TeacherCard(name="t", digest="d", n_params=1, val_accuracy=1.0, latency_ms=1.0)
    return Front(
        study="s", n_trials=n_trials, n_failed=0, n_pruned=0, wall_s=1.0, training_s=1.0,
        hypervolume=0.0, teacher=teacher, baseline=None,
    )  # fmt: skip


def test_each_further_target_has_its_own_front(folder):
    config = Config(target=["onnxruntime", "openvino"])
    folder.keep_settings(config, dimensions=[], digests={})
    mine, other = front(n_trials=1), front(n_trials=2)
    folder.save_front(mine)
    folder.save_front(other, target="openvino")
    assert folder.load_front() == folder.load_front(target="onnxruntime") == mine
    assert folder.load_front(target="openvino") == other
    with pytest.raises(StudyError, match=r"one of the study's \(onnxruntime, openvino\), got tfl"):
        folder.load_front(target="tflite")


def test_a_study_stays_with_the_device_that_its_latencies_come_from(folder):
    folder.hold_to_device("")  # told by a table
    assert folder.find_device() == ""
    folder.hold_to_device("board")
    folder.hold_to_device("board")
    folder.hold_to_device("")
    assert folder.find_device() == "board"
    with pytest.raises(
        StudyError, match=r"must go on with latencies of board, got this; .* --learn"
    ):
        folder.hold_to_device("this")


@pytest.mark.parametrize(
    ("options", "known"),
    [({}, "onnxruntime"), ({"target": ("torch", "openvino")}, "torch, openvino"),
     ({"latency_table": "t.csv"}, "none, but a table")],
)  # fmt: skip
def test_a_target_that_a_study_does_not_have_is_told_beside_those_it_has(folder, options, known):
    folder.keep_settings(Config(**options), dimensions=[], digests={})
    with pytest.raises(StudyError, match=rf"must be one of the study's \({known}\), got phone"):
        folder.find_target("phone")
    assert folder.find_target("") == ""
    if "latency_table" not in options:
        first, *others = known.split(", ")
        assert [folder.find_target(one) for one in (first, *others)] == ["", *others]


def test_a_device_is_known_by_the_hash_that_older_versions_gave_it(folder):
    folder.hold_to_device("board x4, Linux [01234567]")
    now = "board x4, Linux [0123456789]"
    folder.hold_to_device(now)
    assert folder.find_device() == now
    for other in ("board x4, Linux [9876543210]", "board x8, Linux [0123456789]"):
        with pytest.raises(StudyError, match="must go on with latencies of board x4"):
            folder.hold_to_device(other)


def test_other_pictures_or_teachers_under_the_same_name_are_another_study(folder):
    digests = {"data": "a", "teachers": "b c"}
    folder.check_digests(digests)
    folder.keep_settings(Config(), dimensions=(), digests=digests)
    folder.check_digests(digests)
    folder.check_digests({"data": "a"})
    with pytest.raises(StudyError, match="must go on with the teachers that it was made with"):
        folder.check_digests({**digests, "teachers": "b d"})
    forgotten = json.loads((folder.path / "settings.json").read_text())
    del forgotten["digests"]  # of an autokd that did not keep them
    (folder.path / "settings.json").write_text(json.dumps(forgotten))
    folder.check_digests({"data": "z"})
