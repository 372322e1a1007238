"""Teachers of timm and torchvision, their weights and heads."""

from urllib.error import URLError

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from autokd.errors import TeacherError


@pytest.fixture
def weights(tmp_path):
    """A checkpoint of timm's `test_resnet` for the four classes of the data."""
    network = timm.create_model("test_resnet", num_classes=4)
    path = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.fixture
def squeezenet(tmp_path):
    """A checkpoint of torchvision's `squeezenet1_1` for four classes."""
    path = tmp_path / "squeezenet.pth"
    torch.save(models.get_model("squeezenet1_1", num_classes=4).state_dict(), path)
    return path


def test_a_network_of_timm_takes_its_classes_and_weights_from_the_file(load, fit, weights):
    teacher = load("timm:test_resnet", teacher_weights=weights, teacher_image_size=32)
    reference = timm.create_model("test_resnet", num_classes=4)
    timm.models.load_checkpoint(reference, str(weights))
    views = torch.rand(3, 3, 12, 12)
    with torch.no_grad():
        expected = reference.eval()(teacher.prepare(views))
    torch.testing.assert_close(teacher(views), expected)
    assert teacher.name == "timm:test_resnet"
    assert teacher.preprocessing.shape == (3, 32, 32)
    assert teacher.preprocessing.mean == (0.5, 0.5, 0.5)
    assert not fit.plans


def test_timm_says_the_size_where_the_user_does_not(load, weights):
    assert load("timm:test_resnet", teacher_weights=weights).preprocessing.shape == (3, 160, 160)


def test_a_checkpoint_of_grey_pictures_makes_a_teacher_of_grey_pictures(load, card, tmp_path):
    network = timm.create_model("test_resnet", num_classes=4, in_chans=1)
    save_file(network.state_dict(), tmp_path / "grey.safetensors")
    teacher = load(
        "timm:test_resnet",
        card((1, 12, 12)),
        teacher_weights=tmp_path / "grey.safetensors",
        teacher_image_size=32,
    )
    assert teacher.preprocessing.mean == (0.5,)
    assert teacher(torch.rand(2, 1, 12, 12)).shape == (2, 4)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()}},
        lambda state: {"epoch": 3, "model": {f"module.{key}": v for key, v in state.items()}},
        lambda state: {"model_state_dict": {f"_orig_mod.module.{k}": v for k, v in state.items()}},
        lambda state: {"ema": {"n_averaged": torch.tensor(1), **state}},
    ],
)
def test_checkpoints_are_unwrapped(load, tmp_path, wrap):
    state = timm.create_model("test_resnet", num_classes=4).state_dict()
    torch.save(state, tmp_path / "plain.pt")
    torch.save(wrap(state), tmp_path / "wrapped.pt")
    plain, wrapped = (
        load("timm:test_resnet", teacher_weights=tmp_path / name, teacher_image_size=32)
        for name in ("plain.pt", "wrapped.pt")
    )
    assert plain.digest == wrapped.digest


def test_a_network_of_torchvision_takes_its_classes_from_the_file(load, squeezenet):
    teacher = load("torchvision:squeezenet1_1", teacher_weights=squeezenet, teacher_image_size=40)
    assert teacher(torch.rand(2, 3, 12, 12)).shape == (2, 4)
    assert teacher.preprocessing.mean == (0.485, 0.456, 0.406)
    assert load("torchvision:squeezenet1_1", teacher_weights=squeezenet).preprocessing.shape == (
        3,
        224,
        224,
    )


def test_auxiliary_heads_are_left_out(load, tmp_path):
    network = models.get_model("googlenet", num_classes=4, init_weights=False)
    torch.save(network.state_dict(), tmp_path / "g.pt")
    teacher = load(
        "torchvision:googlenet", teacher_weights=tmp_path / "g.pt", teacher_image_size=32
    )
    assert teacher(torch.rand(1, 3, 12, 12)).shape == (1, 4)


def test_fetched_weights_bring_their_preprocessing(load, monkeypatch):
    def build(name, *, weights, progress):  # noqa: ARG001
        return models.squeezenet1_1(num_classes=4)

    monkeypatch.setattr(models, "get_model", build)
    own = load("torchvision:vit_b_16", teacher_pretrained=True).preprocessing
    assert own.shape == (3, 224, 224)
    assert own.std == (0.229, 0.224, 0.225)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_failed_fetch_says_what_to_do(load, monkeypatch, library):
    def fail(*_args, **_options):
        raise URLError("Name or service not known")

    monkeypatch.setattr(timm, "create_model", fail)
    monkeypatch.setattr(models, "get_model", fail)
    with pytest.raises(TeacherError, match="download them elsewhere") as caught:
        load(f"{library}:resnet18", teacher_pretrained=True)
    assert "\n" not in str(caught.value)


def test_a_tag_that_timm_does_not_have_is_refused(load):
    with pytest.raises(TeacherError, match="Invalid pretrained tag"):
        load("timm:resnet18.nonsense", teacher_finetune=True)


@pytest.mark.parametrize(
    ("teacher", "hint"),
    [
        ("timm:resnet1", "did you mean .*resnet1"),
        ("torchvision:resnet19", "did you mean .*resnet18"),
        ("timm:%%%%", "see timm.list_models"),
        ("torchvision:fasterrcnn_resnet50_fpn", "did you mean|see torchvision"),
    ],
)
def test_an_unknown_network_is_refused_with_its_neighbours(load, teacher, hint):
    with pytest.raises(TeacherError, match=hint):
        load(teacher, teacher_pretrained=True)


@pytest.mark.parametrize("teacher", ["timm:test_resnet", "torchvision:squeezenet1_1"])
def test_an_untrained_teacher_is_refused(load, teacher):
    with pytest.raises(TeacherError, match="an untrained teacher teaches nothing"):
        load(teacher)


def test_a_head_that_does_not_fit_is_refused(load, card, weights):
    message = "`--teacher` predicts 4 classes, the data has 7; pass --teacher-finetune to fit a new"
    with pytest.raises(TeacherError, match=message):
        load(
            "timm:test_resnet",
            card(n_classes=7),
            teacher_weights=weights,
            teacher_image_size=32,
        )


@pytest.mark.parametrize(
    ("teacher", "checkpoint"),
    [("timm:test_resnet", "weights"), ("torchvision:squeezenet1_1", "squeezenet")],
)
def test_finetuning_fits_a_new_head_once(load, fit, card, request, teacher, checkpoint):
    options = {
        "teacher_weights": request.getfixturevalue(checkpoint),
        "teacher_image_size": 40,
        "teacher_finetune": True,
    }
    first, second = (load(teacher, card(n_classes=7), **options) for _ in range(2))
    assert first(torch.rand(2, 3, 12, 12)).shape == (2, 7)
    assert first.digest == second.digest
    assert [plan.learning_rate for plan in fit.plans] == [2e-4]


def test_other_weights_are_finetuned_anew(load, fit, weights):
    options = {
        "teacher_weights": weights,
        "teacher_image_size": 32,
        "teacher_finetune": True,
    }
    load("timm:test_resnet", **options)
    torch.manual_seed(1)
    save_file(timm.create_model("test_resnet", num_classes=4).state_dict(), weights)
    load("timm:test_resnet", **options)
    assert len(fit.plans) == 2


def test_without_weights_finetuning_trains_from_the_first_weight_on(load, fit):
    load("timm:test_resnet", teacher_finetune=True, teacher_image_size=32)
    load("timm:test_resnet", teacher_finetune=True, teacher_image_size=32)
    assert [plan.learning_rate for plan in fit.plans] == [3e-3]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda _: None, "there is none"),
        (lambda path: path.write_bytes(b""), "must be a readable state dict"),
        (lambda path: path.write_bytes(b"junk"), "must be a readable state dict"),
        (lambda path: path.write_bytes(b"many words of junk"), "must be a"),
        (lambda path: torch.save(nn.Linear(2, 2), path), "save model.state_dict"),
        (lambda path: torch.save({"epoch": 3}, path), "must hold a state dict, got none"),
        (lambda path: torch.save([1, 2], path), "must hold a state dict, got none"),
        (
            lambda path: torch.save(nn.Linear(2, 2).state_dict(), path),
            r"\d+ keys \(\S+, \S+, \S+, ...\) missing and 2 keys \(weight, bias\) unexpected",
        ),
    ],
)
@pytest.mark.parametrize("teacher", ["timm:test_resnet", "torchvision:squeezenet1_1"])
def test_weights_that_cannot_be_used_are_refused(load, tmp_path, teacher, write, message):
    path = tmp_path / "weights.pt"
    write(path)
    with pytest.raises(TeacherError, match=message) as caught:
        load(teacher, teacher_weights=path)
    assert "\n" not in str(caught.value)


def test_a_damaged_safetensors_file_is_refused(load, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"junk" * 9)
    with pytest.raises(TeacherError, match="must be a readable state dict"):
        load("timm:test_resnet", teacher_weights=path)


def test_weights_of_another_shape_are_refused(load, tmp_path):
    state = timm.create_model("test_resnet", num_classes=4).state_dict()
    name = next(name for name in state if name.startswith("layer2") and state[name].ndim == 4)
    torch.save({**state, name: torch.zeros(1)}, tmp_path / "weights.pt")
    with pytest.raises(TeacherError, match=rf"1 keys \({name}\) of another shape"):
        load("timm:test_resnet", teacher_weights=tmp_path / "weights.pt")
