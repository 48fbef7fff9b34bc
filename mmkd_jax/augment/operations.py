"""RandAugment operations on one image, int32 [h, w, c] in 0 … 255, as defined by Pillow.

All operations use integer arithmetic. Blends are rounded, where Pillow truncates.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Int

Picture = Int[Array, "h w c"]
Sign = Int[Array, ""] | int


def operations(magnitude: int | float, fill: int) -> dict[str, Callable[[Picture, Sign], Picture]]:
    """Return the operations at a magnitude: name -> `(picture, sign) -> picture`.

    At magnitude 0, all operations but autocontrast and equalize are the identity.

    Args:
        magnitude: 0 … 10; 10 is the end of AutoAugment's ranges.
        fill: value of pixels outside the image in geometric operations.
    """
    m = magnitude / 10
    return {
        "identity": lambda x, sign: x,
        "autocontrast": lambda x, sign: autocontrast(x),
        "equalize": lambda x, sign: equalize(x),
        "rotate": lambda x, sign: rotate(x, sign, 30 * m, fill),
        "solarize": lambda x, sign: solarize(x, round(256 * (1 - m))),
        "color": lambda x, sign: color(x, _factor(m, sign)),
        "posterize": lambda x, sign: posterize(x, 8 - round(4 * m)),
        "contrast": lambda x, sign: contrast(x, _factor(m, sign)),
        "brightness": lambda x, sign: brightness(x, _factor(m, sign)),
        "sharpness": lambda x, sign: sharpness(x, _factor(m, sign)),
        "shear x": lambda x, sign: shear(x, sign, 0.3 * m, fill, across=True),
        "shear y": lambda x, sign: shear(x, sign, 0.3 * m, fill, across=False),
        "translate x": lambda x, sign: translate(x, sign, round(0.45 * m * x.shape[1]), fill, across=True),
        "translate y": lambda x, sign: translate(x, sign, round(0.45 * m * x.shape[0]), fill, across=False),
    }


def _factor(m, sign):
    """1 ± 0.9 m, in units of 1 / 256."""
    return 256 + sign * round(0.9 * m * 256)


def _blend(base, x, factor):
    return jnp.clip(base + (((x - base) * factor + 128) >> 8), 0, 255)


def grayscale(x: Picture) -> Int[Array, "h w 1"]:
    """ITU-R 601 luma, or the channel itself for one channel."""
    if x.shape[-1] == 1:
        return x
    return (x[..., 0:1] * 19595 + x[..., 1:2] * 38470 + x[..., 2:3] * 7471 + (1 << 15)) >> 16


def autocontrast(x: Picture) -> Picture:
    """Stretch each channel to 0 … 255."""
    low, high = x.min((0, 1), keepdims=True), x.max((0, 1), keepdims=True)
    return jnp.where(high > low, (x - low) * 255 // jnp.maximum(high - low, 1), x)


def equalize(x: Picture) -> Picture:
    """Equalize the histogram of each channel."""
    channel = jnp.broadcast_to(jnp.arange(x.shape[-1]), x.shape)
    counts = jnp.zeros((256, x.shape[-1]), jnp.int32).at[x, channel].add(1)
    # Pillow excludes the count of the brightest level
    step = (counts.sum(0) - jnp.take_along_axis(counts, x.max((0, 1))[None], 0)[0]) // 255
    below = jnp.cumsum(counts, 0) - counts
    table = jnp.clip((below + (step // 2)[None]) // jnp.maximum(step, 1)[None], 0, 255)
    return jnp.where((step > 0)[None, None], table[x, channel], x)


def solarize(x: Picture, threshold: int) -> Picture:
    """Invert levels at or above the threshold."""
    return jnp.where(x < threshold, x, 255 - x)


def posterize(x: Picture, bits: int) -> Picture:
    """Keep only the highest bits."""
    return x & (256 - (1 << (8 - bits)))


def color(x: Picture, factor: Sign) -> Picture:
    """Change saturation by a factor, in units of 1 / 256."""
    return _blend(jnp.broadcast_to(grayscale(x), x.shape), x, factor)


def contrast(x: Picture, factor: Sign) -> Picture:
    """Change contrast about the mean gray level by a factor, in units of 1 / 256."""
    g = grayscale(x)
    return _blend((2 * g.sum() + g.size) // (2 * g.size), x, factor)


def brightness(x: Picture, factor: Sign) -> Picture:
    """Change brightness by a factor, in units of 1 / 256."""
    return _blend(0, x, factor)


def sharpness(x: Picture, factor: Sign) -> Picture:
    """Change sharpness relative to the smoothed image by a factor, in units of 1 / 256."""
    h, w, _ = x.shape
    if h < 3 or w < 3:
        return x
    around = sum(x[i : h - 2 + i, j : w - 2 + j] for i in range(3) for j in range(3)) + 4 * x[1:-1, 1:-1]
    return _blend(x.at[1:-1, 1:-1].set((2 * around + 13) // 26), x, factor)


def rotate(x: Picture, sign: Sign, degrees: int | float, fill: int) -> Picture:
    """Rotate about the center."""
    h, w, _ = x.shape
    a, b = math.cos(math.radians(degrees)), -math.sin(math.radians(degrees))
    x0, y0 = w / 2, h / 2
    # only b changes sign with the angle
    across, down = (a, b, x0 - a * x0, -b * y0), (-b, a, y0 - a * y0, b * x0)
    return _affine(x, sign, across, down, (False, True), (True, False), fill)


def shear(x: Picture, sign: Sign, slope: int | float, fill: int, across: bool) -> Picture:
    """Shear rows (`across`) or columns."""
    return _affine(
        x,
        sign,
        (1, slope if across else 0, 0, 0),
        (0 if across else slope, 1, 0, 0),
        (False, True),
        (True, False),
        fill,
    )


def translate(x: Picture, sign: Sign, pixels: int, fill: int, across: bool) -> Picture:
    """Translate by whole pixels, horizontally (`across`) or vertically."""
    moved = (1, 0, 0, pixels if across else 0), (0, 1, 0, 0 if across else pixels)
    return _affine(x, sign, *moved, (False, False), (False, False), fill)


def _affine(x, sign, across, down, odd_across, odd_down, fill):
    """Affine transform with nearest-neighbor sampling at (across · (x, y, 1), down · (x, y, 1)), in 16.16 fixed point.

    The last of each four coefficients is the part of the offset that changes sign with `sign`; `odd_*` mark the factors
    that do.
    """
    h, w, _ = x.shape

    def part(coefficients, odd):
        at_x, at_y, even, other = coefficients
        fx, fy = (_fixed(c) * (sign if o else 1) for c, o in zip((at_x, at_y), odd, strict=True))
        start = _fixed(even + sum(c / 2 for c, o in zip((at_x, at_y), odd, strict=True) if not o))
        turning = _fixed(other + sum(c / 2 for c, o in zip((at_x, at_y), odd, strict=True) if o))
        i, j = jnp.arange(w)[None], jnp.arange(h)[:, None]
        return (i * fx + j * fy + start + sign * turning) >> 16

    column, row = part(across, odd_across), part(down, odd_down)
    inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
    return jnp.where(inside[..., None], x[jnp.clip(row, 0, h - 1), jnp.clip(column, 0, w - 1)], fill)


def _fixed(value):
    return math.floor(value * 65536 + 0.5)
