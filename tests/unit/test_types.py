import dataclasses
import json
from importlib.metadata import PackageNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autokd.types import (
    EpochLog,
    Front,
    Recipe,
    TeacherCard,
    TrialResult,
    dump_json,
    front_as_dict,
    load_json,
    pin_packages,
)

ROW = EpochLog(
    epoch=1, train_loss=0.5, val_loss=0.25, val_accuracy=0.75, learning_rate=0.01, alpha=0.9,
    temperature=4.0, seconds=1.5,
)  # fmt: skip
scalars = st.one_of(
    st.booleans(), st.integers(-100, 100), st.text(max_size=5), st.floats(0.25, 8, width=16)
)


@given(st.dictionaries(st.text(min_size=1, max_size=6), scalars, max_size=4), st.floats(0, 1))
def test_a_result_written_as_json_is_read_back_equal(sample, accuracy):
    result = TrialResult(
        trial=3, state="complete", sample=sample, recipe=Recipe(), val_accuracy=accuracy,
        curve=(ROW, ROW),
    )  # fmt: skip
    assert load_json(TrialResult, dump_json(result)) == result


def test_a_recipe_is_distilled_where_alpha_is_ever_above_zero():
    assert Recipe().is_distilled
    assert not Recipe(alpha=0.0, alpha_end=1.0).is_distilled
    assert Recipe(alpha=0.0, alpha_end=0.5, alpha_schedule="linear").is_distilled
    assert Recipe(alpha=1.0).is_pure_distillation
    assert not Recipe(alpha=1.0, alpha_end=0.5, alpha_schedule="cosine").is_pure_distillation


def test_the_front_is_printed_with_its_students_under_front():
    teacher = TeacherCard(name="t", digest="d", n_params=None, val_accuracy=0.9, latency_ms=1.0)
    front = Front(
        study="s", n_trials=1, n_failed=0, n_pruned=0, wall_s=1.0, training_s=0.5,
        hypervolume=0.0, teacher=teacher, baseline=None,
    )  # fmt: skip
    values = front_as_dict(front)
    assert values["front"] == []
    assert values["teacher"]["latency_ms"] == 1.0
    assert set(values) == {f.name for f in dataclasses.fields(Front)} - {"students"} | {"front"}


def test_the_schedule_decides_whether_the_teacher_and_the_labels_are_ever_heard():
    assert not Recipe(alpha=0.0, alpha_end=0.5, alpha_schedule="warm_up").is_distilled
    assert Recipe(alpha=0.0, alpha_end=0.5, alpha_schedule="step").is_distilled
    assert not Recipe(alpha=1.0, alpha_end=1.0, alpha_schedule="warm_up").is_pure_distillation
    assert Recipe(alpha=1.0, alpha_end=1.0, alpha_schedule="step").is_pure_distillation
    assert not Recipe(alpha=1.0, loss="dkd").is_pure_distillation


def test_cross_entropy_is_never_distilled():
    recipe = Recipe(loss="cross_entropy", alpha=1.0, feature_loss="attention")
    assert not recipe.is_distilled
    assert not recipe.is_pure_distillation


def test_a_loss_on_features_is_distillation_too():
    assert Recipe(alpha=0.0, feature_loss="hint").is_distilled
    assert not Recipe(alpha=0.0, feature_loss="hint", feature_weight=0.0).is_distilled
    rising = Recipe(
        alpha=0.0, feature_loss="hint", feature_weight=0.0,
        feature_weight_end=1.0, feature_schedule="linear",
    )  # fmt: skip
    assert rising.is_distilled


def test_what_is_deployed_is_told_apart_by_precision_and_layers():
    plain = TrialResult(trial=0, state="complete", sample={}, network="n", recipe=Recipe())
    quantized = dataclasses.replace(plain, recipe=Recipe(precision="int8"))
    partly = dataclasses.replace(quantized, float_layers=("stem",))
    assert len({one.artefact for one in (plain, quantized, partly)}) == 3
    assert (plain.artefact, plain.precision, quantized.precision) == ("n", "fp32", "int8")


def test_a_result_from_before_precisions_is_read_as_fp32():
    values = json.loads(dump_json(TrialResult(trial=0, state="failed", sample={}, recipe=Recipe())))
    for name in ("fp32_latency", "float_layers"):
        del values[name]
    del values["recipe"]["precision"]
    result = load_json(TrialResult, json.dumps(values))
    assert (result.precision, result.fp32_latency, result.float_layers) == ("fp32", None, ())


@pytest.mark.parametrize(
    ("installed", "line"),
    [
        ("onnxruntime", "onnxruntime==1.2"),
        ("onnxruntime-gpu", "onnxruntime-gpu==1.2"),
        ("onnxruntime-openvino", "onnxruntime-openvino==1.2"),
        ("", "onnxruntime"),
    ],
)
def test_the_distribution_of_onnxruntime_that_is_installed_is_pinned(monkeypatch, installed, line):
    monkeypatch.setattr("autokd.types.packages.version", fake_version(installed))
    assert pin_packages(["onnxruntime", "numpy"]) == [line, "numpy==1.2"]


def fake_version(runtime):
    """Of an environment in which onnxruntime goes by another name."""

    def version(name):
        if name.startswith("onnxruntime") and name != runtime:
            raise PackageNotFoundError(name)
        return "1.2"

    return version
