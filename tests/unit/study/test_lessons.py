"""What a study can learn from an earlier one, and what is refused."""

from dataclasses import replace

import pytest

from autokd.config import Config
from autokd.errors import StudyError
from autokd.spaces import build_space
from autokd.study.auto_sampler import AutoSampler
from autokd.study.folder import StudyFolder
from autokd.study.journal import open_journal
from autokd.study.lessons import choose_noise, read_earlier
from autokd.study.refits import Refit
from autokd.study.sampling import build_sampler
from autokd.study.storages import open_storage
from autokd.study.trials import Trials
from autokd.testing import FakeSurveyor
from autokd.types import EpochLog, Footprint, Latency, TrialResult, dump_json

LATENCY = Latency(
    median_ms=2.0, ci95_low_ms=2.0, ci95_high_ms=2.0, p10_ms=2.0, p90_ms=2.0, n_runs=100, batch=1,
    threads=1, runtime="r", device="d", drift=1.0,
)  # fmt: skip
FOOTPRINT = Footprint(n_params=1000, macs=9000, size_bytes=4000, paths=(1.0, 2.0))


def build(name="mobile", *, side=8):
    return build_space(name, recipe="default", input_shape=(1, side, side), n_classes=10)


@pytest.fixture(scope="module")
def space():
    return build()


def read_curve(accuracies):
    return tuple(
        EpochLog(
            epoch=epoch,
            train_loss=1.0,
            val_loss=1.0,
            val_accuracy=accuracy,
            learning_rate=0.1,
            alpha=0.5,
            temperature=4.0,
            seconds=1.0,
        )
        for epoch, accuracy in enumerate(accuracies, 1)
    )


@pytest.fixture
def tell(tmp_path):
    """Makes a study in a storage: a curve of four epochs is complete, a shorter one stopped."""

    def tell(name, curves, *, space, storage=None, n_cut=0, is_too_slow=False):
        """The last few are cut off after two epochs instead, or the short ones are pruned."""
        auto = AutoSampler(FakeSurveyor(("width_1",)), dimensions=space.dimensions)
        trials = Trials(
            name,
            storage=storage or open_journal(tmp_path / "optuna.journal"),
            sampler=build_sampler("random", auto=auto, seed=0),
            space=space,
        )
        for accuracies in curves:
            trial, sample = trials.begin()
            result = TrialResult(
                trial=trial.number,
                state="complete"
                if len(accuracies) == 4
                else ("pruned" if is_too_slow else "stopped"),
                sample=sample,
                val_accuracy=max(accuracies),
                latency=LATENCY,
                footprint=FOOTPRINT,
                curve=read_curve(accuracies),
            )
            trials.save(trial, result)
            trials.end(trial, result)
        for _ in range(n_cut):
            trial, sample = trials.begin()
            cut = replace(result, trial=trial.number, sample=sample, state="stopped")
            trials.save(trial, replace(cut, curve=read_curve(WHOLE[:2])))
        trials.requeue()

    return tell


def read(tmp_path, *names, **options):
    config = Config(runs_dir=tmp_path, study="new", sampler="auto", learn_from=names, **options)
    return read_earlier(config, storage=open_storage(config.storage, runs_dir=tmp_path))


WHOLE = (0.2, 0.3, 0.4, 0.5)


def test_a_study_with_rungs_tells_what_was_stopped_too(tell, space, tmp_path):
    tell("old", [WHOLE, WHOLE[:1], (0.1, 0.2, 0.6, 0.4), WHOLE[:1], WHOLE[:2]], space=space)
    (earlier,) = read(tmp_path, "old")
    assert earlier.rungs == (1,), "only one trial was cut off after two epochs"
    lesson = earlier.teach(space)
    assert lesson.curves == ((0.2, 0.5), (0.2,), (0.1, 0.6), (0.2,), (0.2,))
    assert lesson.n_rungs == 2
    assert {one.label for one in lesson.dimensions} == {one.label for one in space.dimensions}
    assert len({len(one.traits) for one in lesson.prospects}) == 1


def test_trials_that_were_cut_off_together_are_no_rung(tell, space, tmp_path):
    tell("old", [WHOLE, WHOLE[:1], WHOLE, WHOLE[:1], WHOLE[:2]], space=space, n_cut=2)
    (earlier,) = read(tmp_path, "old")
    assert earlier.rungs == (1,)


def test_trials_that_were_pruned_together_are_no_rung(tell, space, tmp_path):
    tell("old", [WHOLE, WHOLE, WHOLE[:2], WHOLE[:2]], space=space, is_too_slow=True)
    (earlier,) = read(tmp_path, "old")
    assert earlier.rungs == ()


def test_rooms_are_those_of_the_new_study(tell, space, tmp_path):
    tell("old", [WHOLE, WHOLE], space=space)
    (earlier,) = read(tmp_path, "old")
    assert len(earlier.teach(build(side=32))) == 2


def test_a_space_of_more_stages_is_still_the_same_one(tell, space, tmp_path):
    tell("old", [WHOLE, WHOLE], space=space)
    (earlier,) = read(tmp_path, "old")
    assert len(earlier.teach(build(side=64))) == 2


@pytest.mark.parametrize("other", ["resnet", "vit"])
def test_another_space_is_refused(other, tell, space, tmp_path):
    tell("old", [WHOLE, WHOLE], space=space)
    (earlier,) = read(tmp_path, "old")
    with pytest.raises(StudyError, match="`--learn-from old` must have searched the space of"):
        earlier.teach(build(other))


def test_a_study_that_pins_what_the_other_searched_has_nothing_in_common(tell, tmp_path):
    old, new = build(), build()
    pinned = {one.label: str(one.default) for one in new.dimensions}
    old.pin({label: pinned[label] for label in list(pinned)[::2]})
    new.pin({label: pinned[label] for label in list(pinned)[1::2]})
    tell("old", [WHOLE, WHOLE], space=old)
    (earlier,) = read(tmp_path, "old")
    with pytest.raises(StudyError, match="a dimension that this study searches, got none"):
        earlier.teach(new)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("new", "must name another study than --study, got new"),
        ("none", "must be a study in .* or in the storage, got none"),
        ("young", "`--learn-from young` must have two finished trials at least"),
    ],
)
def test_a_study_that_teaches_nothing_is_refused(name, message, tell, space, tmp_path):
    tell("young", [WHOLE, WHOLE[:1], WHOLE[:1]], space=space)
    with pytest.raises(StudyError, match=message) as error:
        read(tmp_path, name)
    assert "\n" not in str(error.value)


def test_a_study_in_another_storage_is_found_through_its_folder(tell, space, tmp_path):
    url = f"sqlite:///{tmp_path}/other.db"
    tell("old", [WHOLE, WHOLE], space=space, storage=open_storage(url, runs_dir=tmp_path))
    folder = StudyFolder(tmp_path / "studies/old")
    folder.path.mkdir(parents=True)
    folder.keep_settings(Config(storage=url), dimensions=(), digests={})
    assert [one.name for one in read(tmp_path, "old")] == ["old"]
    folder.keep_settings(Config(storage="mysterious://x"), dimensions=(), digests={})
    with pytest.raises(StudyError, match="`--learn-from old` must lie in a storage that can be"):
        read(tmp_path, "old")


# ---------------------------------------------------------------------- seeds


def keep_refits(folder, accuracies):
    folder.refits.mkdir(parents=True, exist_ok=True)
    for trial, group in enumerate(accuracies):
        for seed, accuracy in enumerate(group):
            refit = Refit(
                trial=trial, seed=seed, is_twin=False, val_accuracy=accuracy, test_accuracy=0.5,
                epochs=4,
            )  # fmt: skip
            (folder.refits / f"{trial}-{seed}-kd.json").write_text(dump_json(refit))


def test_seeds_of_the_own_finals_come_before_those_of_another_study(tell, space, tmp_path):
    tell("old", [WHOLE, WHOLE], space=space)
    own = StudyFolder(tmp_path / "studies/new")
    keep_refits(StudyFolder(tmp_path / "studies/old"), [[0.80, 0.84, 0.82]] * 4)
    earlier = read(tmp_path, "old")
    assert choose_noise(own, n_val=100).degrees == 0
    borrowed = choose_noise(own, n_val=100, earlier=earlier)
    assert (borrowed.seed_std, borrowed.degrees, borrowed.n_val) == (pytest.approx(0.02), 2, 100)
    keep_refits(own, [[0.90, 0.92], [0.93, 0.95]])
    assert choose_noise(own, n_val=100, earlier=earlier) == borrowed, "two degrees are too few"
    keep_refits(own, [[0.90, 0.91, 0.92]] * 2)
    known = choose_noise(own, n_val=100, earlier=earlier)
    assert (known.seed_std, known.degrees) == (pytest.approx(0.01), 4)
