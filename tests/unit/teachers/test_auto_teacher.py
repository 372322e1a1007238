import logging

import pytest
import torch

from autokd.teachers.auto_teacher import build_auto, choose_size
from autokd.teachers.plans import (
    FitNetwork,
    Workload,
    count_macs,
    plan_finetuning,
    plan_training,
)


def make_work(**changes):
    values = {"macs": 10**7, "n_train": 1000, "is_colour": False, "has_cuda": False, "seed": 0}
    return Workload(**{**values, **changes})


@pytest.mark.parametrize(
    ("shape", "n_train", "most_macs"),
    [
        ((1, 8, 8), 1150, 8e6),
        ((1, 28, 28), 48_000, 45e6),
        ((3, 32, 32), 40_000, 45e6),
        ((3, 64, 64), 10_000, 80e6),
        ((3, 224, 224), 3000, 2e9),
    ],
)
def test_the_network_is_sized_to_what_a_cpu_can_do(card, shape, n_train, most_macs):
    data = card(shape, n_train=n_train)
    source, _ = build_auto(data, has_cuda=False)
    macs = count_macs(source.network, shape=shape)
    assert most_macs / 4 < macs <= most_macs
    with torch.no_grad():
        assert source.network.eval()(torch.zeros(2, *shape)).shape == (2, 4)


def test_a_gpu_gets_a_larger_network(card):
    data = card((3, 32, 32), n_train=50_000)
    large, _ = build_auto(data, has_cuda=True)
    assert count_macs(large.network, shape=data.shape) > 5e8
    assert choose_size(data, has_cuda=True) != choose_size(data, has_cuda=False)


def test_the_network_for_digits_is_small_and_normalised_by_the_data(card):
    source, _ = build_auto(card((1, 8, 8), n_classes=10, n_train=1150), has_cuda=False)
    assert 3e5 < sum(value.numel() for value in source.network.parameters()) < 7e5
    assert (source.preprocessing.mean, source.preprocessing.std) == ((0.4,), (0.2,))


def test_more_work_means_fewer_epochs_within_bounds():
    epochs = [plan_training(make_work(macs=m, n_train=n)).epochs for m, n in (
        (10**6, 1000), (4 * 10**7, 30_000), (4 * 10**7, 60_000), (2 * 10**9, 10**6),
    )]  # fmt: skip
    assert epochs[0] == 30
    assert epochs[-1] == 5
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[1] > epochs[2] > 5


def test_a_training_on_a_cpu_stays_near_its_budget():
    work = make_work(macs=36 * 10**6, n_train=40_000)
    assert 3 * work.macs * work.n_train * plan_training(work).epochs == pytest.approx(6e13, rel=0.1)


def test_finetuning_is_shorter_and_gentler_than_training():
    work = make_work(is_colour=True)
    gentle, plain = plan_finetuning(work), plan_training(work)
    assert gentle.epochs < plain.epochs
    assert gentle.learning_rate < plain.learning_rate / 2
    assert plain.augmentation == "flip_crop"
    assert plan_training(make_work()).augmentation == "crop"


def test_auto_is_fitted_once_and_read_from_the_cache_after_that(load, fit, card, tmp_path):
    assert isinstance(fit, FitNetwork)
    data = card((1, 8, 8))
    first, second = load("auto", data), load("auto", data)
    assert len(fit.plans) == 1
    assert first.digest == second.digest
    views = torch.rand(2, 1, 8, 8)
    assert torch.equal(first(views), second(views))
    kept = sorted(path.suffix for path in (tmp_path / "cache/teachers").iterdir())
    assert kept == [".lock", ".safetensors"]


def test_other_data_seeds_or_preprocessing_are_fitted_anew(load, fit, card):
    load("auto", card((1, 8, 8)))
    load("auto", card((1, 8, 8), digest="other"))
    load("auto", card((1, 8, 8)), seed=1)
    load("auto", card((1, 8, 8)), teacher_image_size=10)
    assert len(fit.plans) == 4
    assert [plan.seed for plan in fit.plans] == [0, 0, 1, 0]


@pytest.mark.parametrize("content", [b"", b"junk" * 100])
def test_a_damaged_cache_is_written_anew_with_a_warning(load, fit, card, tmp_path, caplog, content):
    data = card((1, 8, 8))
    first = load("auto", data)
    (path,) = (tmp_path / "cache/teachers").glob("*.safetensors")
    whole = path.read_bytes()
    for damage in (content, whole[:-100]):
        path.write_bytes(damage)
        with caplog.at_level(logging.WARNING):
            assert load("auto", data).digest == first.digest
        assert path.read_bytes() == whole
    assert len(fit.plans) == 3
    assert caplog.text.count("is damaged") == 2


def test_a_cache_that_cannot_be_written_does_not_lose_the_teacher(load, fit, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file where the folder should be")
    load("auto")
    assert len(fit.plans) == 1
    assert "could not be kept" in caplog.text


def test_loading_leaves_the_callers_random_numbers_alone(load, card):
    state = torch.get_rng_state()
    load("auto", card((1, 8, 8)))
    assert torch.equal(torch.get_rng_state(), state)
