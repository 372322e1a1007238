"""Which trials belong to which folder."""

import optuna
import pytest

from autokd.config import Config
from autokd.errors import StudyError
from autokd.study.folder import StudyFolder
from autokd.study.identity import keep_identity, open_own_storage
from autokd.study.storages import open_storage
from autokd.types import Front, TeacherCard


@pytest.fixture
def begin(tmp_path):
    """A session of a study: its storage and folder, after some trials have ended."""

    def begin(runs="runs", storage=None, *, n_trials=0, n_front=None, is_marked=True):
        config = Config(runs_dir=tmp_path / runs, storage=storage, study="s")
        folder = StudyFolder(config.study_dir)
        opened = open_own_storage(config, folder=folder)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.keep_settings(config, dimensions=(), digests={})
        study = optuna.create_study(study_name="s", storage=opened, load_if_exists=True)
        if is_marked:
            keep_identity(folder, config, storage=opened)
        for _ in range(n_trials):
            study.tell(study.ask(), 0.5)
            number = len(study.trials) - 1
            for path in (folder.weights / f"trial-{number}.safetensors",
                         folder.refits / f"{number}-1-kd-8.json"):  # fmt: skip
                path.parent.mkdir(exist_ok=True)
                path.touch()
        n_kept = len(study.trials) if n_front is None else n_front
        if n_kept:
            folder.save_front(front(n_kept))
        return folder

    return begin


def front(n_trials):
    teacher = TeacherCard(name="t", digest="d", n_params=1, val_accuracy=0.9, latency_ms=1.0)
    return Front(
        study="s", n_trials=n_trials, n_failed=0, n_pruned=0, n_stopped=0, wall_s=1.0,
        training_s=1.0, hypervolume=0.1, teacher=teacher, baseline=None, students=(),
    )  # fmt: skip


@pytest.fixture
def elsewhere(tmp_path):
    return f"sqlite:///{tmp_path}/elsewhere.db"


@pytest.mark.parametrize("is_marked", [True, False])
@pytest.mark.parametrize("n_trials", [0, 3])
def test_a_study_goes_on_where_it_was_and_is_marked_then(begin, n_trials, is_marked, tmp_path):
    folder = begin(n_trials=n_trials, is_marked=is_marked)
    begin(n_trials=1)
    mark = (folder.path / "identity").read_text().strip()
    storage = open_storage(None, runs_dir=tmp_path / "runs")
    study = optuna.load_study(study_name="s", storage=storage)
    assert study.user_attrs == {"autokd_identity": mark}
    begin()


@pytest.mark.parametrize("is_marked", [True, False])
@pytest.mark.parametrize("how", ["other storage", "journal deleted"])
def test_a_folder_with_students_is_not_begun_anew(begin, how, is_marked, elsewhere, tmp_path):
    begin(n_trials=3, is_marked=is_marked)
    if how == "journal deleted":
        (tmp_path / "runs/optuna.journal").unlink()
    with pytest.raises(StudyError, match=r"must go on with the trials .* got none") as error:
        begin(storage=elsewhere if how == "other storage" else None)
    assert f"(journal:{tmp_path}/runs/optuna.journal)" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("is_marked", [True, False])
def test_a_new_folder_takes_nobodys_trials(begin, is_marked, elsewhere):
    begin(storage=elsewhere, n_trials=3, is_marked=is_marked)
    with pytest.raises(StudyError, match=r"its 3 trials in the storage .* which is new"):
        begin("more", storage=elsewhere)


def test_two_studies_of_one_name_are_not_mixed(begin, elsewhere):
    begin(n_trials=3)
    begin("more", storage=elsewhere, n_trials=3)
    with pytest.raises(StudyError, match="got 3 others in the storage"):
        begin(storage=elsewhere)


def test_a_copied_study_takes_its_mark_along(begin, elsewhere, tmp_path):
    begin(n_trials=3)
    optuna.copy_study(
        from_study_name="s", from_storage=open_storage(None, runs_dir=tmp_path / "runs"),
        to_storage=elsewhere,
    )  # fmt: skip
    begin(storage=elsewhere, n_trials=1)


def test_a_kill_between_the_front_and_the_end_of_a_trial_is_no_other_study(begin):
    begin(n_trials=3, n_front=4, is_marked=False)
    begin()


@pytest.mark.parametrize("n_front", [2, 5])
def test_unmarked_trials_of_another_count_are_not_taken(begin, n_front):
    begin(n_trials=3, n_front=n_front, is_marked=False)
    with pytest.raises(StudyError, match="got 3 others"):
        begin()


def test_a_study_that_was_killed_before_its_trials_were_marked_goes_on(begin, tmp_path):
    begin(n_trials=0)
    (tmp_path / "runs/optuna.journal").unlink()
    begin(n_trials=1)
