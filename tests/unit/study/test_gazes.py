"""Gazes of students and teachers, compared."""

import math

import pytest
import torch
from torch import nn

from autokd.data import SearchData
from autokd.errors import StudyError, TeacherError
from autokd.exporters import export_onnx
from autokd.study.gazes import Gazes, ask_int8, compare_gazes, mean_similarity, watch_teacher
from autokd.teachers import Preprocessing, Source, Teacher, build_committee
from autokd.types import DataCard
from tests.unit.distillation.feature_networks import build, draw_pictures

N = 24


@pytest.fixture(scope="module")
def data():
    card = DataCard(
        name="made", digest="d", shape=(3, 32, 32), classes=tuple("abcdefghij"), mean=(0.5,) * 3,
        std=(0.2,) * 3, n_train=N, n_val=N, n_test=N,
    )  # fmt: skip
    images = (draw_pictures(N) * 255).to(torch.uint8)
    labels = torch.arange(N) % 10
    return SearchData(
        card=card, train_images=images, train_labels=labels, val_images=images, val_labels=labels,
        unlabelled_images=images[:0],
    )  # fmt: skip


def build_teacher(network, form="module", name="t"):
    own = Preprocessing(shape=(3, 32, 32), mean=(0.0,) * 3, std=(1.0,) * 3)
    source = Source(network=network, preprocessing=own, form=form)
    return Teacher(source, name=name, view_shape=(3, 32, 32))


def join(members):
    return build_committee(
        members, vote="mean", accuracies=[0.9] * len(members), n_classes=10, n_pictures=N
    )


@pytest.mark.parametrize("name", ["cnn", "vit", "swin"])
def test_a_student_that_is_its_teacher_looks_where_it_looks(data, name):
    network = build(name).eval()
    gaze = watch_teacher(build_teacher(network), data=data, n_pictures=10, seed=0)
    gazes = compare_gazes(network, gaze)
    assert gazes.images.shape[0] == 10
    assert torch.equal(gazes.teacher_says, gazes.student_says)
    known = gazes.similarities[~gazes.similarities.isnan()]
    assert len(known) > 0
    torch.testing.assert_close(known, torch.ones(len(known)))
    assert float(gazes.shuffled.nanmean()) < 1


def test_what_a_file_says_is_what_the_student_is_asked_about(data, tmp_path):
    network, other = build("cnn").eval(), build("cnn", seed=7).eval()
    gaze = watch_teacher(build_teacher(network), data=data, n_pictures=10, seed=0)
    file = export_onnx(other, tmp_path / "model.int8.onnx", shape=(3, 32, 32))
    says = ask_int8(file, gaze)
    gazes = compare_gazes(network, gaze, says=says)
    assert torch.equal(gazes.student_says, other(gaze.images.float() / 255).argmax(1))
    alone = compare_gazes(network, gaze)
    is_other = gazes.student_says != alone.student_says
    assert is_other.any()
    assert (gazes.student_maps != alone.student_maps).flatten(1).any(1)[is_other].all()
    assert ask_int8(None, gaze) is None


def test_families_can_be_compared(data):
    gaze = watch_teacher(build_teacher(build("vit").eval()), data=data, n_pictures=6, seed=0)
    gazes = compare_gazes(build("cnn").eval(), gaze)
    assert gazes.layers == {"student": "stages 4x4", "teacher": "network.blocks.2 8x8"}
    assert gazes.teacher_maps.shape == gazes.student_maps.shape == (6, 32, 32)


def test_the_pictures_are_drawn_once_for_a_seed(data):
    teacher = build_teacher(build("cnn").eval())
    one, same, other = (
        watch_teacher(teacher, data=data, n_pictures=8, seed=seed).indices for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert len(set(one.tolist())) == 8


def test_a_committee_of_equal_teachers_looks_as_each_of_them(data):
    network = build("cnn").eval()
    alone = watch_teacher(build_teacher(network), data=data, n_pictures=6, seed=0)
    both = watch_teacher(join([build_teacher(network)] * 2), data=data, n_pictures=6, seed=0)
    torch.testing.assert_close(both.maps, alone.maps)


@pytest.mark.parametrize("form", ["onnx", "script", "program"])
def test_a_teacher_without_modules_is_refused_with_the_remedy(data, form):
    blind = build_teacher(build("cnn").eval(), form="script", name=f"file:t.{form}")
    with pytest.raises(TeacherError, match=r"got file:t\..*; search with the same network as timm"):
        watch_teacher(blind, data=data, n_pictures=4, seed=0)
    seeing = build_teacher(build("cnn").eval())
    with pytest.raises(TeacherError, match="must be made of PyTorch modules"):
        watch_teacher(join([seeing, blind]), data=data, n_pictures=4, seed=0)


def test_networks_without_maps_are_refused(data):
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10)).eval()
    with pytest.raises(TeacherError, match="must be made of PyTorch modules"):
        watch_teacher(build_teacher(flat), data=data, n_pictures=4, seed=0)
    gaze = watch_teacher(build_teacher(build("cnn").eval()), data=data, n_pictures=4, seed=0)
    with pytest.raises(StudyError, match="must have a map larger than 1x1"):
        compare_gazes(flat, gaze)


def made_gazes(similarities, agreed):
    n = len(similarities)
    says = torch.zeros(n, dtype=torch.long)
    return Gazes(
        indices=torch.arange(n),
        images=torch.zeros(n, 1, 4, 4, dtype=torch.uint8),
        labels=says,
        teacher_says=says,
        student_says=torch.tensor([0 if yes else 1 for yes in agreed]),
        teacher_maps=torch.zeros(n, 4, 4),
        student_maps=torch.zeros(n, 4, 4),
        similarities=torch.tensor(similarities),
        layers={},
    )


def test_half_of_the_pictures_that_are_shown_are_disagreed_on():
    similarities = [n / 20 for n in range(20)]
    gazes = made_gazes(similarities, [n % 2 == 0 for n in range(20)])
    chosen = gazes.choose(6)
    agreed = [place % 2 == 0 for place in chosen]
    assert agreed == [True] * 3 + [False] * 3
    assert chosen[0] == 18  # the most alike of those on which they agree
    assert chosen[2] == 0  # and the least
    assert chosen[3] > chosen[4] > chosen[5]


@pytest.mark.parametrize(("n_apart", "expected"), [(0, 0), (1, 1), (9, 5), (10, 6)])
def test_what_one_kind_lacks_is_made_up_by_the_other(n_apart, expected):
    gazes = made_gazes([0.5] * 10, [False] * n_apart + [True] * (10 - n_apart))
    chosen = gazes.choose(6)
    assert len(set(chosen)) == 6
    assert sum(place < n_apart for place in chosen) == expected


def test_a_mean_lies_inside_its_interval_and_leaves_out_what_is_not_known():
    values = torch.tensor([0.1, 0.4, math.nan, 0.3, 0.9])
    found = mean_similarity(values, seed=0)
    assert found.n == 4
    assert found.mean == pytest.approx(0.425)
    low, high = found.ci95
    assert low < found.mean < high
    assert found == mean_similarity(values, seed=0)


def test_the_interval_narrows_with_the_root_of_the_number():
    generator = torch.Generator().manual_seed(0)
    widths = []
    for n in (50, 800):
        low, high = mean_similarity(torch.rand(n, generator=generator), seed=0).ci95
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.25)


def test_of_one_value_there_is_no_interval_and_of_none_no_mean():
    assert mean_similarity(torch.tensor([0.5]), seed=0).ci95 is None
    assert mean_similarity(torch.tensor([math.nan]), seed=0) is None
