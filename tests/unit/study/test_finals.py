"""What the finals make of trainings with and without distillation."""

import dataclasses
import math

import pytest
import torch

from autokd.candidate import CheckpointFolder
from autokd.config import Config
from autokd.distillation import Plan
from autokd.errors import ConstraintError, DivergedError, MeasureError, WorkerError
from autokd.exporters import export_onnx
from autokd.study import orders
from autokd.study.crew import InlineCrew
from autokd.study.finalists import fill_student, retime_student
from autokd.study.finals import Finals
from autokd.study.folder import StudyFolder
from autokd.study.orders import Bench
from autokd.study.progress import SearchProgress
from autokd.study.refits import (
    Entry,
    Refit,
    find_weights,
    keep_refit,
    load_refit,
    load_refits,
    locate_weights,
)
from autokd.study.side_by_side import compare_files
from autokd.testing import FakeTarget
from autokd.types import FrontStudent, Recipe, TrialResult, dump_json

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
    plain = dataclasses.replace(STUDENT, recipe=Recipe(alpha=0.0, alpha_end=0.0))
    filled = fill_student(plain, OURS)
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


def test_the_weights_are_those_of_a_training_that_the_table_is_made_of(tmp_path):
    folder = StudyFolder(tmp_path / "study")
    folder.refits.mkdir(parents=True)
    for refit in OURS:  # of an earlier session with more seeds
        path = (folder.path / refit.file).with_suffix(".json")
        path.write_text(dump_json(refit), encoding="utf-8")
    filled = fill_student(STUDENT, OURS[:1])
    assert locate_weights(folder, filled) == folder.refits / "7-0-kd-9.safetensors"
    assert locate_weights(folder, STUDENT) == folder.refits / "7-1-kd-9.safetensors"


def test_a_training_of_another_length_leaves_a_finished_one_alone(tmp_path):
    folder = StudyFolder(tmp_path / "study")
    bench = Bench.__new__(Bench)
    object.__setattr__(bench, "refits", folder.refits)
    result = TrialResult(trial=7, state="complete", sample={})
    short, long = (Entry(trial=7, seed=1, is_twin=False, epochs=n) for n in (9, 90))
    files, others = (
        bench.files_of(orders.Order(result=result, refit=one)) for one in (short, long)
    )
    assert not set(files.values()) & set(others.values())
    folder.refits.mkdir(parents=True)
    for path in files.values():
        path.write_text("of 9 epochs")
    keep_refit(folder, short, OURS[1])
    for path in others.values():  # written, and then cut off before it was kept
        path.write_text("of 90 epochs")
    assert load_refit(folder, long) is None
    assert load_refit(folder, short) == OURS[1]
    assert {path.read_text() for path in files.values()} == {"of 9 epochs"}
    assert find_weights(folder, trial=7) == files["weights"] == folder.path / OURS[1].file


def test_a_refit_of_before_names_told_the_length_is_found_with_its_weights(tmp_path):
    folder = StudyFolder(tmp_path / "study")
    folder.refits.mkdir(parents=True)
    (folder.refits / "7-1-kd.json").write_text(dump_json(OURS[1]), encoding="utf-8")
    (folder.refits / "7-1-kd.safetensors").touch()
    known = load_refit(folder, Entry(trial=7, seed=1, is_twin=False, epochs=9))
    assert known.file == "refits/7-1-kd.safetensors"
    assert known == dataclasses.replace(OURS[1], weights=known.file)
    assert list(load_refits(folder).values()) == [known]
    filled = fill_student(STUDENT, [known])
    assert locate_weights(folder, filled) == folder.refits / "7-1-kd.safetensors"
    assert load_refit(folder, Entry(trial=7, seed=1, is_twin=False, epochs=90)) is None


def test_seeds_that_one_of_both_was_not_trained_with_say_nothing_of_the_gain():
    twins = build_refits(is_twin=True, val=(0.80, 0.80), test=(0.90, 0.80))
    filled = fill_student(STUDENT, [*OURS, twins[1]])
    assert filled.n_seeds == 2
    assert (filled.kd_gain, filled.kd_gain_ci95) == (pytest.approx(0.13), None)
    assert fill_student(STUDENT, OURS).kd_gain is None, "no twin came to its end"
    both = fill_student(STUDENT, [OURS[0], twins[1]])
    assert (both.n_seeds, both.kd_gain) == (1, None)


class Trainings:
    """Fails where it is told to; what it trains is made up."""

    def __init__(self, *failing):
        self.failing, self.done = set(failing), []
        self.engines = {}

    def __call__(self, entry, result, *, workshop, test, weights, on_epoch):
        del workshop, test, weights, on_epoch
        self.done.append(entry)
        self.engines[entry] = result.engine
        if entry in self.failing:
            raise DivergedError("the loss must be finite, got nan")
        return Refit(
            trial=entry.trial, seed=entry.seed, is_twin=entry.is_twin,
            val_accuracy=0.95 if entry.trial == 7 else 0.9,
            test_accuracy=0.8 if entry.is_twin else 0.9, epochs=entry.epochs, engine=result.engine,
        ), 1.0  # fmt: skip


@pytest.fixture
def run_finals(tmp_path, monkeypatch):
    """The finals of two trials with two seeds, in which some trainings fail."""

    def run_finals(*failing, n_before=0, baseline=None, **limits):
        trainings = Trainings(*failing)
        monkeypatch.setattr(orders, "train_refit", trainings)
        monkeypatch.setattr(
            orders, "find_engine", lambda _result, _workshop: "fp32 contiguous cpu x1"
        )
        config = Config(seeds=2, refit_epochs=3, **limits)
        workshop = dataclasses.make_dataclass("Shop", ["plan", "checkpoints"])(
            Plan(epochs=2, batch_size=8, seed=0, device=torch.device("cpu")),
            CheckpointFolder(tmp_path / "checkpoints", limit_bytes=2**20),
        )
        bench = Bench.__new__(Bench)
        for name, value in (("workshop", workshop), ("refits", tmp_path), ("test", lambda: None)):
            object.__setattr__(bench, name, value)
        finals = Finals(
            config, StudyFolder(tmp_path / "study"), bench=bench, crew=InlineCrew(),
            progress=SearchProgress(is_silent=True),
        )  # fmt: skip
        results = {
            trial: TrialResult(trial=trial, state="complete", sample={}, recipe=Recipe(alpha=0.9))
            for trial in (7, 8)
        }
        finals.run(
            [one for one in results.values() if one.trial != baseline],
            baseline=results.get(baseline),
        )
        assert len(trainings.done) == 8 - n_before
        return finals, trainings

    return run_finals


def entry(trial, seed, *, is_twin):
    return Entry(trial=trial, seed=seed, is_twin=is_twin, epochs=3)


def test_a_training_of_the_finals_that_fails_is_left_out_and_the_others_count(run_finals):
    finals, _ = run_finals(entry(7, 1, is_twin=False), entry(8, 2, is_twin=True))
    others = [dataclasses.replace(STUDENT, trial=8, latency_ms=0.05, latency_ci95_ms=(0.05, 0.05))]
    fast, slow = finals.rank([STUDENT, *others])
    assert (slow.trial, slow.n_seeds, fast.trial, fast.n_seeds) == (7, 1, 8, 2)
    assert slow.kd_gain == pytest.approx(0.1)


def test_a_finalist_of_whom_nothing_came_is_left_out(run_finals):
    finals, _ = run_finals(*(entry(7, seed, is_twin=False) for seed in (1, 2)))
    assert not finals.has(7)
    assert [one.trial for one in finals.rank([STUDENT, dataclasses.replace(STUDENT, trial=8)])] == [
        8
    ]
    assert finals.fill_twin(STUDENT) is None


def test_files_that_became_too_slow_give_way_to_those_of_the_search(run_finals, said, monkeypatch):
    finals, _ = run_finals()
    asked = []

    def ask(result):
        asked.append(result.trial)
        return Refit(trial=result.trial, seed=0, is_twin=False, val_accuracy=0.8, epochs=2,
                     test_accuracy=0.7, weights=f"weights/trial-{result.trial}.safetensors"
                     )  # fmt: skip

    monkeypatch.setattr(finals, "_ask_test", ask)
    faster = dataclasses.replace(STUDENT, fp32_latency_ms=0.12)
    other = dataclasses.replace(faster, trial=8, latency_ms=0.05, latency_ci95_ms=(0.05, 0.05))
    finals.retime({(7, False): 1.5, (8, False): 1.0})
    assert [one.trial for one in finals.rank([faster, other])] == [8], "one is left"
    assert not asked
    finals.retime({(7, False): 1.5})
    (kept,) = finals.rank([faster])
    assert (kept.latency_ms, kept.weights) == (0.1, "weights/trial-7.safetensors")
    assert (kept.val_accuracy, kept.test_accuracy, kept.n_seeds) == (0.8, 0.7, 1)
    assert asked == [7]
    assert any("no finalist is faster in INT8 than in FP32" in line for line in said)
    slow = [dataclasses.replace(STUDENT, trial=n, fp32_latency_ms=ms)
            for n, ms in ((7, 0.08), (8, 0.05))]  # fmt: skip
    with pytest.raises(ConstraintError, match=r"got none of 2; .* trial 7, takes 1\.25 t"):
        finals.rank(slow)


def test_a_file_that_cannot_be_timed_is_left_out(run_finals, tmp_path, caplog):
    class Board(FakeTarget):
        def measure_together(self, models):
            if any("strange" in model.name for model in models):
                raise MeasureError("no such operator")
            return super().measure_together(models)

    model = export_onnx(torch.nn.Flatten(), tmp_path / "model.onnx", shape=(1, 2, 2))
    strange = model.rename(tmp_path / "strange.onnx")
    model.write_bytes(strange.read_bytes())
    assert compare_files([(model, model), (model, strange)], target=Board()) == [1.0, math.inf]
    assert "cannot be timed: no such operator" in caplog.text
    finals, _ = run_finals()
    timed = dataclasses.replace(STUDENT, fp32_latency_ms=0.12)
    other = dataclasses.replace(timed, trial=8, latency_ms=0.05, latency_ci95_ms=(0.05, 0.05))
    finals.retime({(7, False): 1.0, (8, False): math.inf})
    assert [one.trial for one in finals.rank([timed, other])] == [7]


def test_finalists_that_miss_a_limit_after_all_are_shown_with_a_warning(run_finals, said):
    finals, _ = run_finals(min_accuracy=0.99)
    assert [one.trial for one in finals.rank([STUDENT])] == [7]
    assert any("no finalist is within --max-latency-ms and --min-accuracy" in line for line in said)


def test_finals_of_which_nothing_came_say_why(run_finals):
    failing = [entry(trial, seed, is_twin=False) for trial in (7, 8) for seed in (1, 2)]
    with pytest.raises(WorkerError, match="could be trained again: the loss must be finite"):
        run_finals(*failing)


def test_a_baseline_alone_is_no_final(run_finals):
    failing = [entry(7, seed, is_twin=False) for seed in (1, 2)]
    with pytest.raises(WorkerError, match="none of the finalists could be trained again: the loss"):
        run_finals(*failing, baseline=8)


def keep_earlier(folder, *entries, engine):
    """What a session before has trained."""
    for one in entries:
        keep_refit(
            folder, one,
            Refit(
                trial=one.trial, seed=one.seed, is_twin=one.is_twin, val_accuracy=0.9,
                test_accuracy=0.9, epochs=one.epochs, engine=engine,
            ),
        )  # fmt: skip
        (folder.refits / f"{one.name}.safetensors").touch()


def test_a_twin_is_computed_as_its_student_was_in_a_session_on_another_device(
    run_finals, tmp_path, said
):
    folder, graphed = StudyFolder(tmp_path / "study"), "bf16 channels_last cuda graphed"
    keep_earlier(folder, *(entry(7, seed, is_twin=False) for seed in (1, 2)), engine=graphed)
    _, trainings = run_finals(n_before=2)
    twins = [one for one in trainings.done if one.trial == 7]
    assert [one.is_twin for one in twins] == [True, True]
    assert {trainings.engines[one] for one in twins} == {graphed}
    others = [one for one in trainings.done if one.trial == 8]
    assert {trainings.engines[one] for one in others} == {"fp32 contiguous cpu x1"}
    assert not said


def test_trainings_that_were_computed_in_several_ways_are_told(run_finals, tmp_path, said):
    folder = StudyFolder(tmp_path / "study")
    for seed in (1, 2):
        keep_earlier(folder, entry(7, seed, is_twin=False), engine="bf16 channels_last cuda")
        keep_earlier(folder, entry(7, seed, is_twin=True), engine="fp32 contiguous cpu x1")
    run_finals(n_before=4)
    (line,) = said
    assert line.startswith("warning: trainings of trial 7 were computed in several ways (bf16")
    assert line.endswith(f"delete {folder.refits}/7-* to train them again, all alike")


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(SearchProgress, "begin", lambda *_, **__: None)
    monkeypatch.setattr(SearchProgress, "say", lambda _, text: lines.append(text))
    return lines


def test_checkpoints_that_nobody_goes_on_with_keep_to_the_limit(run_finals, tmp_path, said):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    stale = folder / "final-7-1-kd-99.0.checkpoint"
    stale.write_bytes(bytes(2**20 + 1))
    run_finals()
    assert not stale.exists()
    assert said == ["checkpoints over the limit, not kept: final-7-1-kd-99"]


@pytest.mark.parametrize("twin", [False, True])
def test_a_twin_has_as_many_steps_as_its_student(twin):
    counts = {"n_labelled": 1000, "n_unlabelled": 9000}
    student, other = (entry(7, 1, is_twin=is_twin) for is_twin in (False, twin))
    again = Recipe(alpha=0.0, alpha_end=0.0, generations=2)
    assert student.count_epochs(again, **counts) == 3
    assert other.count_epochs(again, **counts) == (6 if twin else 3)
    hint = Recipe(alpha=0.0, alpha_end=0.0, feature_loss="hint", precision="int8")
    assert other.count_rounding_epochs(hint, **counts) == 1, "it hears no teacher then"
    soft = Recipe(alpha=0.9, precision="int8")
    assert other.count_rounding_epochs(soft, **counts) == (10 if twin else 1)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
def test_a_file_of_another_time_takes_its_interval_and_its_gain_along(ratio):
    timed = retime_student(STUDENT, ratio)
    assert timed.latency_ms == pytest.approx(0.1 * ratio)
    assert timed.latency_ci95_ms == pytest.approx((0.09 * ratio, 0.11 * ratio))
    assert timed.speed_up * timed.latency_ms == pytest.approx(5.0 * 0.1), "the teacher's time"


@pytest.mark.parametrize(("own_ms", "expected"), [(None, False), (0.2, False), (0.1, True)])
def test_int8_that_is_no_faster_is_vain(own_ms, expected):
    assert dataclasses.replace(STUDENT, fp32_latency_ms=own_ms).is_vain is expected
