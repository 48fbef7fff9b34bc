"""Image processors of classes that only transformers has: its pixels, or a refusal before the first image."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from mmkd_jax import child_process, data
from mmkd_jax.data import images
from mmkd_jax.data.other_pictures import OtherPictures
from mmkd_jax.data.processor_file import FILE
from mmkd_jax.errors import UserError

LEVIT = {
    "image_processor_type": "LevitImageProcessor",
    "size": {"shortest_edge": 28},
    "crop_size": {"height": 28, "width": 20},
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
}


def write(folder, fields):
    (folder / FILE).write_text(json.dumps(fields))
    return folder


def drawn(*size):
    return np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)


@pytest.fixture(scope="module")
def levit(tmp_path_factory):
    """A processor of LeViT, which crops from a picture resized to 8/7 of `shortest_edge`."""
    return images.read(write(tmp_path_factory.mktemp("levit"), LEVIT), {})


def test_pixels_are_those_of_transformers(levit):
    """All classes are compared in tests/parity."""
    import transformers

    theirs = transformers.LevitImageProcessorPil.from_dict(LEVIT)
    pictures = [drawn(50, 41, 3), Image.fromarray(drawn(33, 90, 3))]
    found = levit(pictures)["image"]
    assert found.shape == (2, 28, 20, 3) and found.dtype == np.float32
    assert levit.kind == "LevitImageProcessorPil" and (levit.side, levit.shape) == (32, (28, 20))
    assert levit.mean == (0.5, 0.4, 0.3) and levit.std == (0.2, 0.3, 0.4)
    found = (found - np.float32(levit.mean)) / np.float32(levit.std)
    expected = theirs([Image.fromarray(np.asarray(p)) for p in pictures], return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(found.transpose(0, 3, 1, 2), np.asarray(expected), atol=2e-6)
    black_and_white = levit([np.full((40, 40, 3), x, np.uint8) for x in (0, 255)])["image"]
    np.testing.assert_allclose(black_and_white.mean((1, 2, 3)), [0, 1], atol=1e-6)


def test_columns_of_a_data_set(levit, tmp_path):
    """Rows are read from files, and the settings and the version are in the fingerprint."""
    Image.fromarray(drawn(50, 41, 3)).save(tmp_path / "0.png")
    rows = data.from_columns({"path": np.array([str(tmp_path / "0.png")])}, "photos")
    made = data.process(rows, levit, "path")
    np.testing.assert_array_equal(made.columns["image"], levit([drawn(50, 41, 3)])["image"])
    assert made.spec["image"].shape == (28, 20, 3) and made.spec["image"].dtype == np.float32
    said = str(made.fingerprint)
    assert "LevitImageProcessorPil" in said and '"shortest_edge": 28' in said and levit.version in said
    assert pickle.loads(pickle.dumps(levit)) == levit and levit.files == {FILE: json.dumps(LEVIT).encode()}
    clips = data.Videos(levit, 2)([drawn(3, 30, 40, 3)])["video"]
    assert clips.dtype == np.float32 and clips.shape == (1, 2, 28, 20, 3)
    assert data.Videos(levit)([])["video"].dtype == np.float32


def test_pictures_that_would_need_more_memory(levit):
    """transformers has no limit of its own."""
    with pytest.raises(UserError, match=r"image 0: 9000 × 2 pixels may need 81,000,000 in LevitImageProcessorPil; .*"):
        levit([np.zeros((2, 9000, 3), np.uint8)])
    small = dataclasses.replace(levit, max_pixels=32 * 32 * 3)
    assert small([drawn(10, 30, 3)])["image"].shape == (1, 28, 20, 3)
    for size in ((10, 31, 3), (56, 55, 3)):
        with pytest.raises(UserError, match=r"expected at most 3,072 \(max_pixels\): crop or scale it"):
            small([drawn(*size)])
    with pytest.raises(UserError, match="image 7: float64 of shape"):
        levit([np.zeros((4, 4, 3))], rows=[7])
    with pytest.raises(UserError, match="expected a sequence of images, got a single one"):
        levit(drawn(9, 9, 3))


def test_sizes_that_depend_on_the_picture():
    free = OtherPictures("GLPNImageProcessorPil", '{"size_divisor": 8}', "5", None, 64, 1.0)
    assert free([drawn(17, 35, 3)])["image"].shape == (1, 16, 32, 3)
    with pytest.raises(UserError, match="images have different sizes, .*: GLPNImageProcessorPil depends on their"):
        free([drawn(17, 35, 3), drawn(35, 17, 3)])
    with pytest.raises(UserError, match="rows of a data set have one shape: set size and crop_size"):
        free.row_spec({})
    with pytest.raises(UserError, match=r"returns shape \[16, 32, 3\]; expected \(8, 8\) and 3 channels"):
        dataclasses.replace(free, shape=(8, 8))([drawn(17, 35, 3)])
    with pytest.raises(UserError, match="image 0: GLPNImageProcessorPil cannot process it"):
        free([drawn(3, 3, 3)])  # nothing is left


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"image_processor_type": "Mine", "auto_map": {"AutoImageProcessor": "mine.Mine"}}, "auto_map of image proces"),
        ({"image_processor_type": "OneFormerImageProcessor", "class_info_file": "/etc/passwd"}, "class_info_file of"),
        ({"image_processor_type": "os.system"}, "image processor 'os.system' is no name of a class"),
        ({"image_processor_type": ["ViT"]}, r"image_processor_type is \['ViT'\]; expected the name of a class"),
    ],
)
def test_code_and_files_of_an_author(fields, said, tmp_path):
    """They are refused without transformers."""
    with pytest.raises(UserError, match=said) as error:
        images.read(write(tmp_path, fields), {}, limits=child_process.Limits(loading=0.0))
    assert str(error.value).startswith(str(tmp_path / FILE)) and "\n" not in str(error.value)


HOSTILE = {
    "not in transformers": ({"image_processor_type": "MineImageProcessor"}, "'Mine' cannot be .* does not have it"),
    "for PyTorch only": ({"image_processor_type": "DINOv3ViTImageProcessorFast"}, "it needs PyTorch there"),
    "PyTorch inside": ({"image_processor_type": "EomtImageProcessor"}, "requires PyTorch"),
    "patches": ({"image_processor_type": "Siglip2ImageProcessor"}, "it returns pixel_attention_mask, spatial_shapes"),
    "frames": ({"image_processor_type": "TvpImageProcessor"}, r"of shape \[1, 1, 3, 448, 448\]"),
    "a size of 10⁹": (LEVIT | {"size": 10**9}, "needs more than 2 GiB"),
    "a crop of 10⁹": (LEVIT | {"crop_size": 10**9}, "needs more than 2 GiB"),
    "a size that is text": (LEVIT | {"size": "big"}, "cannot be used with transformers .ValueError"),
    "a negative size": (LEVIT | {"size": -3}, "cannot be used with transformers .ValueError"),
    "a mean that is text": (LEVIT | {"image_mean": "half"}, "cannot be used with transformers"),
    "a standard deviation of 0": (LEVIT | {"image_std": [1, 0, 1]}, "expected finite"),
    "another filter": (LEVIT | {"resample": 99}, "cannot be used with transformers"),
    "a tiny crop_pct": (
        {"image_processor_type": "PoolFormerImageProcessor", "crop_pct": 1e-7, "size": 32},
        "needs more than 2 GiB",
    ),
    "a method": (LEVIT | {"preprocess": "x"}, "TypeError: 'str' object is not callable"),
}


@pytest.mark.full
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_settings(name, tmp_path):
    """They are refused in one line by the child process."""
    fields, said = HOSTILE[name]
    write(tmp_path, fields)
    with pytest.raises(UserError, match=said) as error:
        images.read(tmp_path, {})
    assert str(error.value).startswith(str(tmp_path / FILE)) and "\n" not in str(error.value)
    assert len(str(error.value)) < 500
