import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from mmkd_jax.augment import images
from mmkd_jax.augment.operations import operations
from mmkd_jax.errors import UserError

KEYS = jax.random.split(jax.random.key(3), 400)
RAMP = np.arange(1, 17, dtype=np.uint8).reshape(4, 4, 1)


def over(step, row, n=400):
    """A step on many copies of a row, each with its own key; as one program, which compiles in less time."""
    return np.asarray(jax.jit(step)({step.modality: np.broadcast_to(row, (n, *row.shape))}, KEYS[:n])[step.modality])


def test_crop_gives_every_shift_about_equally_often(strict):
    seen = over(images.RandomCrop(1), RAMP)
    padded = np.pad(RAMP, ((1, 1), (1, 1), (0, 0)))
    shifts = [padded[i : i + 4, j : j + 4] for i in range(3) for j in range(3)]
    counts = [(seen == s).all((1, 2, 3)).sum() for s in shifts]
    assert sum(counts) == 400 and min(counts) > 20 and seen.dtype == np.uint8
    filled = over(images.RandomCrop(1, fill=9), RAMP)
    np.testing.assert_array_equal(filled, np.where(seen == 0, 9, seen))


@pytest.mark.parametrize("mode", ["reflect", "edge"])
def test_crop_modes(mode, strict):
    assert set(np.unique(over(images.RandomCrop(2, mode=mode), RAMP))) == set(range(1, 17))


def test_flip_and_its_rate(strict):
    seen = over(images.RandomFlip(0.25), RAMP)
    turned = (seen == RAMP[:, ::-1]).all((1, 2, 3))
    assert ((seen == RAMP).all((1, 2, 3)) ^ turned).all()
    assert turned.mean() == pytest.approx(0.25, abs=0.08)


def test_cutout_blanks_one_square(strict):
    seen = over(images.Cutout(3, fill=0), np.ones((9, 9, 1), np.float32))
    areas = (seen == 0).sum((1, 2, 3))
    assert set(areas) == {4, 6, 9} and seen.dtype == np.float32  # at a corner, at an edge, inside
    assert (areas == 9).mean() == pytest.approx(49 / 81, abs=0.08)


def test_colour_by_hand(strict):
    """Brightness at one strength only: the factor of each row from its white pixel, then all other pixels."""
    row = np.array([[[255, 100, 0]]], np.uint8)
    seen = over(images.ColorJitter(brightness=0.5), row)
    factor = seen[:, 0, 0, 1] * 255 / 100
    assert factor.min() < 0.55 and factor.max() > 1.45
    np.testing.assert_allclose(seen[:, 0, 0, 0], np.minimum(factor, 1), atol=2e-3)
    assert (seen[:, 0, 0, 2] == 0).all()


def test_contrast_keeps_the_mean_and_saturation_the_grey(strict):
    draw = np.random.default_rng(0)
    row = draw.integers(100, 156, (8, 8, 3)).astype(np.uint8)
    weights = np.array([0.299, 0.587, 0.114])
    grayscale = (row / 255) @ weights
    np.testing.assert_allclose(
        (over(images.ColorJitter(contrast=0.9), row) @ weights).mean((1, 2)), grayscale.mean(), atol=2e-3
    )
    np.testing.assert_allclose(
        over(images.ColorJitter(saturation=0.9), row) @ weights, np.stack([grayscale] * 400), atol=2e-3
    )


def test_hue_as_in_hsv(strict):
    import colorsys

    row = np.random.default_rng(0).integers(0, 256, (1, 6, 3)).astype(np.uint8)
    hsv = [colorsys.rgb_to_hsv(*p) for p in row[0] / 255]
    for picture in over(images.ColorJitter(hue=0.2), row, 5):
        now = [colorsys.rgb_to_hsv(*map(float, p)) for p in picture[0]]
        turns = [(a[0] - b[0] + 0.5) % 1 - 0.5 for a, b in zip(now, hsv, strict=True)]
        assert np.ptp(turns) < 2e-3 and abs(turns[0]) <= 0.201
        np.testing.assert_allclose([p[1:] for p in now], [p[1:] for p in hsv], atol=2e-3)


def test_grey_pictures_have_no_hue(strict):
    seen = over(images.ColorJitter(saturation=0.5, hue=0.5), RAMP, 3)
    np.testing.assert_allclose(seen, np.stack([RAMP / 255] * 3), atol=1e-6)


@pytest.mark.parametrize(
    "step", [images.RandomCrop(0), images.RandomFlip(0.0), images.Cutout(0), images.RandAugment(0, 9)], ids=repr
)
def test_no_strength_changes_nothing(step, strict):
    np.testing.assert_array_equal(over(step, RAMP, 5), np.stack([RAMP] * 5))


def test_colour_without_strength_gives_floats(strict):
    np.testing.assert_allclose(over(images.ColorJitter(), RAMP, 2), np.stack([RAMP / 255] * 2), rtol=1e-6)


@pytest.mark.slow
def test_one_draw_for_all_frames(strict):
    row = np.random.default_rng(0).integers(0, 256, (10, 10, 3)).astype(np.uint8)
    video = np.stack([row] * 4)
    for step in (
        images.RandomCrop(3),
        images.RandomFlip(),
        images.Cutout(4),
        images.ColorJitter(0.5, 0.5, 0.5, 0.2),
        images.RandAugment(),
    ):
        moving = dataclasses.replace(step, modality="video")
        frames = over(moving, video, 12)
        assert (frames == frames[:, :1]).all()
        np.testing.assert_array_equal(frames[:, 0], over(step, row, 12))


PICTURES = {
    "noise": np.random.default_rng(0).integers(0, 256, (37, 41, 3)).astype(np.uint8),
    "ramp": (np.add.outer(np.arange(37) * 3, np.arange(41) * 2)[..., None] + np.array([10, 30, 50])).astype(np.uint8),
    "flat": np.full((8, 9, 3), 77, np.uint8),
}


def pillow(name, picture, sign, m, f):
    """What Pillow makes of a picture."""
    p, (w, h), fill = Image.fromarray(picture), picture.shape[1::-1], (128, 128, 128)

    def affine(*matrix):
        return p.transform(p.size, Image.Transform.AFFINE, matrix, fillcolor=fill)

    return {
        "identity": lambda: p,
        "autocontrast": lambda: ImageOps.autocontrast(p),
        "equalize": lambda: ImageOps.equalize(p),
        "rotate": lambda: p.rotate(sign * 30 * m, fillcolor=fill),
        "solarize": lambda: ImageOps.solarize(p, round(256 * (1 - m))),
        "color": lambda: ImageEnhance.Color(p).enhance(f),
        "posterize": lambda: ImageOps.posterize(p, 8 - round(4 * m)),
        "contrast": lambda: ImageEnhance.Contrast(p).enhance(f),
        "brightness": lambda: ImageEnhance.Brightness(p).enhance(f),
        "sharpness": lambda: ImageEnhance.Sharpness(p).enhance(f),
        "shear x": lambda: affine(1, sign * 0.3 * m, 0, 0, 1, 0),
        "shear y": lambda: affine(1, 0, 0, sign * 0.3 * m, 1, 0),
        "translate x": lambda: affine(1, 0, sign * round(0.45 * m * w), 0, 1, 0),
        "translate y": lambda: affine(1, 0, 0, 0, 1, sign * round(0.45 * m * h)),
    }[name]()


@pytest.mark.parametrize("name", operations(0, 0))
def test_operations_are_pillows(name, strict):
    """To one gray level: Pillow cuts decimals off where we round. Geometry is exact."""
    for magnitude in (3, 9):
        operation = jax.jit(operations(magnitude, 128)[name])
        for sign in (1, -1):
            for picture in PICTURES.values():
                m = magnitude / 10
                reference = np.asarray(pillow(name, picture, sign, m, 1 + sign * round(0.9 * m * 256) / 256))
                seen = operation(np.int32(picture), np.int32(sign))
                apart = np.abs(np.asarray(seen) - reference.astype(int))
                exact = name.split()[0] in ("rotate", "shear", "translate", "posterize", "solarize", "equalize")
                # where a coordinate lies on the border of two pixels, Pillow's rounding of it decides
                assert np.mean(apart > (0 if exact else 1)) <= (2e-3 if exact else 0), (magnitude, sign)


def test_operations_at_magnitude_0_change_nothing(strict):
    picture = np.int32(PICTURES["noise"])
    for name, operation in operations(0, 0).items():
        if name not in ("autocontrast", "equalize"):
            np.testing.assert_array_equal(jax.jit(operation)(picture, np.int32(1)), picture, err_msg=name)


def test_randaugment_draws_every_operation(strict):
    """The row's result is that of one operation, and each comes up."""
    picture = PICTURES["noise"][:18, :16]
    seen = over(images.RandAugment(1, 9), picture, 300)
    results = {
        (name, sign): np.asarray(f(np.int32(picture), np.int32(sign)))
        for name, f in ((name, jax.jit(f)) for name, f in operations(9, 128).items())
        for sign in (1, -1)
    }
    found: list[Any] = [next((n for n, r in results.items() if (s == r).all()), None) for s in seen]
    assert None not in found and {n for n, _ in found} == set(operations(9, 128))
    assert {s for n, s in found if n == "rotate"} == {1, -1}


def test_a_loop_over_rows_and_all_rows_at_once_are_the_same(strict):
    step = images.RandAugment(3, 7)
    x = jnp.asarray(np.stack([PICTURES["noise"][:9, :8]] * 20), jnp.int32)
    np.testing.assert_array_equal(jax.jit(step._in_a_loop)(KEYS[:20], x), jax.jit(jax.vmap(step._one))(KEYS[:20], x))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: images.RandomCrop(-1), "padding must be an integer of at least 0, not -1"),
        (lambda: images.RandomFlip(1.5), "rate must be between 0 and 1, not 1.5"),
        (lambda: images.Cutout(-2), "size"),
        (lambda: images.ColorJitter(hue=0.6), "hue must be between 0 and 0.5, not 0.6"),
        (lambda: images.ColorJitter(brightness=-1), "brightness"),
        (lambda: images.RandAugment(2, 30), "divide by 3"),
        (lambda: over(images.ColorJitter(0.1), np.zeros((2, 2, 4), np.uint8), 1), "4 channels"),
        (lambda: images.RandomFlip()({"audio": jnp.ones((1, 2))}, KEYS[:1]), "needs 'image'.*audio"),
    ],
)
def test_errors(make, said):
    with pytest.raises(UserError, match=said):
        make()
