"""What the finals make of trainings with and without distillation."""

import dataclasses

import pytest

from autokd.study.finals import fill_student, is_vain, retime_student
from autokd.study.folder import StudyFolder
from autokd.study.refits import Refit, find_weights
from autokd.types import FrontStudent, Recipe, dump_json

STUDENT = FrontStudent(
    trial=7,
    val_accuracy=0.99,
    latency_ms=0.1,
    latency_ci95_ms=(0.09, 0.11),
    speed_up=5.0,
    n_params=1000,
    macs=9000,
    size_bytes=4000,
    architecture={"width": 8},
    recipe=Recipe(alpha=0.9, alpha_end=0.9, generations=2),
)


def build_refits(*, is_twin, val, test):
    return [
        Refit(trial=7, seed=seed, is_twin=is_twin, val_accuracy=v, test_accuracy=t, epochs=9)
        for seed, (v, t) in enumerate(zip(val, test, strict=True))
    ]


OURS = build_refits(is_twin=False, val=(0.90, 0.92), test=(0.91, 0.93))


def test_a_twin_that_is_better_on_validation_takes_the_place():
    twins = build_refits(is_twin=True, val=(0.93, 0.95), test=(0.90, 0.90))
    filled = fill_student(STUDENT, [*OURS, *twins])
    assert filled.is_twin
    assert filled.val_accuracy == pytest.approx(0.94)
    assert filled.test_accuracy == pytest.approx(0.90)
    assert not filled.recipe.is_distilled
    assert not filled.recipe.is_self_distilled
    assert filled.kd_gain == pytest.approx(0.02), "measured on test, whoever is kept"


@pytest.mark.parametrize("val", [(0.90, 0.92), (0.80, 0.99)])
def test_a_twin_that_is_no_better_does_not(val):
    twins = build_refits(is_twin=True, val=val, test=(0.99, 0.99))
    filled = fill_student(STUDENT, [*OURS, *twins])
    assert not filled.is_twin
    assert filled.recipe == STUDENT.recipe
    assert filled.val_accuracy == pytest.approx(0.91)
    assert filled.test_accuracy == pytest.approx(0.92)
    assert filled.kd_gain == pytest.approx(-0.07)
    assert filled.kd_gain_ci95 > 0


def test_a_student_without_distillation_gains_nothing():
    filled = fill_student(STUDENT, OURS)
    assert (filled.kd_gain, filled.kd_gain_ci95, filled.is_twin) == (0.0, 0.0, False)


@pytest.mark.parametrize(("is_twin", "name"), [(False, "7-1-kd"), (True, "7-0-twin")])
def test_the_weights_are_those_of_the_one_that_was_kept(tmp_path, is_twin, name):
    folder = StudyFolder(tmp_path / "study")
    folder.refits.mkdir(parents=True)
    twins = build_refits(is_twin=True, val=(0.95, 0.93), test=(0.9, 0.9))
    for refit in [*OURS, *twins]:
        path = folder.refits / f"7-{refit.seed}-{'twin' if refit.is_twin else 'kd'}.json"
        path.write_text(dump_json(refit), encoding="utf-8")
    found = find_weights(folder, trial=7, is_twin=is_twin)
    assert found == folder.refits / f"{name}.safetensors"


@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
def test_a_file_of_another_time_takes_its_interval_and_its_gain_along(ratio):
    timed = retime_student(STUDENT, ratio)
    assert timed.latency_ms == pytest.approx(0.1 * ratio)
    assert timed.latency_ci95_ms == pytest.approx((0.09 * ratio, 0.11 * ratio))
    assert timed.speed_up * timed.latency_ms == pytest.approx(5.0 * 0.1), "the teacher's time"


@pytest.mark.parametrize(("own_ms", "expected"), [(None, False), (0.2, False), (0.1, True)])
def test_int8_that_is_no_faster_is_vain(own_ms, expected):
    assert is_vain(dataclasses.replace(STUDENT, fp32_latency_ms=own_ms)) is expected
