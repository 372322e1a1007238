"""The programs beside exported students prepare a picture as the data set was prepared."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from PIL import ExifTags, Image, ImageOps

from autokd.data.pictures import fit_picture
from autokd.exporters import export_onnx, tower_files
from autokd.exporters.runner import write_runner

MODES = [
    "RGBA",
    "RGB",
    "RGB on its side",
    "RGB with a key",
    "L",
    "L with a key",
    "I;16",
    "P",
    "1",
    "F",
    "F up to 1",
]


def save_picture(path, mode, size):
    """Noise in a mode; a colour key stands for nothing in some."""
    name, *has_key = mode.removesuffix(" up to 1").split(" with ")
    noise = torch.randint(0, 256, (size[1], size[0], 4), generator=torch.Generator().manual_seed(2))
    picture = Image.fromarray(noise.to(torch.uint8).numpy(), "RGBA")
    deep = Image.fromarray(noise.numpy()[..., 0].astype(np.uint16) * 200)
    exif = Image.Exif()
    if mode.endswith("on its side"):
        name, exif[ExifTags.Base.Orientation] = "RGB", 6
    picture = deep if name == "I;16" else picture.convert(name)
    if mode == "F up to 1":
        picture = Image.fromarray(np.asarray(picture) / np.float32(255))
    keyed = {"transparency": picture.getpixel((0, 0))} if has_key else {}
    picture.save(path, exif=exif, **keyed)


def look(program, path, channels):
    """The pixels that a program makes of a picture, as CHW in [0, 1], batch first where it is."""
    lines = program[program.index("try:") : program.index("pixels = ")]
    line = program[program.index("pixels = ") :].split("\n", 1)[0]
    names = {"channels": channels, "height": 8, "width": 8, "side": 8, "np": np, "Image": Image}
    names |= {"ImageOps": ImageOps, "sys": SimpleNamespace(argv=["", path])}
    exec(lines + line, names)
    return names["pixels"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(20, 30), (8, 8)])
def test_the_programs_fit_pictures_as_the_data_set_was(tmp_path, mode, size):
    path = tmp_path / ("picture.tiff" if mode[0] == "F" else "picture.png")
    save_picture(path, mode, size)
    write_runner(tmp_path)
    with Image.open(path) as again:
        grey, colour = (fit_picture(again, (n, 8, 8)).astype(np.float32) / 255 for n in (1, 3))
    seen = look((tmp_path / "run.py").read_text(), path, channels=1)
    np.testing.assert_array_equal(seen.transpose(2, 0, 1), grey)
    (by_tower,) = look(tower_files._PROGRAM, path, channels=3)
    np.testing.assert_array_equal(by_tower, colour)


def test_the_program_without_a_picture_says_how_to_use_it(tmp_path):
    program, needs = write_runner(tmp_path)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "python run.py picture.png" in done.stderr
    assert [line.split("==")[0] for line in needs.read_text().splitlines()] == [
        "onnxruntime", "numpy", "pillow",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["nix.png", "rubbish.png", "."])
def test_what_is_no_picture_is_a_line(tmp_path, name):
    (tmp_path / "rubbish.png").write_text("no picture")
    model = onnx.load(export_onnx(torch.nn.Flatten(), tmp_path / "m.onnx", shape=(1, 8, 8)))
    model.metadata_props.add(key="classes", value="[]")
    onnx.save(model, tmp_path / "model.onnx")
    program, _ = write_runner(tmp_path)
    done = subprocess.run(
        [sys.executable, program, tmp_path / name], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("picture must be a file that Pillow reads, got ")
    assert done.stderr.count("\n") == 1
