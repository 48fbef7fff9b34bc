"""Pictures prepared as transformers' own processors do, whatever their size and mode."""

import json
import pathlib

import numpy as np
import pytest
import transformers
from PIL import Image

from mmkd_jax.data import images
from mmkd_jax.data.processor_file import FILE
from mmkd_jax.errors import UserError
from mmkd_jax.pretrained import convnextv2, mobilenet, swin

FIGURES = sorted((pathlib.Path(__file__).parents[2] / "docs" / "figures").rglob("*.png"))[:3]
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
SETTINGS = {
    "ViTImageProcessorPil": {},
    "DeiTImageProcessorPil": {"size": {"height": 40, "width": 36}, "crop_size": {"height": 32, "width": 32}},
    "BitImageProcessorPil": {"size": {"shortest_edge": 37}, "crop_size": {"height": 33, "width": 30}},
    "CLIPImageProcessorPil": {"size": {"shortest_edge": 20}, "crop_size": {"height": 24, "width": 24}, **HALF},
    "ConvNextImageProcessorPil": {"size": {"shortest_edge": 28}},
    "ConvNextImageProcessorPil, warped": {"size": {"shortest_edge": 384}},
    "SiglipImageProcessorPil": {"size": {"height": 50, "width": 30}, "resample": 3},
}


def pictures():
    draw = np.random.default_rng(0)
    drawn = [
        Image.fromarray(draw.integers(0, 256, size, dtype=np.uint8)) for size in ((30, 51, 3), (90, 41, 4), (60, 60))
    ]
    return [Image.open(f) for f in FIGURES] + drawn


@pytest.mark.parametrize("kind", SETTINGS)
def test_pixels_are_those_of_transformers(kind, tmp_path):
    theirs = getattr(transformers, kind.partition(",")[0])(**SETTINGS[kind])
    theirs.save_pretrained(tmp_path)
    ours = images.read(tmp_path, {})
    found = ours(pictures())["image"].astype(np.float32)
    found = (found / 255 - np.array(ours.mean, np.float32)) / np.array(ours.std, np.float32)
    expected = theirs([p.convert("RGB") for p in pictures()], return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(found.transpose(0, 3, 1, 2), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "default"), [("CLIPImageProcessorPil", 224), ("ViTImageProcessorPil", (224, 224))], ids=["clip", "vit"]
)
def test_old_files_say_one_number_for_the_shorter_side_or_for_both(kind, default, tmp_path):
    (tmp_path / FILE).write_text(
        json.dumps({"size": 20, "resample": 2, "do_center_crop": False, "do_normalize": False})
    )
    theirs = getattr(transformers, kind).from_pretrained(tmp_path)
    ours = images.read(tmp_path, {"size": default})(pictures()[3:4])["image"]
    expected = theirs(pictures()[3:4], return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(ours.transpose(0, 3, 1, 2) / 255, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "family", "processor"),
    [
        ("convnextv2", convnextv2, "ConvNextImageProcessorPil"),
        ("swin", swin, "ViTImageProcessorPil"),
        ("mobilenet_v2", mobilenet, "MobileNetV2ImageProcessorPil"),
    ],
)
def test_without_a_file_the_processor_is_the_default_of_transformers(kind, family, processor, tmp_path):
    ours, theirs = family.processor(tmp_path, {"model_type": kind}), getattr(transformers, processor)()
    found = ours(pictures()[3:4])["image"].astype(np.float32)
    found = (found / 255 - np.array(ours.mean, np.float32)) / np.array(ours.std, np.float32)
    expected = theirs([p.convert("RGB") for p in pictures()[3:4]], return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(found.transpose(0, 3, 1, 2), expected, atol=1e-5)


def test_what_is_no_picture_is_named(tmp_path):
    read = images.Pictures(size=None)
    with pytest.raises(UserError, match=r"image 1: float64 of shape \[4, 4, 3\]; expected uint8 \[h, w, 3\]"):
        read([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3))])
    with pytest.raises(UserError, match=r"image 0: uint8 of shape \[4, 4, 2\]"):
        read([np.zeros((4, 4, 2), np.uint8)])
    with pytest.raises(UserError, match="images have different sizes"):
        read([np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8)])
    (tmp_path / FILE).write_text(json.dumps({"do_rescale": False}))
    with pytest.raises(UserError, match="do_rescale=false is not supported"):
        images.read(tmp_path, {})
