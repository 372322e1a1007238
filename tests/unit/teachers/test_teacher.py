import copy
import warnings

import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from autokd.config import Config
from autokd.errors import TeacherError
from autokd.teachers import Preprocessing, Source, Teacher
from autokd.teachers.onnx_teacher import load_onnx
from autokd.teachers.preprocessing import (
    PreparedViews,
    override_preprocessing,
    plain_preprocessing,
)
from autokd.teachers.teacher import digest_network, digest_weights

MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)


def make_teacher(network, *, shape=(3, 12, 12), view_shape=(3, 12, 12), mean=MEAN, std=STD):
    own = Preprocessing(shape=shape, mean=mean, std=std)
    return Teacher(Source(network=network, preprocessing=own), name="t", view_shape=view_shape)


def normalise(views):
    return (views - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


@pytest.mark.parametrize("size", [(12, 12), (30, 20), (7, 5), (12, 9)])
def test_views_are_resized_like_an_antialiased_interpolation_and_normalised(size):
    prepare = PreparedViews(
        Preprocessing(shape=(3, *size), mean=MEAN, std=STD), view_shape=(3, 12, 12)
    )
    views = torch.rand(2, 3, 12, 12)
    by_hand = F.interpolate(views, size=size, mode="bilinear", antialias=True)
    torch.testing.assert_close(prepare(views), normalise(by_hand), atol=1e-5, rtol=1e-5)


def test_grey_is_repeated_for_a_teacher_of_colour():
    prepare = PreparedViews(
        Preprocessing(shape=(3, 8, 8), mean=MEAN, std=STD), view_shape=(1, 8, 8)
    )
    views = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(prepare(views), normalise(views.repeat(1, 3, 1, 1)))


def test_colour_is_averaged_for_a_teacher_of_grey():
    prepare = PreparedViews(plain_preprocessing((1, 8, 8)), view_shape=(3, 8, 8))
    views = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(prepare(views), views.mean(1, keepdim=True))


def test_other_channels_are_refused():
    with pytest.raises(TeacherError, match="must take 4 or 1 channels"):
        PreparedViews(plain_preprocessing((3, 8, 8)), view_shape=(4, 8, 8))


def test_a_teacher_gives_what_its_network_gives(net):
    network = net()
    views = torch.rand(2, 3, 12, 12)
    with torch.no_grad():
        expected = network(normalise(views))
    torch.testing.assert_close(make_teacher(network)(views), expected)


def test_a_teacher_has_no_gradients_and_stays_in_eval_mode(net):
    network = net().train()
    teacher = make_teacher(network)
    assert teacher.train() is teacher
    torch.nn.Sequential(teacher).train()
    assert not any(module.training for module in teacher.modules())
    assert not any(value.requires_grad for value in teacher.parameters())
    views = torch.rand(2, 3, 12, 12, requires_grad=True)
    assert not teacher(views).requires_grad
    assert torch.equal(teacher(views), teacher(views))


def test_a_teacher_counts_its_parameters(net):
    assert make_teacher(net()).n_params == 3 * 5 * 9 + 5 + 10 + 5 * 4 + 4


def test_the_digest_follows_weights_and_preprocessing_and_nothing_else(net):
    network = net()
    first = make_teacher(network).digest
    assert make_teacher(network).digest == first
    assert len(first) == 64
    assert make_teacher(network, mean=(0.0, 0.2, 0.3)).digest != first
    assert make_teacher(network, shape=(3, 9, 9)).digest != first
    network.norm.running_mean[0] += 1
    assert make_teacher(network).digest != first


@pytest.mark.parametrize(("shape", "view"), [((3, 12, 12), (3, 12, 12)), ((3, 20, 20), (1, 8, 8))])
def test_a_teacher_goes_to_onnx_with_any_batch(net, tmp_path, shape, view):
    teacher = make_teacher(net(), shape=shape, view_shape=view)
    assert teacher.is_exportable
    assert teacher.build_exportable() is teacher
    assert_exports(teacher, tmp_path / "t.onnx")


def assert_exports(teacher, path):
    shape = teacher.view_shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates this exporter
        torch.onnx.export(
            teacher.build_exportable(),
            (torch.zeros(2, *shape),),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "b"}, "y": {0: "b"}},
        )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for n in (1, 5):
        views = torch.rand(n, *shape)
        found = torch.from_numpy(session.run(None, {"x": views.numpy()})[0])
        torch.testing.assert_close(found, teacher(views), atol=1e-5, rtol=1e-4)


def test_half_precision_around_a_teacher_leaves_its_pixels_alone():
    prepare = PreparedViews(plain_preprocessing((3, 20, 20)), view_shape=(3, 12, 12))
    views = torch.rand(2, 3, 12, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = prepare(views)
    assert torch.equal(found, prepare(views))


def test_the_user_overrides_the_preprocessing():
    config = Config(teacher_image_size=9, teacher_mean=(0.5,), teacher_std=(1.0, 2.0, 3.0))
    own = override_preprocessing(plain_preprocessing((3, 8, 8)), config=config)
    assert own == Preprocessing(shape=(3, 9, 9), mean=(0.5, 0.5, 0.5), std=(1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher_mean": (0.1, 0.2)}, "`--teacher-mean` must have one value per channel"),
        ({"teacher_std": (0.0,)}, "`--teacher-std` must be positive"),
        ({"teacher_mean": ()}, "`--teacher-mean` must have one value per channel"),
    ],
)
def test_a_preprocessing_that_does_not_fit_is_refused(options, message):
    with pytest.raises(TeacherError, match=message):
        override_preprocessing(plain_preprocessing((3, 8, 8)), config=Config(**options))


def test_layers_without_weights_make_another_network():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    torch.manual_seed(0)
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU())
    assert digest_weights(plain) == digest_weights(other)
    assert digest_network(plain) != digest_network(other)
    assert digest_network(plain) == digest_network(copy.deepcopy(plain))


def test_an_address_is_no_part_of_a_network():
    class Odd(nn.Module):
        def extra_repr(self):
            return repr(object())

    assert digest_network(Odd()) == digest_network(Odd())


def test_weights_beside_an_onnx_file_are_part_of_its_digest(net, tmp_path):
    found = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(net(), (torch.zeros(1, 3, 12, 12),), folder / "t.onnx", dynamo=False)
        onnx.save(
            onnx.load(folder / "t.onnx"), folder / "t.onnx", save_as_external_data=True,
            location="t.onnx.data", size_threshold=0,
        )  # fmt: skip
        source = load_onnx(folder / "t.onnx", shape=(3, 12, 12))
        found.add(Teacher(source, name="t", view_shape=(3, 12, 12)).digest)
    assert (tmp_path / "0/t.onnx").read_bytes() == (tmp_path / "1/t.onnx").read_bytes()
    assert len(found) == 2
