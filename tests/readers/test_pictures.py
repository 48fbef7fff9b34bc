"""Image files of every format and variant: the value range is kept, or the file is refused in one line."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from mmkd_jax.data.images import Pictures
from mmkd_jax.data.picture_file import FORMATS, rgb
from mmkd_jax.data.picture_structure import scans
from mmkd_jax.errors import UserError
from tests.readers.pictures import CASES, COLORS, RGB, encoded, read, turned


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_an_image_file(case, tmp_path):
    path = tmp_path / "a file"
    case.make(path)
    if isinstance(case.expected, str):
        with pytest.raises(UserError, match=case.expected) as error:
            read(path, **(case.options or {}))
        message = str(error.value)
        assert message.startswith("image 0") and "\n" not in message and ("pixels" in message or str(path) in message)
    else:
        np.testing.assert_array_equal(read(path, **(case.options or {})), case.expected)


def test_every_format_has_cases():
    named = {c.format.upper() for c in CASES}
    assert set(FORMATS) == named - {"OTHER"}
    assert {c.format.upper() for c in CASES if c.variant == "cut off"} == set(FORMATS)


@pytest.mark.parametrize("format", FORMATS)
def test_no_image_is_read_in_part(format, tmp_path):
    """A file is cut off at any of 40 places: refused, or all pixels are there."""
    data, path = encoded(RGB, format), tmp_path / "cut"
    path.write_bytes(data)
    whole = read(path)
    for cut in np.linspace(0, len(data) - 1, 40).astype(int):
        path.write_bytes(data[:cut])
        try:
            found = read(path)
        except UserError:
            continue
        np.testing.assert_array_equal(found, whole)


def test_images_in_memory_are_turned_as_well():
    image = Image.open(io.BytesIO(encoded(Image.fromarray(COLORS[::-1, ::-1].copy()), "PNG", exif=turned(3))))
    np.testing.assert_array_equal(Pictures(size=None)([image])["image"][0], COLORS)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"]
)
def test_every_mode_of_pillow(mode):
    """Within rounding of the conversion there and back."""
    image = RGB.convert("RGBA").convert(mode) if mode in ("La", "RGBa") else _converted(mode)
    found, expected = (
        np.asarray(rgb(image, "x")),
        np.asarray(RGB if mode not in ("1", "L", "LA", "La") else RGB.convert("L").convert("RGB")),
    )
    if mode not in ("1", "P", "PA", "LAB"):
        assert np.abs(found.astype(int) - expected).max() <= 12
    assert found.shape == COLORS.shape


def _converted(mode):
    if mode == "LAB":
        from PIL import ImageCms

        to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        return ImageCms.applyTransform(RGB, to_lab)
    return RGB.convert("P").convert("PA") if mode == "PA" else RGB.convert(mode)


def test_no_pipe_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "pipe", "is not a regular file"),
        (tmp_path, "is a folder"),
        (tmp_path / "x", "no file"),
    ):
        with pytest.raises(UserError, match=message):
            read(path)


def test_an_image_that_is_only_wide_when_resized():
    wide = np.zeros((2, 1_000, 3), np.uint8)
    with pytest.raises(UserError, match=r"1000 × 2 pixels, resized to 112000 × 224, need more than 60,000 pixels"):
        Pictures(size=224, max_pixels=60_000)([wide])
    with pytest.raises(UserError, match=r"need more than 60,000 pixels"):  # Pillow resizes the rows of all lines first
        Pictures(size=(100, 100), max_pixels=60_000)([wide.reshape(1_000, 2, 3)])


def test_scans_of_a_jpeg():
    """A thumbnail in EXIF, and the further images of MPO, are no scans."""
    exif = turned(1)
    exif[0x927C] = encoded(RGB, "JPEG")  # as cameras write in their notes
    assert scans(encoded(RGB, "JPEG", exif=exif)) == 1 and encoded(RGB, "JPEG", exif=exif).count(b"\xff\xda") == 2
    assert scans(encoded(RGB, "MPO", save_all=True, append_images=[RGB])) == 1
    assert scans(encoded(RGB, "JPEG", progressive=True)) > 1


def test_transparent_images_in_memory_are_composited_onto_white():
    """Files are not, as in transformers; tests/parity compares all kinds of images."""
    x = np.zeros((300, 2, 4), np.uint8)
    x[:, 0] = (10, 20, 30, 255)
    x[:, 1] = (10, 20, 30, 128)
    dropped, white = Pictures(size=None), Pictures(size=None, on_white=True)
    for given in (x, Image.fromarray(x)):
        assert dropped([given])["image"][0, 299].tolist() == [[10, 20, 30]] * 2
        assert white([given])["image"][0, 299].tolist() == [[10, 20, 30], [132, 137, 142]]
    for given in (x[..., :3], Image.fromarray(x[..., 0])):
        np.testing.assert_array_equal(white([given])["image"], dropped([given])["image"])


def test_images_for_models_of_one_channel():
    read_gray = Pictures(size=None, mean=(0.5,), std=(0.5,))
    x = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for given in (x, x[..., None], np.repeat(x[..., None], 3, -1), Image.fromarray(x)):
        np.testing.assert_array_equal(read_gray([given])["image"], x[None, ..., None])
    assert read_gray([])["image"].shape == (0, 1, 1, 1)
    with pytest.raises(UserError, match="image 0 has colors, but this model reads gray images: convert it"):
        read_gray([COLORS])
    with pytest.raises(UserError, match="mean=.0.5, 0.5.; expected three finite numbers"):
        Pictures(mean=(0.5, 0.5), std=(0.5, 0.5))
    with pytest.raises(UserError, match="longest=9, size=.8, 8.; expected two numbers, or None"):
        Pictures(size=(8, 8), longest=9)


@pytest.mark.parametrize(
    ("shape", "expected"), [((30, 60), (10, 21)), ((30, 40), (16, 21)), ((100, 10), (21, 2)), ((16, 16), (16, 16))]
)
def test_a_longer_side_with_a_maximum(shape, expected):
    found = Pictures(size=16, longest=21)([np.zeros(shape, np.uint8)])["image"]
    assert found.shape[1:3] == expected
