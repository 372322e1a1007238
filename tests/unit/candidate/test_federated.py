"""One round of one site: who teaches which picture, and what is said of public ones."""

import dataclasses

import numpy as np
import pytest
import torch

from autokd.candidate import (
    CheckpointFolder,
    answer_public,
    build_student,
    describe_views,
    train_round,
)
from autokd.candidate import federated as federated_module
from autokd.config import Config
from autokd.data import N_VIEWS as N_VIEWS_ALONE
from autokd.data import build_viewer, load_data
from autokd.distillation import Engine, Plan, distillation_loss
from autokd.distillation import learning as learning_module
from autokd.spaces import build_space
from autokd.types import Recipe

TINY = {"depth_1": 1, "depth_2": 1, "depth_3": 1, "width_1": 8, "width_2": 16, "width_3": 32}
CPU = torch.device("cpu")
PLAN = Plan(epochs=2, batch_size=32, seed=0, device=CPU, engine=Engine(device=CPU))
SPACE = build_space("mobile", recipe="default", input_shape=(1, 8, 8), n_classes=10)
RECIPE = Recipe(augmentation="crop")
N_PUBLIC, N_VIEWS = 60, 3


@pytest.fixture(scope="module")
def data():
    whole = load_data(Config(train_limit=200))
    return dataclasses.replace(
        whole, unlabelled_images=whole.val_images[:1].repeat(N_PUBLIC, 1, 1, 1)
    )


def build(data, seed=0):
    return build_student(SPACE, TINY, data=data.card, seed=seed)[0]


def say(number, n_views=N_VIEWS):
    """Sites that all say the same class of every public picture."""
    logits = np.zeros((n_views, N_PUBLIC, 10), np.float32)
    logits[..., number] = 8
    return logits


def train(student, data, **options):
    values = {"number": 1, "data": data, "consensus": say(3), "plan": PLAN}
    return train_round(student, RECIPE, **{**values, **options})


def test_a_student_learns_what_the_others_say(data):
    student = build(data)
    training = train(student, data, plan=dataclasses.replace(PLAN, epochs=6))
    said = answer_public(student, RECIPE, data.unlabelled_images, n_views=N_VIEWS, device=CPU)
    assert training.answers == "consensus"
    assert (said.argmax(-1) == 3).mean() > 0.9


def test_private_pictures_are_taught_by_their_labels_and_public_ones_by_all(data, monkeypatch):
    seen = {}
    genuine = federated_module.distill

    def spy(student, pictures, **options):
        teacher = options["teaching"].logits
        indices = torch.tensor([0, 5, len(data.train_images), len(data.train_images) + 7])
        images, labels = pictures.train_images[indices], pictures.train_labels[indices]
        views = options["augment"](images, labels, indices=indices, epoch=0)
        seen.update(logits=teacher(views, 1.0), views=views, labels=labels)
        return genuine(student, pictures, **options)

    monkeypatch.setattr(federated_module, "distill", spy)
    train(build(data), data)
    said = seen["logits"][:2].softmax(1)
    assert (said.argmax(1) == seen["labels"][:2]).all()
    assert said.amax(1) == pytest.approx(0.91)
    assert (seen["logits"][2:].argmax(1) == 3).all()
    assert (seen["labels"][2:] == -1).all()
    assert (seen["views"].targets[2:] == 0).all()


def test_a_round_without_public_pictures_in_a_batch_is_a_training_alone(data, monkeypatch):
    """All labels are learnt as the twin learns them, be they balanced: else no gain is one."""
    losses, genuine = [], learning_module.consensus_loss

    def compare(student_logits, targets, **options):
        labelled = targets.sum(1) > 0
        only = {**options, "teacher_logits": options["teacher_logits"][labelled]}
        alone = {**only, "alpha": 0.0, "teacher_logits": None}
        rows = student_logits[labelled], targets[labelled]
        losses.append((genuine(*rows, **only), distillation_loss(*rows, **alone)))
        assert options["log_prior"] is not None
        return genuine(student_logits, targets, **options)

    monkeypatch.setattr(learning_module, "consensus_loss", compare)
    recipe = dataclasses.replace(RECIPE, is_balanced=True)
    plan = dataclasses.replace(PLAN, epochs=1)
    train_round(build(data), recipe, number=1, data=data, consensus=say(3), plan=plan)
    assert losses
    assert all(one == two for one, two in losses)


def test_views_of_public_pictures_are_the_same_at_every_site(data):
    # The sites have 100 and 160 pictures of their own; a view is known by its number alone.
    student = build(data)
    small = dataclasses.replace(
        data, train_images=data.train_images[:100], train_labels=data.train_labels[:100]
    )
    seen = []
    for site in (data, small):
        n = len(site.train_images)
        augment = None

        def keep(_student, _pictures, **options):
            nonlocal augment
            augment = options["augment"]
            raise InterruptedError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(federated_module, "distill", keep)
            with pytest.raises(InterruptedError):
                train(student, site)
        indices = torch.arange(n, n + 10)
        images = site.unlabelled_images[:10]
        seen.append([augment.viewer(images, indices, view=view) for view in range(N_VIEWS)])
    for one, two in zip(*seen, strict=True):
        assert torch.equal(one, two)


def test_private_pictures_have_as_many_views_as_in_a_training_without_the_others(data, monkeypatch):
    seen = {}

    def keep(_student, _pictures, **options):
        seen.update(options)
        raise InterruptedError

    monkeypatch.setattr(federated_module, "distill", keep)
    with pytest.raises(InterruptedError):
        train(build(data), data)
    viewer, teacher = seen["augment"].viewer, seen["teaching"].logits
    assert viewer.n_views == N_VIEWS_ALONE
    n_private = len(data.train_images)
    for kind, indices in (("own", torch.arange(3)), ("public", torch.arange(3) + n_private)):
        images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
        first, again = (viewer(images, indices, view=view) for view in (0, N_VIEWS))
        assert torch.equal(first, again) == (kind == "public")
    last = seen["augment"](
        data.train_images[:2],
        data.train_labels[:2],
        indices=torch.arange(2),
        epoch=N_VIEWS_ALONE - 1,
    )
    assert teacher(last, 1.0).shape == (2, 10)


def test_a_round_that_was_cut_off_gives_what_it_would_have_given(data, tmp_path):
    whole, cut = build(data), build(data)
    train(whole, data)
    keeper = CheckpointFolder(tmp_path, limit_bytes=2**30).keepers("round-1")(0)

    def stop(row):
        return row.epoch < 1

    train(cut, data, keeper=keeper, on_epoch=stop)
    again = build(data)
    train(again, data, keeper=keeper)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_answers_are_probabilities_of_each_view_in_half_precision(data):
    student = build(data)
    images = data.val_images
    said = answer_public(student, RECIPE, images, n_views=N_VIEWS, device=CPU)
    assert (said.shape, said.dtype) == ((N_VIEWS, len(images), 10), np.float16)
    assert np.exp(said.astype(np.float32)).sum(-1) == pytest.approx(1, abs=1e-2)
    assert (said[0] != said[1]).any()
    plain = dataclasses.replace(RECIPE, augmentation="none")
    once = answer_public(student, plain, images, n_views=N_VIEWS, device=CPU)
    with torch.no_grad():
        logits = student(images.float() / 255)
    assert once.shape[0] == 1
    assert once[0].argmax(-1).tolist() == logits.argmax(1).tolist()


def test_views_are_alike_where_their_policy_is():
    crop, n_views = describe_views(RECIPE, n_pictures=5, n_views=4)
    assert n_views == 4
    assert describe_views(dataclasses.replace(RECIPE, alpha=0.1), n_pictures=5, n_views=4) == (
        crop,
        4,
    )
    none, n_views = describe_views(
        dataclasses.replace(RECIPE, augmentation="none"), n_pictures=5, n_views=4
    )
    assert (none != crop, n_views) == (True, 1)


def test_views_of_randaugment_are_those_of_one_torchvision_on_the_cpu(data, monkeypatch):
    recipe = dataclasses.replace(RECIPE, augmentation="randaugment", magnitude=3)
    policies = []
    for version in ("0.99.1+cu999", "0.99.1+cpu", "0.99.2"):
        monkeypatch.setattr(federated_module.torchvision, "__version__", version)
        policies.append(describe_views(recipe, n_pictures=5, n_views=4)[0])
    assert policies[0] == policies[1] != policies[2]
    crops = {describe_views(RECIPE, n_pictures=5, n_views=4)[0]}
    monkeypatch.setattr(federated_module.torchvision, "__version__", "0.99.3")
    assert {describe_views(RECIPE, n_pictures=5, n_views=4)[0]} == crops
    genuine, asked = torch.Tensor.cpu, []
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: asked.append(self.dtype) or genuine(self))
    images, indices = data.val_images[:9], torch.arange(9)
    for is_exact in (False, True):
        viewer = build_viewer(recipe, n_pictures=9, is_exact=is_exact)
        views = viewer(images, indices, view=1)
        assert (torch.uint8 in asked) == is_exact
    assert torch.equal(views, build_viewer(recipe, n_pictures=9)(images, indices, view=1))


def test_public_views_are_exact_where_they_are_learnt_and_where_they_are_answered(
    data, monkeypatch
):
    seen = []

    def build_and_note(recipe, *, n_pictures, is_exact=False, **options):
        seen.append((n_pictures, is_exact))
        return build_viewer(recipe, n_pictures=n_pictures, is_exact=is_exact, **options)

    monkeypatch.setattr(federated_module, "build_viewer", build_and_note)
    student, public = build(data), data.unlabelled_images
    train(student, data, plan=dataclasses.replace(PLAN, epochs=1))
    answer_public(student, RECIPE, public, n_views=N_VIEWS, device=CPU)
    assert seen == [(len(data.train_images), False), (N_PUBLIC, True), (N_PUBLIC, True)]
