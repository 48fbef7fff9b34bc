"""Pictures prepared as transformers' own processors do, whatever their size and mode."""

import json
import pathlib

import numpy as np
import pytest
import transformers
from PIL import Image

from mmkd_jax.data import images, picture_probe, with_transformers
from mmkd_jax.data.other_pictures import OtherPictures
from mmkd_jax.data.processor_file import FILE
from mmkd_jax.errors import UserError
from mmkd_jax.pretrained import convnextv2, mobilenet, swin

FIGURES = sorted((pathlib.Path(__file__).parents[2] / "docs" / "figures").rglob("*.png"))[:3]
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
CROP = {"do_center_crop": True, "crop_size": {"height": 24, "width": 24}}
SETTINGS = {
    "ViTImageProcessorPil": {},
    "DeiTImageProcessorPil": {"size": {"height": 40, "width": 36}, "crop_size": {"height": 32, "width": 32}},
    "BitImageProcessorPil": {"size": {"shortest_edge": 37}, "crop_size": {"height": 33, "width": 30}},
    "CLIPImageProcessorPil": {"size": {"shortest_edge": 20}, "crop_size": {"height": 24, "width": 24}, **HALF},
    "ConvNextImageProcessorPil": {"size": {"shortest_edge": 28}},
    "ConvNextImageProcessorPil, warped": {"size": {"shortest_edge": 384}},
    "SiglipImageProcessorPil": {"size": {"height": 50, "width": 30}, "resample": 3},
    "ViTImageProcessorPil, longest edge": {"size": {"shortest_edge": 28, "longest_edge": 45}, **CROP},
    "ViTImageProcessorPil, one mean": {"image_mean": 0.4, "image_std": 0.3},
    "CLIPImageProcessorPil, longest edge": {"size": {"shortest_edge": 30, "longest_edge": 33}},
    "CLIPImageProcessorPil, longest edge of no effect": {"size": {"shortest_edge": 30, "longest_edge": 333}},
    "ConvNextImageProcessorPil, longest edge": {"size": {"shortest_edge": 28, "longest_edge": 30}},
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
    given = [p if theirs.do_convert_rgb else p.convert("RGB") for p in pictures()]
    expected = theirs(given, return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(found.transpose(0, 3, 1, 2), expected, atol=1e-5)
    settings, on_white = (tmp_path / FILE).read_text(), bool(theirs.do_convert_rgb)
    other = OtherPictures(type(theirs).__name__, settings, "", None, 400, on_white=on_white)(pictures())["image"]
    np.testing.assert_array_equal(other.transpose(0, 3, 1, 2), expected)


OTHERS = """Beit Blip Chameleon ChineseCLIP DPT DeepseekVL Donut EfficientNet Flava GLPN Janus Levit Llava MobileNetV1
MobileViT Nougat OwlViT Owlv2 PPChart2Table Perceiver PoolFormer PromptDepthAnything Pvt RTDetr SegGpt Segformer
SuperPoint Swin2SR TextNet"""


@pytest.mark.parametrize("kind", OTHERS.split())
def test_pixels_of_classes_that_only_transformers_has(kind, tmp_path, monkeypatch):
    """Without the child process, which tests/readers/test_other_pictures.py has."""
    monkeypatch.setattr(with_transformers, "ask", lambda script, data, *_: picture_probe.reply(data))
    theirs = getattr(transformers, f"{kind}ImageProcessorPil")()
    theirs.save_pretrained(tmp_path)
    ours = images.read(tmp_path, {})
    mean, std = (np.array(x, np.float32) for x in (ours.mean, ours.std))
    draw = np.random.default_rng(0)
    for size in ((70, 91, 3), (110, 66, 3)):
        picture = Image.fromarray(draw.integers(0, 256, size, dtype=np.uint8))
        found = (ours([picture])["image"] - mean) / std
        expected = theirs([picture], return_tensors="np")["pixel_values"]
        np.testing.assert_allclose(found.transpose(0, 3, 1, 2), expected, atol=1e-6)


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


@pytest.mark.parametrize("kind", ["CLIP", "Siglip", "Bit", "ViT"])
@pytest.mark.parametrize("fields", [{}, {"do_convert_rgb": True}, {"do_convert_rgb": None}], ids=["", "on", "off"])
def test_transparent_pictures(kind, fields, tmp_path):
    """Pillow images and arrays are composited by processors that convert to RGB; files are not."""
    theirs = getattr(transformers, f"{kind}ImageProcessorPil")(size={"height": 16, "width": 16}, **fields)
    theirs.save_pretrained(tmp_path)
    (tmp_path / FILE).write_text(json.dumps(json.loads((tmp_path / FILE).read_text()) | fields))
    ours, draw = images.read(tmp_path, {}), np.random.default_rng(1)
    x = draw.integers(0, 256, (300, 40, 4), dtype=np.uint8)
    palette = Image.fromarray(x[..., 0]).convert("P")
    palette.info["transparency"] = 7
    transparent = [Image.fromarray(x), Image.fromarray(x[..., ::3]).convert("LA"), palette, x]
    Image.fromarray(x).save(tmp_path / "file.png")
    converts = bool(theirs.do_convert_rgb)
    assert converts == bool(fields.get("do_convert_rgb", kind != "ViT"))
    for picture in [*(transparent if converts else ()), str(tmp_path / "file.png")]:
        found = ours([picture])["image"].astype(np.float32)
        found = (found / 255 - np.array(ours.mean, np.float32)) / np.array(ours.std, np.float32)
        expected = theirs([picture], return_tensors="np")["pixel_values"]
        np.testing.assert_allclose(found.transpose(0, 3, 1, 2), expected, atol=1e-5)
    if not converts:  # transformers raises an error
        np.testing.assert_array_equal(ours([Image.fromarray(x)])["image"], ours([x[..., :3]])["image"])


@pytest.mark.parametrize("fields", [{"image_mean": [0.4], "image_std": [0.3]}, {"image_mean": 0.4, "image_std": 0.3}])
def test_gray_pictures_for_models_of_one_channel(fields, tmp_path):
    theirs = transformers.ViTImageProcessorPil(size={"shortest_edge": 20}, **CROP, **fields)
    theirs.save_pretrained(tmp_path)
    ours, gray = images.read(tmp_path, {}, channels=1), [p.convert("L") for p in pictures()]
    found = ours(gray)["image"]
    assert found.shape[-1] == 1
    found = (found.astype(np.float32) / 255 - np.float32(ours.mean[0])) / np.float32(ours.std[0])
    expected = theirs(gray, return_tensors="np")["pixel_values"]
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
