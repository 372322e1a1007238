"""Teachers in files and in the user's Python, and what `--teacher` may say."""

import sys
import warnings

import pytest
import torch

from autokd.errors import TeacherError

from .test_teacher import assert_exports

VIEWS = torch.rand(5, 3, 12, 12)


def export_onnx(network, path, *, shape=(3, 12, 12), axes=(0,)):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates this exporter
        torch.onnx.export(
            network,
            (torch.rand(2, *shape),),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            dynamic_axes={"x": {axis: f"d{axis}" for axis in axes}},
        )


def save_script(network, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript
        torch.jit.script(network).save(path)


def save_program(network, path, *, batch=None):
    dynamic = ({0: batch},) if batch is not None else None
    program = torch.export.export(network, (torch.rand(2, 3, 12, 12),), dynamic_shapes=dynamic)
    torch.export.save(program, path)


def ask(network, views=VIEWS):
    with torch.no_grad():
        return network(views)


@pytest.mark.parametrize("axes", [(0,), (), (0, 1, 2, 3)])
def test_an_onnx_file_is_a_teacher_of_any_batch(load, net, tmp_path, axes):
    network, path = net(), tmp_path / "t.onnx"
    export_onnx(network, path, axes=axes)
    teacher = load(f"file:{path}")
    torch.testing.assert_close(teacher(VIEWS), ask(network), atol=1e-5, rtol=1e-4)
    assert teacher.onnx_file == path
    assert teacher.n_params is None
    assert not teacher.is_exportable
    with pytest.raises(TeacherError, match="must be made of PyTorch modules"):
        teacher.build_exportable()


def test_an_onnx_file_says_its_size_and_channels(load, net, tmp_path):
    path = tmp_path / "t.onnx"
    export_onnx(net(channels=1), path, shape=(1, 20, 16))
    assert load(f"file:{path}").preprocessing.shape == (1, 20, 16)


def test_an_onnx_file_that_takes_no_picture_is_refused(load, tmp_path):
    path = tmp_path / "t.onnx"
    export_onnx(torch.nn.Linear(3, 4), path, shape=(3,))
    with pytest.raises(TeacherError, match="must take one float input"):
        load(f"file:{path}")


@pytest.mark.parametrize("suffix", [".pt", ".ts", ".pth", ".torchscript"])
def test_torchscript_is_a_teacher(load, net, tmp_path, suffix):
    network, path = net(), tmp_path / f"t{suffix}"
    save_script(network, path)
    teacher = load(f"file:{path}")
    torch.testing.assert_close(teacher(VIEWS), ask(network))
    assert not any(value.requires_grad for value in teacher.parameters())
    assert_exports(teacher, tmp_path / "t.onnx")


def test_torchscript_in_half_precision_is_a_teacher(load, net, tmp_path):
    network, path = net(), tmp_path / "t.pt"
    save_script(network.half(), path)
    torch.testing.assert_close(load(f"file:{path}")(VIEWS), ask(network.float()))


@pytest.mark.parametrize("form", ["python", "onnx"])
def test_a_teacher_that_ends_in_a_softmax_speaks_in_logits(load, module, tmp_path, form):
    code = f"def build():\n    torch.manual_seed(3)\n    return {LINEAR.format(3, 4)}"
    logits = load(module(code))
    sys.modules.pop("my_teacher")
    name = module(f"{code}.append(nn.Softmax(1))")
    if form == "onnx":
        path = tmp_path / "t.onnx"
        export_onnx(torch.nn.Sequential(logits.network, torch.nn.Softmax(1)), path)
        name = f"file:{path}"
    teacher = load(name)
    assert teacher.gives_probabilities
    assert not logits.gives_probabilities
    torch.testing.assert_close(teacher(VIEWS), logits(VIEWS).log_softmax(1))
    if form == "python":
        assert_exports(teacher, tmp_path / "own.onnx")
        with pytest.raises(TeacherError, match="must give logits to be trained, got probabilities"):
            load(name, teacher_finetune=True)


def test_a_softmax_that_is_sure_beyond_its_numbers_stays_finite(load, module):
    code = f"def build():\n    return {LINEAR.format(3, 4)}.append(nn.Softmax(1))"
    teacher = load(module(code))
    with torch.no_grad():
        teacher.network[2].bias[0] = 1000.0
    assert torch.isfinite(teacher(VIEWS)).all()


def test_a_frozen_script_does_not_tell_its_parameters(load, net, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.freeze(torch.jit.script(net().eval())).save(tmp_path / "teacher.pt")
    teacher = load(f"file:{tmp_path / 'teacher.pt'}")
    assert teacher(VIEWS).shape == (5, 4)
    assert teacher.n_params is None


def test_torchscript_of_colour_is_a_teacher_of_grey_pictures(load, net, card, tmp_path):
    network, path = net(), tmp_path / "t.pt"
    save_script(network, path)
    teacher = load(f"file:{path}", card((1, 8, 8)), teacher_image_size=12, teacher_mean=(0.1,))
    assert teacher.preprocessing.shape == (3, 12, 12)
    assert teacher.preprocessing.mean == (0.1, 0.1, 0.1)


@pytest.mark.parametrize(
    "batch", [None, torch.export.Dim("b", min=1), torch.export.Dim("b", min=2, max=3)]
)
def test_an_exported_program_is_a_teacher_of_any_batch(load, net, tmp_path, batch):
    network, path = net(), tmp_path / "t.pt2"
    save_program(network, path, batch=batch)
    teacher = load(f"file:{path}").train()
    torch.testing.assert_close(teacher(VIEWS), ask(network), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(teacher(VIEWS[:1]), ask(network, VIEWS[:1]), atol=1e-5, rtol=1e-4)
    assert teacher.n_params == sum(value.numel() for value in network.parameters())
    assert not any(value.requires_grad for value in teacher.parameters())
    assert not teacher.is_exportable


def test_a_program_in_half_precision_is_a_teacher(load, net, tmp_path):
    network, path = net(), tmp_path / "t.pt2"
    program = torch.export.export(network.bfloat16(), (torch.rand(2, 3, 12, 12).bfloat16(),))
    torch.export.save(program, path)
    logits = load(f"file:{path}")(VIEWS)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, ask(network.float()), atol=0.03, rtol=0.03)


def test_an_exported_program_in_train_mode_is_refused(load, net, tmp_path):
    path = tmp_path / "t.pt2"
    save_program(net().train(), path)
    with pytest.raises(TeacherError, match="must be exported in eval mode"):
        load(f"file:{path}")


def test_the_digest_of_a_file_is_that_of_its_content(load, net, tmp_path):
    first, same, other = (tmp_path / f"{name}.onnx" for name in "abc")
    export_onnx(net(), first)
    same.write_bytes(first.read_bytes())
    export_onnx(net(), other)
    digests = [load(f"file:{path}").digest for path in (first, same, other)]
    assert digests[0] == digests[1] != digests[2]
    assert load(f"file:{first}", teacher_mean=(0.5,)).digest != digests[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("t.onnx", "must be a readable ONNX file"),
        ("t.pt2", "must be a readable exported program"),
        ("t.pt", "must be a readable TorchScript file"),
        ("t.h5", "must be a file in .onnx, .pt2"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(load, tmp_path, name, message):
    path = tmp_path / name
    with pytest.raises(TeacherError, match="there is none"):
        load(f"file:{path}")
    path.write_bytes(b"junk")
    with pytest.raises(TeacherError, match=message) as caught:
        load(f"file:{path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["t.pt", "t.pt2"])
def test_a_state_dict_is_no_network(load, net, tmp_path, name):
    torch.save(net().state_dict(), tmp_path / name)
    with pytest.raises(TeacherError, match="must be a readable"):
        load(f"file:{tmp_path / name}")


def test_a_file_cannot_be_given_a_new_head(load, net, tmp_path):
    path = tmp_path / "t.pt"
    save_script(net(n_classes=9), path)
    with pytest.raises(TeacherError, match="predicts 9 classes, the data has 4; give it a head"):
        load(f"file:{path}")
    with pytest.raises(TeacherError, match="must have modules to train"):
        load(f"file:{path}", teacher_finetune=True)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes the user's module into the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    head = "import torch\nfrom torch import nn\n"

    def write(code):
        (tmp_path / "my_teacher.py").write_text(head + code)
        return "python:my_teacher:build"

    yield write
    sys.modules.pop("my_teacher", None)


LINEAR = "nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear({}, {}))"


def test_a_function_of_the_user_gives_a_teacher(load, fit, module):
    teacher = load(module(f"def build():\n    return {LINEAR.format(3, 4)}"))
    assert teacher(VIEWS).shape == (5, 4)
    assert teacher.preprocessing.shape == (3, 12, 12)
    assert not fit.plans


def test_the_users_network_may_be_in_half_precision(load, module):
    teacher = load(module(f"def build():\n    return {LINEAR.format(3, 4)}.half()"))
    assert teacher(VIEWS).dtype == torch.float32


def test_the_users_network_with_other_layers_is_another_teacher(load, module):
    digests = []
    for layer in ("ReLU", "Hardswish"):  # of one length, Python might take the file for read
        code = f"torch.manual_seed(0); return nn.Sequential(nn.{layer}(), *{LINEAR.format(3, 4)})"
        digests.append(load(module(f"def build():\n    {code}")).digest)
        sys.modules.pop("my_teacher")
    assert digests[0] != digests[1]


def test_the_users_network_says_its_preprocessing(load, module):
    teacher = load(
        module(
            f"def build():\n    m = {LINEAR.format(1, 4)}\n"
            "    m.pretrained_cfg = {'input_size': (1, 9, 7), 'mean': (.3,), 'std': (.4,)}\n"
            "    return m"
        )
    )
    assert teacher.preprocessing.shape == (1, 9, 7)
    assert (teacher.preprocessing.mean, teacher.preprocessing.std) == ((0.3,), (0.4,))


def test_a_network_of_timm_that_the_user_builds_keeps_its_channels(load, card, module):
    name = module(
        "import timm\n"
        "def build():\n    return timm.create_model('test_resnet', num_classes=4, in_chans=1)"
    )
    teacher = load(name, card((1, 12, 12)))
    assert teacher.preprocessing.shape == (1, 160, 160)
    assert (teacher.preprocessing.mean, teacher.preprocessing.std) == ((0.5,), (0.5,))
    assert teacher(torch.rand(2, 1, 12, 12)).shape == (2, 4)


def test_the_users_network_gets_a_new_head(load, fit, module):
    name = module(f"def build():\n    return {LINEAR.format(3, 9)}.requires_grad_(False)")
    assert load(name, teacher_finetune=True)(VIEWS).shape == (5, 4)
    assert len(fit.plans) == 1


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def build():\n    return 3", "must return a torch.nn.Module, got int"),
        ("def build():\n    raise ValueError('no\\nluck')", "got ValueError: no from python:my"),
        ("import nowhere_to_be_found", "ModuleNotFoundError"),
        ("def other():\n    return 3", "AttributeError"),
        ("def build():\n    return nn.Linear(5, 4)", "must take pictures of"),
        ("def build():\n    return nn.Identity()", r"must give logits of \[2, classes\]"),
        (
            "def build():\n    m = nn.Flatten()\n    m.pretrained_cfg = "
            "{'input_size': (3, 9, 9), 'mean': (.3,)}\n    return m",
            "`pretrained_cfg` must have a mean and a std per channel",
        ),
    ],
)
def test_a_function_that_gives_no_teacher_is_refused(load, module, code, message):
    with pytest.raises(TeacherError, match=message) as caught:
        load(module(code))
    assert "\n" not in str(caught.value)


def test_a_network_without_a_head_gets_no_new_one(load, module):
    name = module("def build():\n    return nn.Flatten()")
    with pytest.raises(TeacherError, match="must end in a linear layer or a 1x1 convolution"):
        load(name, teacher_finetune=True)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("tim:resnet18", r"must be auto, timm:NAME.*got 'tim:resnet18'; did you mean timm\?"),
        ("resnet18", "must be auto, timm:NAME, torchvision:NAME, file:PATH or python"),
        ("timm:", "must be auto, timm:NAME"),
        ("auto:large", "must be auto, timm:NAME"),
        ("python:module", "must be python:module:function"),
    ],
)
def test_another_form_of_teacher_is_refused(load, teacher, message):
    with pytest.raises(TeacherError, match=message):
        load(teacher)


def test_weights_that_would_not_be_used_are_refused(load, tmp_path):
    with pytest.raises(TeacherError, match="`--teacher-weights` must go with timm:NAME"):
        load("auto", teacher_weights=tmp_path / "w.pt")
    with pytest.raises(TeacherError, match="`--teacher-pretrained` must go with timm:NAME"):
        load("file:t.onnx", teacher_pretrained=True)
