import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps

from autokd.data.pictures import as_picture, choose_shape, fit_picture, is_grey, upright_size
from autokd.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)


def test_fitting_to_its_own_size_changes_nothing():
    fitted = fit_picture(Image.fromarray(PIXELS), (3, 6, 5))
    assert (fitted == PIXELS.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (9, 100), (16, 16)])
def test_a_plain_picture_stays_plain_at_any_size(size):
    fitted = fit_picture(Image.new("RGB", size, (10, 20, 30)), (3, 16, 16))
    assert (fitted == np.array([10, 20, 30])[:, None, None]).all()


def test_the_centre_is_cut_out():
    image = Image.new("L", (48, 16), 0)
    image.paste(255, (16, 0, 32, 16))
    assert (fit_picture(image, (1, 16, 16)) == 255).all()


def test_shrinking_is_antialiased():
    lines = np.zeros((64, 64), dtype=np.uint8)
    lines[::2] = 255
    fitted = fit_picture(Image.fromarray(lines), (1, 16, 16))[0, 1:-1]
    assert abs(fitted.astype(int) - 128).max() < 20


def test_transparent_parts_become_white():
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert (fit_picture(clear, (3, 4, 4)) == 255).all()
    assert (fit_picture(clear.convert("LA"), (1, 4, 4)) == 255).all()


@pytest.mark.parametrize(("mode", "key"), [("RGB", (200, 0, 0)), ("L", 9)])
def test_a_colour_that_stands_for_nothing_becomes_white(tmp_path, mode, key):
    Image.new(mode, (4, 4), key).save(tmp_path / "clear.png", transparency=key)
    with Image.open(tmp_path / "clear.png") as clear:
        assert (fit_picture(clear, (3 if mode == "RGB" else 1, 4, 4)) == 255).all()


def test_sixteen_bits_are_scaled_not_clipped():
    deep = Image.fromarray(np.array([[0, 256, 32768, 65535]], dtype=np.uint16))
    assert is_grey(deep.mode)
    assert fit_picture(deep, (1, 1, 4)).tolist() == [[[0, 1, 128, 255]]]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_seen_upright_however_its_camera_was_held(tmp_path, orientation, suffix):
    light = np.zeros((32, 16), dtype=np.uint8)
    light[:16] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"held.{suffix}"
    Image.fromarray(light).save(path, exif=exif)
    with Image.open(path) as image:
        upright = np.array(ImageOps.exif_transpose(image.convert("L")))
        size = upright_size(image)
        fitted = fit_picture(image, (1, *upright.shape))[0]
    assert size == upright.shape[::-1]
    np.testing.assert_allclose(fitted, upright, atol=1)
    with Image.open(path) as image:
        given = as_picture(image, name="picture")
    assert given.shape[:2] == upright.shape
    assert (upright[0, 0] == 255) == (orientation in (1, 2, 5, 8)), (
        "row 0 is the top or the left side"
    )


@pytest.mark.parametrize("value", [0, 9, 99, "up", (1, 2)])
def test_an_orientation_that_is_none_turns_nothing(value):
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    image.getexif()[ExifTags.Base.Orientation] = value
    assert upright_size(image) == (4, 3)
    np.testing.assert_array_equal(fit_picture(image, (1, 3, 4))[0], np.array(image))


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr", "HSV", "RGBA"])
def test_colour_of_any_mode_becomes_rgb(mode):
    assert not is_grey(mode)
    assert fit_picture(Image.new("RGB", (4, 4)).convert(mode), (3, 4, 4)).shape == (3, 4, 4)


@pytest.mark.parametrize(
    ("sizes", "image_size", "expected"),
    [
        ([(12, 10)] * 3, None, (10, 12)),
        ([(12, 10)] * 3, 20, (20, 20)),
        ([(12, 10), (40, 30), (90, 80)], None, (24, 24)),
        ([(3, 3), (4, 4)], None, (8, 8)),
        ([(4000, 3000), (3000, 4000)], None, (224, 224)),
        ([(512, 300)] * 3, None, (300, 512)),
        ([(4000, 3000)] * 3, None, (224, 224)),
        ([(4000, 30)] * 3, None, (24, 24)),
    ],
)
def test_the_shape_follows_the_sizes(sizes, image_size, expected):
    shape = choose_shape(sizes, is_colour=False, image_size=image_size)
    assert shape == (1, *expected)


@pytest.mark.parametrize("scale", [1, 255])
def test_grey_light_in_floats_is_scaled_to_whole_pixels(scale):
    light = np.array([[0.0, 0.5], [1.0, np.nan]], dtype=np.float32) * scale
    pixels = fit_picture(Image.fromarray(light), (1, 2, 2))
    assert pixels.tolist() == [[[0, 128], [255, 0]]]


CHW = PIXELS.transpose(2, 0, 1)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(PIXELS),
        PIXELS,
        CHW,
        torch.from_numpy(PIXELS),
        torch.from_numpy(CHW.copy()),
        torch.from_numpy(CHW.copy()).float() / 255,
        CHW / 255,
    ],
)
def test_a_picture_of_any_kind_gives_the_same_pixels(image):
    assert (as_picture(image, name="x") == PIXELS).all()


def test_two_dimensions_are_grey():
    assert as_picture(PIXELS[:, :, 0], name="x").shape == (6, 5, 1)
    assert as_picture(Image.new("I;16", (5, 6)), name="x").shape == (6, 5, 1)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("cat.png", "must be a Pillow image, an array or a tensor, got str"),
        (np.zeros((2, 2), dtype=np.int32), "must be uint8 or a float"),
        (np.zeros((4, 4, 4), dtype=np.uint8), "with 1 or 3 channels"),
        (np.zeros(4, dtype=np.uint8), "must be HW, HWC or CHW"),
        (np.zeros((0, 4), dtype=np.uint8), "must be HW, HWC or CHW"),
        (torch.full((3, 2, 2), 1.5), r"must lie in \[0, 1\], got 1.5 to 1.5"),
        (torch.full((3, 2, 2), -0.5), r"must lie in \[0, 1\]"),
        (torch.full((3, 2, 2), torch.nan), r"must lie in \[0, 1\]"),
    ],
)
def test_anything_else_is_refused(image, message):
    with pytest.raises(DataError, match=message):
        as_picture(image, name="x")
